"""Names and certificates of environments: what is read, and what is said of what is none."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from instar.definition.load import load, parse
from instar.errors import DefinitionError
from instar.model.codec import canonical
from instar.model.definition import Definition
from instar.model.environment import Settings
from instar.model.host_names import HostNames, Tls

CERTIFICATE = """\
-----BEGIN CERTIFICATE-----
MIIBbzCCARWgAwIBAgIUbTOEI7JA/3lvwpHDBugW+ZXexM4wCgYIKoZIzj0EAwIw
DDEKMAgGA1UEAwwBYTAgFw0yNjExMjkwMzQwNDRaGA8yMTI2MTEwNTAzNDA0NFow
DDEKMAgGA1UEAwwBYTBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABFLmqyO7F0CH
Jg0wTMhi28SgxkXZyNwRMqyNkrdAy3nTcqLgz2ox7WB54y+WoAbD/QTRJ7d/Wqo/
N2IwLGwJeEijUzBRMB0GA1UdDgQWBBQob2LqrThMzpQCglc8ZowoB5EyizAfBgNV
HSMEGDAWgBQob2LqrThMzpQCglc8ZowoB5EyizAPBgNVHRMBAf8EBTADAQH/MAoG
CCqGSM49BAMCA0gAMEUCIFzoX6dlzZi/6JyiFsLv4+V7pqh52lzAbye7NcdYswX4
AiEA34MPW1NWVkEUpmnASKuUbtWv4q8eI5WqCtiT3cDi1hY=
-----END CERTIFICATE-----
"""
HEAD = "name: shop\nimage: {base: debian:bookworm}\nservice: {command: [a], port: 80}\nenvironments:\n"


def read(rest: str, head: str = HEAD) -> Definition:
    return parse(head + rest, "instar.yaml").definition


def problems_of(rest: str, head: str = HEAD) -> list[str]:
    with pytest.raises(DefinitionError) as refused:
        read(rest, head)
    return [f"{one.line}:{one.column}: {one.message}" for one in refused.value.problems]


def test_names_and_addresses_are_written_together_and_kept_apart() -> None:
    found = read("  a: {listen: [':81', {http: a.test, https: [shop.example, '*.s.example/x'], address: '[::1]:9'}]}\n")
    settings = Settings.of(found.environments["a"])
    assert settings.listen == ("0.0.0.0:81", "[::1]:9")
    assert settings.names == HostNames(http=("a.test",), https=("shop.example", "*.s.example/x"))
    assert settings.tls == Tls(kind="acme")


def test_a_name_that_is_sent_on_needs_a_certificate_as_the_one_that_it_is_sent_to() -> None:
    listen = (
        "{https: [shop.example, shop.example/api], http: a.test, redirect: {w.example: shop.example, b.test: a.test}}"
    )
    names = read(f"  a: {{listen: {listen}, tls: {{certificate: a.pem, key: a.key}}}}\n").environments["a"].names
    assert names.secure_hosts == ("shop.example", "w.example")
    assert names.sites == ("a.test", "shop.example", "shop.example/api", "w.example", "b.test")
    assert names.only({"shop.example/api", "b.test"}).sites == ("shop.example/api", "b.test")
    assert replace(names, hsts_ms=1000).only({"c.test"}) == HostNames()


def test_an_environment_without_names_is_written_down_as_before() -> None:
    settings = Settings.of(read("  a: {listen: ':80'}\n").environments["a"])
    assert b"names" not in canonical(settings)
    assert b"tls" not in canonical(settings)


@pytest.mark.parametrize(
    ("site", "expected"),
    [
        ("Shop.example", "write it as 'shop.example'"),
        ("a.test/.well-known/acme-challenge", "the edge answers itself"),
        ("a.test/.well-known/acme-challenge/x", "the edge answers itself"),
        ("a.test/.well-known/instar", "the edge answers itself"),
        ("Shop_1.example", "did you mean 'shop-1.example'?"),
        ("localhost:80", "ports are the machine's business; write 'localhost'"),
        ("https://shop.example", "write it without 'https://'"),
        ("shop.example.", "write it as 'shop.example'"),
        ("shop.example/", "write it as 'shop.example'"),
        ("shop.example//a/", "write it as 'shop.example/a'"),
        ("shop.example/../a", "a path has letters, digits and ._~- in its parts"),
        ("shop.example/a b", "a path has letters, digits and ._~- in its parts"),
        ("löwe.example", "write it as 'xn--lwe-sna.example'"),
        ("straße.example", "write it as 'xn--strae-oqa.example'"),
        ("10.0.0.7", "that is an address"),
        ("'[::1]'", "that is an address"),
        ("'*'", "found '*'"),
        ("'*.example'", "a wildcard stands for the names below one of two parts at least"),
        ("a..example", "found 'a..example'"),
        ("-a.example", "found '-a.example'"),
        ("a.example;x", "found 'a.example;x'"),
        (f"{'a' * 64}.example", "found"),
        ("a.1", "found 'a.1'"),
        (".".join(["a" * 60] * 5), "it is too long"),
        (".".join(["a" * 60] * 4), "which has at most 230 characters"),
    ],
)
def test_what_is_no_name_is_told_what_to_write(site: str, expected: str) -> None:
    [problem] = problems_of(f"  a: {{listen: {{https: [{site}]}}}}\n")
    assert problem.startswith("5:24: environments.a.listen.https: expected a name such as")
    assert expected in problem


@pytest.mark.parametrize(
    ("rest", "expected"),
    [
        ("  a: {listen: [internal, ':80']}\n", "5:7: environments.a.listen: 'internal' stands alone"),
        ("  a: {listen: shop.example}\n", "names are written as {https: [shop.example]}"),
        ("  a: {listen: https://shop.example/x, tls: internal}\n", "names are written as {https: [shop.example]}"),
        ("  a: {listen: [shop.example:443], tls: internal}\n", "and a name as {https: [shop.example]}"),
        ("  a: {listen: {}}\n", "expected names of 'http' or 'https'"),
        ("  a: {listen: {http: ['*.a.test']}}\n", "only a name of 'https' can stand for all below it"),
        ("  a: {listen: {http: a.test, tls: acme}}\n", "where certificates come from is 'tls' of the environment"),
        (
            "  a: {listen: {http: a.test, hsts: 24h}}\n",
            "5:36: environments.a.listen.hsts: it is about names of 'https'",
        ),
        ("  a: {listen: {https: a.test, redirect: {b.test: c.test}}}\n", "'c.test' is none of these names"),
        (
            "  a: {listen: {https: a.test, redirect: {a.test: a.test}}}\n",
            "'a.test' is taken: this one has it in line 5",
        ),
        ("  a: {listen: {http: a.test}, tls: acme}\n", "5:36: environments.a.tls: there are no names of 'https'"),
        ("  a: {listen: {https: a.test}, tls: {key: x}}\n", "'certificate' is missing: both are needed"),
        ("  a: {listen: {https: a.test}, tls: {}}\n", "found an empty one"),
        ("  a: {listen: {https: a.test}, tls: acmee}\n", "did you mean 'acme'?"),
        ("  a: {listen: {http: a.test}}\n  b: {listen: {https: a.test}}\n", "environment 'a' has it in line 5"),
        ("  a: {listen: {http: a.test, https: a.test}}\n", "'a.test' is taken: this one has it in line 5"),
        ("  a: {listen: [':80', {http: a.test, address: ':80'}]}\n", "0.0.0.0:80 is taken"),
    ],
)
def test_what_names_cannot_be(rest: str, expected: str) -> None:
    [problem] = problems_of(rest)
    assert expected in problem


def test_only_services_of_http_have_names() -> None:
    head = HEAD.replace("port: 80", "port: 80, protocol: tcp")
    [problem] = problems_of("  a: {listen: {http: a.test}}\n", head)
    assert "only requests of http can come by name; the service speaks tcp" in problem
    assert read("  a: {listen: ':80'}\n", head).environments["a"].names == HostNames()


def test_the_key_of_a_certificate_is_beside_the_definition() -> None:
    [problem] = problems_of("  a: {listen: {https: a.test}, tls: {certificate: a.pem, key: /etc/ssl/a.key}}\n")
    assert "a definition reads no file of the machine's" in problem
    assert (
        Path("a.key").name
        == read("  a: {listen: {https: a.test}, tls: {certificate: a.pem, key: a.key}}\n")
        .environments["a"]
        .tls.key_file
    )


def written(folder: Path, **files: str) -> Path:
    for name, text in {"instar": f"{HEAD}  a: {{listen: {{https: a.test, client_ca: ca.pem}}}}\n", **files}.items():
        (folder / f"{name}.{'yaml' if name == 'instar' else 'pem'}").write_text(text)
    return folder / "instar.yaml"


def test_the_certificates_of_an_authority_are_kept_with_the_settings(tmp_path: Path) -> None:
    path = written(tmp_path, ca=f"of the shop:\r\n{CERTIFICATE}\n\n")
    assert load(path).definition.environments["a"].names.client_ca == CERTIFICATE


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        (None, "no such file or directory"),
        ("nothing", "it holds something else than certificates (pem)"),
        ("-----BEGIN EC PRIVATE KEY-----\nAAAA\n-----END EC PRIVATE KEY-----\n", "it holds something else"),
        ("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "a certificate in it is damaged"),
        ("x" * 70_000, "it is larger than 65,536 bytes"),
    ],
)
def test_what_is_no_authority_is_told_with_its_place(tmp_path: Path, text: str | None, cause: str) -> None:
    path = written(tmp_path, **({} if text is None else {"ca": text}))
    with pytest.raises(DefinitionError) as refused:
        load(path)
    [problem] = refused.value.problems
    assert (problem.line, problem.message.partition(":")[0]) == (5, "environments.a.listen.client_ca")
    assert cause in problem.message

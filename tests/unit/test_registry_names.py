"""Names of images in registries, and how each registry is reached."""

from __future__ import annotations

import pytest

from instar.errors import FetchError
from instar.model.machine import RegistrySettings
from instar.model.reference import Reference, Repository, is_host, reference, repository, tagged
from instar.registry.authorisation import _read
from instar.registry.transport import Patience, Transport, is_loopback

DIGEST = "sha256:" + "a" * 64


@pytest.mark.parametrize(
    "text",
    [
        "registry.example/shop",
        "registry.example:5000/team/shop-1_x.y",
        "localhost/shop",
        "localhost:5000/a/b/c/d",
        "10.0.0.5:5000/shop",
        "[::1]:5000/shop",
        "Registry.Example/shop",
    ],
)
def test_names_that_are_some(text: str) -> None:
    assert str(repository(text)) == text
    assert reference(f"{text}@{DIGEST}") == Reference(
        repository=repository(text), digest=reference(f"x.y/z@{DIGEST}").digest
    )
    assert tagged(f"{text}:v1.2") == (repository(text), "v1.2")
    assert tagged(text) == (repository(text), None)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "shop",
        "team/shop",
        "https://registry.example/shop",
        "registry.example",
        "registry.example/",
        "registry.example/Shop",
        "registry.example/../shop",
        "registry.example/a//b",
        "registry.example/a/",
        "registry.example:0/shop",
        "registry.example:99999/shop",
        "ann@registry.example/shop",
        "ann:word@registry.example/shop",
        "registry.example/shop?x",
        "registry.example/shop#x",
        "registry.example/a b",
        "registry.example/a\nb",
        "registry.example/" + "a" * 300,
        "[::1/shop",
        "-registry.example/shop",
    ],
)
def test_names_that_are_none(text: str) -> None:
    with pytest.raises(ValueError, match=r"it|host"):
        repository(text)
    with pytest.raises(ValueError, match=r"it|host"):
        reference(f"{text}@{DIGEST}")


def test_dockers_own_registry_has_several_names_and_one_word_is_in_its_library() -> None:
    for text, name in (
        ("docker.io/shop", "docker.io/library/shop"),
        ("index.docker.io/team/shop", "docker.io/team/shop"),
        ("registry-1.docker.io/library/shop", "docker.io/library/shop"),
        ("docker.io.example/shop", "docker.io.example/shop"),
    ):
        assert str(repository(text)) == name
    for text, name in (("shop", "docker.io/library/shop"), ("team/shop", "docker.io/team/shop")):
        with pytest.raises(ValueError, match=f"what Docker alone calls so is '{name}'"):
            reference(f"{text}@{DIGEST}")


def test_dockers_own_registry_is_asked_where_it_answers() -> None:
    mirrored = {"Docker.io": RegistrySettings(mirrors=("mirror.example",), ca="/ca.pem")}
    for settings in ({}, mirrored):
        transport = Transport(settings, Patience(), {})
        assert transport.root("docker.io") == "https://registry-1.docker.io"
        assert transport.settings("docker.io").tokens == "auth.docker.io"
    assert transport.settings("registry-1.docker.io") == transport.settings("docker.io")
    assert (transport.settings("docker.io").ca, transport.settings("docker.io").mirrors) == (
        "/ca.pem",
        ("mirror.example",),
    )


@pytest.mark.parametrize("digest", ["sha256:" + "A" * 64, "sha256:" + "a" * 63, "sha512:" + "a" * 128, "md5:1", ""])
def test_digests_that_are_none(digest: str) -> None:
    with pytest.raises(ValueError, match="digest"):
        reference(f"registry.example/shop@{digest}")


def test_a_tag_names_nothing_to_pull() -> None:
    for text in ("registry.example/shop:v1", "registry.example/shop", f"registry.example/shop:v1@{DIGEST}"):
        with pytest.raises(ValueError, match=r"tag|digest"):
            reference(text)
    with pytest.raises(ValueError, match="tag"):
        tagged("registry.example/shop:-v1")


def test_hosts() -> None:
    assert all(map(is_host, ("a.b", "localhost", "a:5000", "[::1]", "[::1]:5000", "127.0.0.1")))
    assert not any(map(is_host, ("a", "", "a.b/c", "a.b:", "a.b:0", "a.b:70000", "[::1]:0", "a.b:x", "é.fr")))


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("127.0.0.1:5000", True),
        ("127.9.9.9", True),
        ("[::1]:5000", True),
        ("localhost:5000", True),
        ("localhost.example", False),
        ("127.0.0.1.example:5000", False),
        ("10.0.0.1", False),
        ("0.0.0.0:5000", False),
        ("registry.example", False),
    ],
)
def test_without_tls_only_on_this_machine(host: str, loopback: bool) -> None:
    assert is_loopback(host) is loopback
    transport = Transport({}, Patience(), {})
    assert transport.root(host) == f"{'http' if loopback else 'https'}://{host}"


def test_what_the_machines_file_says_of_tls() -> None:
    settings = {
        "10.0.0.5:5000": RegistrySettings(http=True),
        "127.0.0.1:5000": RegistrySettings(ca="/etc/ca.pem"),
        "127.0.0.1:5001": RegistrySettings(http=False),
    }
    transport = Transport(settings, Patience(), {})
    assert transport.root("10.0.0.5:5000").startswith("http://")
    assert transport.root("10.0.0.5").startswith("https://")
    assert transport.root("127.0.0.1:5000").startswith("https://")
    assert transport.root("127.0.0.1:5001").startswith("https://")


@pytest.mark.parametrize(
    ("was", "to", "allowed"),
    [
        ("https://a.example/", "https://b.example/x", True),
        ("https://a.example/", "http://a.example/x", False),
        ("https://a.example/", "http://127.0.0.1/x", False),
        ("http://127.0.0.1:5000/", "http://127.0.0.1:6000/x", True),
        ("http://127.0.0.1:5000/", "http://b.example/x", False),
        ("http://127.0.0.1:5000/", "https://b.example/x", True),
        ("https://a.example/", "https://ann:word@b.example/x", False),
        ("https://a.example/", "https:///x", False),
        ("https://a.example/", "", False),
    ],
)
def test_where_a_registry_may_send_us(was: str, to: str, allowed: bool) -> None:
    transport = Transport({}, Patience(), {})
    if allowed:
        transport.require_allowed(to, sent_by=was)
        return
    with pytest.raises(FetchError) as caught:
        transport.require_allowed(to, sent_by=was)
    assert "word" not in caught.value.message


def test_a_host_is_the_same_in_other_letters() -> None:
    own = RegistrySettings(ca="/etc/ca.pem", tokens="auth.example")
    transport = Transport({"Registry.example:5000": own}, Patience(), {})
    assert transport.settings("rEGISTRY.Example:5000") == own
    assert transport.settings("registry.example") == RegistrySettings()


def test_what_a_registry_asks_for() -> None:
    told = (
        'Bearer realm="https://auth.example/token?a=1,2",service="it",scope="repository:a:pull,push", Basic realm="x"'
    )
    assert _read(told) == {
        "bearer": {"realm": "https://auth.example/token?a=1,2", "service": "it", "scope": "repository:a:pull,push"},
        "basic": {"realm": "x"},
    }
    assert _read("bearer REALM=https://a.example") == {"bearer": {"realm": "https://a.example"}}
    assert _read("") == {} and _read('Digest realm="x"') == {} and _read("Basic ") == {"basic": {}}


def test_a_proxy_is_for_the_world_and_not_for_this_machine() -> None:
    environ = {
        "https_proxy": "http://proxy.example:3128",
        "no_proxy": "inside.example",
        "HTTP_PROXY": "other.example:80",
    }
    transport = Transport({}, Patience(), environ)
    assert transport._proxy("https", "registry.example") == "http://proxy.example:3128"
    assert transport._proxy("http", "registry.example") == "http://other.example:80"
    assert transport._proxy("https", "a.inside.example:5000") == ""
    assert transport._proxy("http", "127.0.0.1:5000") == ""
    assert Repository(host="a.example", path="b") == repository("a.example/b")

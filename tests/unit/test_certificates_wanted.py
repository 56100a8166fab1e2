"""Whose certificate is shown for a name."""

from __future__ import annotations

from instar.certificates.wanted import wanted_certificates
from instar.model.environment import Settings
from instar.model.host_names import HostNames, Tls
from instar.model.release import EnvironmentId

ACME, FILES = Tls(), Tls(kind="files", certificate_file="a.pem", key_file="a.key")
SHOP, BLOG, EVIL = (EnvironmentId(service=name, name="production") for name in ("shop", "blog", "aaa"))


def settings(*https: str, tls: Tls = ACME) -> Settings:
    return Settings(names=HostNames(https=https), tls=tls)


def test_part_of_a_name_brings_no_certificate_for_the_rest() -> None:
    shop = settings("a.test", "shop.test")
    for tls in (FILES, Tls(kind="internal")):
        found = wanted_certificates([(EVIL, settings("a.test/x", "evil.test", tls=tls)), (SHOP, shop)])
        assert {(one.environment, one.source, name) for one in found for name in one.names} == {
            (SHOP, "acme", "a.test"),
            (SHOP, "acme", "shop.test"),
            (EVIL, tls.kind, "evil.test"),
        }


def test_where_all_have_parts_the_first_brings_it_and_nobody_else() -> None:
    found = wanted_certificates([(BLOG, settings("a.test/b", tls=FILES)), (SHOP, settings("a.test/s"))])
    assert [(one.environment, one.names) for one in found] == [(BLOG, ("a.test",))]


def test_each_is_wanted_once_before_and_after() -> None:
    before, after = settings("a.test", "b.test"), settings("a.test")
    found = wanted_certificates([(SHOP, after), (SHOP, before)])
    assert [one.names for one in found] == [("a.test",), ("b.test",)]

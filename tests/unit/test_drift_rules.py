"""Which findings a rule expects, and what becomes of a rule whose time is over."""

from datetime import date

from instar.drift.rules import sort_out
from instar.model.drift import Finding
from instar.model.environment import Ignore

TODAY = date(2026, 6, 1)


def finding(kind: str = "listener", path: str = "tcp 0.0.0.0:9000") -> Finding:
    return Finding(instance="shop-dev-1-1", kind=kind, path=path, expected="nothing listens", observed="it listens")


def rule(kind: str = "listener", path: str | None = None, until: str = "2026-06-01") -> Ignore:
    return Ignore(kind=kind, path=path, reason="the debug port", until=until)


def test_a_rule_expects_its_kind_everywhere_or_where_its_path_says() -> None:
    found = [finding(), finding(path="tcp 127.0.0.1:80"), finding("sysctl", "net/ipv4/ip_forward")]
    assert sort_out(found, [rule()], TODAY) == ((found[2],), ((found[0], rule()), (found[1], rule())))
    here = rule(path="*:9000")
    assert sort_out(found, [here], TODAY) == ((found[1], found[2]), ((found[0], here),))


def test_a_rule_holds_on_its_last_day_and_is_a_finding_itself_on_the_next() -> None:
    old = rule(path="*:9000", until="2026-05-31")
    left, ignored = sort_out([finding()], [old], TODAY)
    assert not ignored and left[0] == finding()
    assert (left[1].kind, left[1].path, left[1].instance) == ("rule", "listener *:9000", None)
    assert "2026-05-31" in left[1].observed and "the debug port" in left[1].observed


def test_where_nothing_is_found_an_expired_rule_is_all_the_same() -> None:
    assert [one.kind for one in sort_out([], [rule(until="2026-01-01"), rule()], TODAY)[0]] == ["rule"]

"""How an engine calls what runs for an instance stands beside the instance, in its lines and in status."""

from __future__ import annotations

import dataclasses
import json
from datetime import UTC, datetime

from instar.model.digest import Digest
from instar.model.log_line import LogLine
from instar.model.release import EnvironmentId
from instar.model.status import EnvironmentStatus, InstanceStatus, ReleaseStatus
from instar.views.logs import log_json, log_text
from instar.views.status import overview_page, status_page

NOW = datetime(2026, 11, 30, tzinfo=UTC)
AT = "2026-11-30T12:00:00.000000001Z"


def line(member: str, instance: str = "shop-prod-1-1") -> LogLine:
    return LogLine.of(instance, f"{AT} stdout{member} a@b c")


def test_a_line_says_which_pod_it_is_of_and_is_otherwise_as_before() -> None:
    found = line("@shop-prod-1-1-5d-x")
    assert (found.member, found.stream, found.text) == ("shop-prod-1-1-5d-x", "stdout", "a@b c")
    assert log_text(found, named=False, short=False) == f"shop-prod-1-1-5d-x  {AT} stdout a@b c"
    assert json.loads(log_json(found))["member"] == "shop-prod-1-1-5d-x"
    plain = line("")
    assert (plain.member, log_text(plain, named=False, short=False)) == (None, f"{AT} stdout a@b c")
    assert "member" not in json.loads(log_json(plain))


def test_a_pod_that_is_not_called_as_its_instance_stands_beside_it() -> None:
    assert line("@shop-prod-nightly-20261130").source == "shop-prod-1-1 (shop-prod-nightly-20261130)"


def test_status_says_the_pods_of_each_instance_and_of_many_a_few() -> None:
    names = tuple(f"shop-prod-1-1-{number}" for number in range(8))
    instance = InstanceStatus(
        id="shop-prod-1-1", state="running", healthy=True, address="", started_at=NOW, members=8, member_names=names
    )
    release = ReleaseStatus(
        number=1, image=Digest.of(b""), config=Digest.of(b""), weight=100, state="active", instances=(instance,)
    )
    status = EnvironmentStatus(
        environment=EnvironmentId(service="shop", name="prod"),
        listen=(),
        active=1,
        unfinished=None,
        router=True,
        destroying=False,
        releases=(release,),
    )
    said = f"shop-prod-1-1 is {', '.join(names[:6])} and 2 more (--json has all)"
    assert said in [one for one in status_page(status, NOW) if isinstance(one, str)]
    none = dataclasses.replace(release, instances=(dataclasses.replace(instance, member_names=()),))
    assert not any(" is shop" in str(one) for one in status_page(dataclasses.replace(status, releases=(none,)), NOW))


def test_an_overview_says_once_why_not_all_are_known_who_take_requests() -> None:
    def of(name: str, unknown: str | None) -> EnvironmentStatus:
        return EnvironmentStatus(
            environment=EnvironmentId(service="shop", name=name),
            listen=(),
            active=None,
            unfinished=None,
            router=True,
            destroying=False,
            releases=(),
            taken_unknown=unknown,
        )

    page = overview_page([of("a", "not looked at"), of("b", None), of("c", "not looked at"), of("d", "too many")], NOW)
    told = [one for one in page if isinstance(one, str) and "take requests" in one]
    assert told == [
        "\nshop/a, shop/c: not all who take requests for their names are known: not looked at",
        "\nshop/d: not all who take requests for their names are known: too many",
    ]

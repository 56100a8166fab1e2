"""What is promoted runs as it was tried, and is given what the definition says: the two have to go together."""

from __future__ import annotations

import dataclasses

import pytest
from control_values import ENV, HTTP, WORKER

from instar.errors import Refused
from instar.model.configuration import Configuration
from instar.model.schedule import ScheduledTask
from instar.operations.promote import given_as

API = dataclasses.replace(HTTP, port=9000)
TRIED = Configuration(service=HTTP, role="web", roles={"api": API}, config={"OF": "dev"})
NIGHTLY = ScheduledTask(command=("tidy",), cron="0 3 * * *", role="worker")


def test_what_is_promoted_is_given_what_is_defined() -> None:
    defined = dataclasses.replace(TRIED, service=dataclasses.replace(HTTP, port=1), config={"OF": "production"})
    assert given_as(ENV, TRIED, defined) == dataclasses.replace(TRIED, config={"OF": "production"})


def test_what_is_promoted_gets_no_requests_for_another_role() -> None:
    defined = Configuration(service=API, role="api", roles={"web": HTTP})
    with pytest.raises(Refused, match="its first role is 'web', and the definition has another first, 'api'"):
        given_as(ENV, TRIED, defined)


def test_a_schedule_names_roles_of_what_is_promoted() -> None:
    defined = dataclasses.replace(TRIED, roles={"api": API, "worker": WORKER}, schedule={"nightly": NIGHTLY})
    with pytest.raises(Refused, match="it has no role 'worker', in which 'nightly' of its schedule runs"):
        given_as(ENV, TRIED, defined)
    assert given_as(ENV, defined, defined).schedule == {"nightly": NIGHTLY}

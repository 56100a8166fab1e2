"""Why an instance came to its end, as it is written down."""

from __future__ import annotations

import dataclasses

import pytest
from control_values import NOW, ago, group

from instar.control.actions import Retire
from instar.control.endings import ending_of, why_ended, words
from instar.model.release import Ending, EndReason
from instar.providers.base import RESTARTED, Observed

RETIRE = Retire(("shop-production-1-1",), "it ended")


@pytest.mark.parametrize(
    ("seen", "reason", "why"),
    [
        ({"exit_status": 3}, "exited", "exit status 3"),
        ({"exit_status": 0}, "exited", "exit status 0"),
        ({"exit_status": 139, "signal": "SIGSEGV", "reason": "killed: SIGSEGV"}, "signal", "killed: SIGSEGV"),
        (
            {"exit_status": 137, "signal": "SIGKILL", "out_of_memory": True, "reason": "killed: out of memory"},
            "out-of-memory",
            "killed: out of memory",
        ),
        ({"reason": RESTARTED}, "restart", RESTARTED),
        ({"reason": "it ended, and nobody saw how"}, "unknown", "it ended, and nobody saw how"),
    ],
)
def test_who_ended_by_itself_did_so_as_was_seen(seen: dict[str, object], reason: EndReason, why: str) -> None:
    observed = Observed(id="shop-production-1-1", state="stopped", **seen)  # type: ignore[arg-type]
    dead = dataclasses.replace(group(1, "stopped"), observed=observed)
    found = ending_of(dead, RETIRE, NOW)
    assert (found.reason, found.why, found.at) == (reason, why, NOW)
    assert (found.exit_status, found.signal) == (seen.get("exit_status"), seen.get("signal"))


def test_who_is_gone_without_a_trace_is_gone() -> None:
    gone = group(1, "absent")
    gone = dataclasses.replace(gone, instance=dataclasses.replace(gone.instance, made=True))
    assert ending_of(gone, RETIRE, NOW) == Ending(reason="unknown", at=NOW, why="it is gone")


@pytest.mark.parametrize("state", ["running", "created"])
def test_who_is_ended_says_by_whom_and_why(state: str) -> None:
    found = ending_of(group(1, state), Retire(("x",), "it is no longer needed"), NOW)
    assert (found.reason, str(found)) == ("instar", "ended by Instar: it is no longer needed")
    failed = ending_of(group(1, state), Retire(("x",), "it no longer answers", unwell=True), NOW)
    assert (failed.reason, str(failed)) == ("unwell", "ended by Instar: it no longer answers")


def test_what_was_written_down_once_stays() -> None:
    before = Ending(reason="instar", at=ago(5), why="others are in its place")
    half = group(1, "stopped", exit_status=143)
    half = dataclasses.replace(half, instance=dataclasses.replace(half.instance, ending=before))
    assert ending_of(half, RETIRE, NOW) == before
    assert why_ended(half) == "ended by Instar: others are in its place"
    assert words(half.observed) == "exit status 143"

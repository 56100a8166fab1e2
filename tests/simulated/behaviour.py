"""How simulated instances behave, and what comes of asking them."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from instar.model.environment import Check
from instar.providers.base import Probe


@dataclass(frozen=True, kw_only=True)
class Behaviour:
    """How instances of a release behave. The default is well.

    ``create_fails`` and ``start_fails`` are the causes. ``healthy_after_probes`` None: never healthy.
    ``answers`` is the status of its health path. ``dies_after_s``: so long after its start; 0: at once.
    ``hangs``: accepts connections and answers none. ``fails_checks`` are those of the release's checks that are not
    passed, each by what it asks for (:func:`asked_for`). ``fails_share`` (0 to 1) and ``answers_in_ms`` are of the
    requests that the router sends here. ``ends_after_s``: so long it takes to end when it is told to, if its grace
    lasts.

    An instance with a task ends with ``task_exit_status`` when it has run for ``task_lasts_s``, and never if
    ``task_hangs``; so does each of the release unless tests say it of one alone: ``behave((2, "before 1"), ...)``.
    """

    create_fails: str | None = None
    start_fails: str | None = None
    healthy_after_probes: int | None = 0
    answers: int = 200
    dies_after_s: float | None = None
    exit_status: int = 1
    hangs: bool = False
    says: tuple[str, ...] = ()
    fails_checks: Collection[str] = frozenset()
    fails_share: float = 0.0
    answers_in_ms: int = 5
    task_exit_status: int = 0
    task_lasts_s: float = 0.5
    task_hangs: bool = False
    has_shell: bool = True
    ends_after_s: float = 0.0


def asked_for(check: Check) -> str:
    """Return what ``Behaviour.fails_checks`` calls a check by: its path, its command in one line, or its URL."""
    return check.path or check.url or " ".join(check.command or ())


def judged(check: Check, behaviour: Behaviour) -> Probe:
    asked = asked_for(check)
    shown = f"'{asked}'" if check.kind == "command" else f"GET {asked}"
    if behaviour.hangs and check.kind != "url":
        did = "end" if check.kind == "command" else "answer"
        return Probe(healthy=False, cause=f"{shown} did not {did} within {check.timeout_ms / 1000:g} s")
    if asked not in behaviour.fails_checks:
        return Probe(healthy=True)
    if check.kind == "command":
        return Probe(healthy=False, cause=f"{shown} ended with exit status 1")
    if check.contains:
        return Probe(healthy=False, cause=f"{shown} does not contain {check.contains!r}")
    return Probe(healthy=False, cause=f"{shown} answered 500")

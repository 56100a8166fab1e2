"""The answer to each question, the same for whoever asks: root's command line asks here, the agent for its readers.

An answer comes in parts, as they are known, and ends with an exit status. It changes nothing and holds nothing.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Iterator, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, TypeAlias

from instar.errors import InstarError
from instar.frozen import dataclass
from instar.model.log_line import LogLine
from instar.model.progress import Progress
from instar.model.usage import EnvironmentConsumption
from instar.reading import questions as ask
from instar.views.encoding import json_text
from instar.views.page import Page, Table

if TYPE_CHECKING:
    from instar.model.release import EnvironmentState
    from instar.operations.logs import Wanted
    from instar.workspace import MachineWorkspace


@dataclass(frozen=True, kw_only=True, slots=True)
class Json:
    """The whole answer, for programs."""

    text: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Shown:
    """The whole answer, for people."""

    page: tuple[str | Table, ...]


Part: TypeAlias = Json | Shown | LogLine | EnvironmentConsumption | Progress
Answer: TypeAlias = Generator[Part, None, int]


def answer(workspace: MachineWorkspace, question: ask.Question, *, matching: re.Pattern[str] | None = None) -> Answer:
    """Answer ``question``. ``matching``: of lines of logs, only those with something that it finds.

    Raises EnvironmentNotFound before the first part, and whatever its verb raises.
    """
    match question:
        case ask.Environments():
            states, _ = workspace.ledger.readable_environments()
            yield Json(text=json_text([str(state.id) for state in states]))
            return 0
        case ask.Status():
            return (yield from (_status(workspace, question) if question.environment else _all(workspace, question)))
        case ask.Explain():
            return (yield from _explain(workspace, question))
        case ask.History():
            return (yield from _history(workspace, question))
        case ask.Logs():
            return (yield from _logs(workspace, question, matching))
        case ask.Top():
            return (yield from _top(workspace, question))
        case ask.Diff():
            return (yield from _diff(workspace, question))
        case ask.Schedule():
            return (yield from _schedule(workspace, question))
        case ask.LastDrift():
            return (yield from _last_drift(workspace, question))


def _find(workspace: MachineWorkspace, word: str, service: str | None) -> EnvironmentState:
    from instar.operations.environments import find_environment
    from instar.operations.locks import require_here

    found = find_environment(workspace.ledger, word, service)
    require_here(workspace, found.id)
    return found


def _shown(page: Page) -> Shown:
    return Shown(page=tuple(page))


def _status(workspace: MachineWorkspace, question: ask.Status) -> Answer:
    from instar.operations.status import status
    from instar.views.status import status_json, status_page

    found = status(workspace, _find(workspace, question.environment or "", question.service))
    if question.as_json:
        yield Json(text=json_text(status_json(found)))
    else:
        yield _shown(status_page(found, datetime.now(UTC)))
    return 0


def _all(workspace: MachineWorkspace, question: ask.Status) -> Answer:
    """Show all environments (of a service) at a glance."""
    from instar.operations.status import overview
    from instar.views.status import overview_page, status_json

    seen = overview(workspace, question.service)
    yield from _around(workspace, seen.elsewhere)
    if question.as_json:
        yield Json(text=json_text([status_json(one) for one in seen.here]))
    elif seen.here:
        yield _shown(overview_page(seen.here, datetime.now(UTC)))
    elif not seen.unknown:
        before = "; what was: instar history" if workspace.ledger.history(None, last=1) else ""
        of_service = f" of {question.service!r}" if question.service else ""
        yield Shown(page=(f"nothing is deployed{of_service} now: instar deploy ENV{before}",))
    if workspace.other_state is not None:
        yield Progress(stage="root", text=workspace.other_state)
    for name, error in seen.unknown.items():
        yield Progress(stage="unknown", text=f"{name}: nobody can tell how it is: {error}", kind="warning")
    _raise_first(list(seen.unknown.values()))
    return 0


def _raise_first(errors: Sequence[InstarError]) -> None:
    if errors:
        raise errors[0]


def _around(workspace: MachineWorkspace, elsewhere: Sequence[EnvironmentState]) -> Iterator[Progress]:
    from instar.operations.leading import leader
    from instar.operations.ledger import which_ledger

    yield from (Progress(stage="ledger", text=text) for text in which_ledger(workspace))
    if (leading := leader(workspace)) is not None:
        yield Progress(stage="agent", text=f"{leading[0]} leads since {leading[1]:%Y-%m-%d %H:%M:%S} UTC")
    for state in elsewhere:
        yield Progress(stage="other", text=f"{state.id} is on {state.machine}: ask there")


def _explain(workspace: MachineWorkspace, question: ask.Explain) -> Answer:
    from instar.operations.explain import explain
    from instar.views.explanations import explanation_json, explanation_page

    found = explain(workspace, _find(workspace, question.environment, question.service))
    if question.as_json:
        yield Json(text=json_text(explanation_json(found)))
    else:
        yield _shown(explanation_page(found, datetime.now(UTC), width=question.width))
    return 0


def _history(workspace: MachineWorkspace, question: ask.History) -> Answer:
    from instar.operations.environments import find_environment_id
    from instar.views.events import event_json, history_page

    environment = None
    if question.environment:
        environment = find_environment_id(workspace.ledger, question.environment, question.service)
    events = workspace.ledger.history(environment, last=question.last)
    if question.as_json:
        yield Json(text=json_text([event_json(event) for event in events]))
    else:
        yield _shown(history_page(events, width=question.width))
    return 0


def _logs(workspace: MachineWorkspace, question: ask.Logs, matching: re.Pattern[str] | None) -> Answer:
    from instar.operations.logs import Wanted, endings, logs

    wanted = Wanted(
        instance=question.instance,
        release=question.release,
        role=question.role,
        last=question.last,
        since=question.since,
        until=question.until,
        matching=matching,
    )
    states = (_find(workspace, word, question.service) for word in question.environments)
    found, *others = {state.id: state for state in states}.values()
    if question.access:
        return (yield from _requests(workspace, (found, *others), wanted, follow=question.follow))
    shown = set[str]()
    for line in logs(workspace, found, wanted, beside=others, follow=question.follow):
        shown.add(line.instance)
        yield line
    for state in (found, *others):
        for name, how in endings(workspace, state, wanted, shown):
            yield Progress(stage="ended", text=f"{name}: {how}")
    return 0


def _requests(
    workspace: MachineWorkspace, states: Sequence[EnvironmentState], wanted: Wanted, *, follow: bool
) -> Answer:
    from instar.operations.access_log import access_logs, requests

    found, *others = states
    yield from requests(workspace, found, wanted, beside=others, follow=follow)
    for state in states:
        if lost := sum(access_logs(workspace, state).requests_lost(state.id).values()):
            requests_lost = "1 request" if lost == 1 else f"{lost:,} requests"
            text = f"{state.id}: {requests_lost} could not be written down"
            yield Progress(stage="lost", text=text, kind="warning")
    return 0


def _top(workspace: MachineWorkspace, question: ask.Top) -> Answer:
    from instar.operations.top import live, top

    found = _find(workspace, question.environment, question.service).id
    if question.live:
        yield from live(workspace, found, question.every_s)
    else:
        yield top(workspace, found, question.every_s)
    return 0


def _diff(workspace: MachineWorkspace, question: ask.Diff) -> Answer:
    from instar.operations.diff import diff
    from instar.views.diffs import diff_json, diff_page

    environment = _find(workspace, question.environment, question.service)
    found = diff(workspace, environment, question.before, question.after)
    if question.as_json:
        yield Json(text=json_text(diff_json(found)))
    else:
        yield _shown(diff_page(found, all_files=question.all_files))
    return 0 if found.is_same else 2


def _schedule(workspace: MachineWorkspace, question: ask.Schedule) -> Answer:
    from instar.operations.schedule import schedule
    from instar.views.schedules import schedule_json, schedule_page

    found = schedule(workspace, _find(workspace, question.environment, question.service))
    yield Json(text=json_text(schedule_json(found))) if question.as_json else _shown(schedule_page(found))
    return 0


def _last_drift(workspace: MachineWorkspace, question: ask.LastDrift) -> Answer:
    from instar.reading.last_drift import read_last

    found = _find(workspace, question.environment, question.service)
    last = read_last(workspace.state, found.id)
    yield Json(text=last.json) if question.as_json else Shown(page=last.lines)
    return 0 if last.clean else 2

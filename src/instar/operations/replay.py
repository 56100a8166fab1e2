"""``instar replay``: what was seen in shells. Only reads; a recording that was cut off is played up to there."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator, Sequence

from instar.errors import HostError, NotFound, UsageError
from instar.model.break_glass import ListedRecording
from instar.model.release import EnvironmentId
from instar.operations.environments import find_environment_id
from instar.operations.recordings import Recording, recordings
from instar.operations.workspace import Workspace
from instar.terminal.filter import Filter
from instar.terminal.recording import last_event_s, read_events, read_header

LONGEST_PAUSE_S = 2.0


def find_recordings(
    workspace: Workspace, word: str, service: Callable[[], str | None]
) -> tuple[tuple[Recording, ...], bool]:
    """Return the recordings that ``word`` names, oldest first, and whether it names an environment.

    It is an instance, also one that is gone, a recording, or an environment: of ``service``, which is asked for only
    then. Raises NotFound when there is none.
    """
    own = tuple(one for one in recordings(workspace.state) if word in (one.instance, one.name))
    if own:
        return own, False
    try:
        environment = find_environment_id(workspace.ledger, word, service())
    except NotFound as error:
        raise NotFound(
            f"cannot find a recording of '{word}': there is no such environment, and no shell was opened in such an "
            "instance",
            hint="instar replay ENV lists those of an environment; instar status shows the environments",
        ) from error
    found = _of_environment(workspace, environment)
    if not found:
        raise NotFound(
            f"cannot find a recording of '{environment}': no shell was opened there, or instar gc removed it"
        )
    return found, True


def listed(found: Sequence[Recording]) -> Iterator[ListedRecording]:
    """Yield each with what it says of itself."""
    for one in found:
        header, seconds = None, 0.0
        with contextlib.suppress(HostError):
            seconds, header = last_event_s(one.path), read_header(one.path)
        yield ListedRecording(
            name=one.name,
            instance=one.instance,
            at=one.at,
            path=one.path,
            seconds=seconds if header else 0.0,
            title=header.title if header else None,
            command=header.command if header else None,
        )


def play(
    recording: Recording,
    show: Callable[[str], None],
    *,
    speed: float | None,
    pause: Callable[[float], None] = time.sleep,
) -> None:
    """Show a recording: as fast as it went times ``speed``, no pause longer than two seconds; all at once when None.

    Without a speed only text comes, nothing that steers a terminal. With one, the terminal is as usual afterwards, also
    when it was interrupted. Raises UsageError for a speed that is none, HostError when it is damaged, after what came
    before.
    """
    if speed is not None and not (math.isfinite(speed) and speed > 0):
        raise UsageError("cannot replay at that speed", hint="--speed 2 is twice as fast")
    read_header(recording.path)
    text, shown_s = Filter(plain=speed is None), 0.0
    try:
        for event in read_events(recording.path):
            if event.kind != "o":
                continue
            if speed is not None:
                pause(max(0.0, min(event.at_s - shown_s, LONGEST_PAUSE_S)) / speed)
                shown_s = max(shown_s, event.at_s)
            show(text.feed(event.text))
    finally:
        if speed is not None:
            with contextlib.suppress(OSError):  # the terminal is gone
                show(text.end())


def _of_environment(workspace: Workspace, environment: EnvironmentId) -> tuple[Recording, ...]:
    return recordings(workspace.state, frozenset(workspace.ledger.instance_names(environment)))

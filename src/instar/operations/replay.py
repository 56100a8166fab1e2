"""``instar replay``: what was seen in shells. Only reads; a recording that was cut off is played up to there."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from instar.errors import HostError, NotFound, UsageError
from instar.host.recording import Header, last_event_s, read_events, read_header
from instar.model.release import Place
from instar.operations.parts import Parts, require_root
from instar.operations.places import find_place
from instar.operations.recordings import Recording, recordings

LONGEST_PAUSE_S = 2.0
_HELD = 4_096  # characters of a sequence that has not ended

# What steers a terminal: CSI; OSC and other strings, which an escape ends too; shorter escapes. Source: ECMA-48
_CSI = r"(?:\x1b\[|\x9b)[0-?]*[ -/]*"
_STRING = r"(?:\x1b[\]PX^_]|[\x90\x98\x9d-\x9f])[^\x07\x1b\x9c]*"
_ENDED = r"(?:\x07|\x1b\\|\x9c|(?=\x1b[^\\]))"
_SEQUENCE = re.compile(rf"{_CSI}[@-~]|{_STRING}{_ENDED}|\x1b[ -/]+[0-~]|\x1b[0-OQ-WYZ\\`-~]")
_ANSWERED = re.compile(rf"{_CSI}[nctx]|{_STRING}{_ENDED}|\x1bZ|\x05")
_BEGUN = re.compile(rf"(?:{_CSI}|{_STRING}\x1b?|\x1b[ -/]*)\Z")
_OTHER = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


@dataclass(frozen=True, kw_only=True, slots=True)
class Listed:
    """A recording with what it says of itself; ``header`` is None where it cannot be read."""

    recording: Recording
    seconds: float
    header: Header | None


def find_recordings(parts: Parts, word: str, service: str | None) -> tuple[tuple[Recording, ...], bool]:
    """Return the recordings that ``word`` names, oldest first, and whether it names an environment.

    It is an instance, also one that is gone, a recording, or an environment. Raises NotFound when there is none.
    """
    require_root("replay", "the state directory belongs to root")
    own = tuple(one for one in recordings(parts.state) if word in (one.instance, one.name))
    if own:
        return own, False
    try:
        place = find_place(parts.ledger, word, service)
    except NotFound as error:
        raise NotFound(
            f"cannot find a recording of '{word}': there is no such environment, and no shell was opened in such an "
            "instance",
            hint="instar replay ENV lists those of an environment; instar status shows the environments",
        ) from error
    found = _of_place(parts, place)
    if not found:
        raise NotFound(f"cannot find a recording of '{place}': no shell was opened there, or instar gc removed it")
    return found, True


def listed(found: tuple[Recording, ...]) -> Iterator[Listed]:
    """Yield each with what it says of itself."""
    for one in found:
        try:
            yield Listed(recording=one, seconds=last_event_s(one.path), header=read_header(one.path))
        except HostError:
            yield Listed(recording=one, seconds=0.0, header=None)


def play(
    recording: Recording,
    show: Callable[[str], None],
    *,
    speed: float | None,
    pause: Callable[[float], None] = time.sleep,
) -> None:
    """Show a recording: as fast as it went times ``speed``, no pause longer than two seconds; all at once when None.

    Without a speed only text comes, nothing that steers a terminal. Raises UsageError for a speed that is none,
    HostError when it is damaged, after what came before.
    """
    if speed is not None and not (math.isfinite(speed) and speed > 0):
        raise UsageError("cannot replay at that speed", hint="--speed 2 is twice as fast")
    read_header(recording.path)
    text, shown_s = Filter(plain=speed is None), 0.0
    for event in read_events(recording.path):
        if event.kind != "o":
            continue
        if speed is not None:
            pause(max(0.0, min(event.at_s - shown_s, LONGEST_PAUSE_S)) / speed)
            shown_s = max(shown_s, event.at_s)
        show(text.feed(event.text))


class Filter:
    """Takes sequences that steer a terminal out of a text that comes in pieces, also where a piece ends in one.

    ``plain``: all of them, and all other control characters but tabs and ends of lines. Otherwise those that a terminal
    answers as if somebody had typed, and those that outlast what is shown (its title, the clipboard).
    """

    def __init__(self, *, plain: bool) -> None:
        self._plain = plain
        self._held = ""

    def feed(self, text: str) -> str:
        text = (_SEQUENCE if self._plain else _ANSWERED).sub("", self._held + text)
        begun = _BEGUN.search(text)
        held = begun[0] if begun else ""
        text = text[: len(text) - len(held)]
        self._held = held if len(held) <= _HELD else ""
        return _OTHER.sub("", text) if self._plain else text


def _of_place(parts: Parts, place: Place) -> tuple[Recording, ...]:
    return recordings(parts.state, frozenset(parts.ledger.instance_names(place)))

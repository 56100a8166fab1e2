"""``instar replay``: what was seen in shells. Only reads; a recording that was cut off is played up to there."""

from __future__ import annotations

import contextlib
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
_HELD = 256  # characters of a sequence that is shown

# Where in a text it is. Of sequences, those of ECMA-48: an escape, CSI, and strings, of which OSC ends at a bell too
_TEXT, _ESCAPE, _CSI, _STRING, _OSC = range(5)
_AFTER_ESCAPE = {"[": _CSI, "]": _OSC, "P": _STRING, "X": _STRING, "^": _STRING, "_": _STRING}
_C1 = {chr(ord(one) + 0x40): state for one, state in _AFTER_ESCAPE.items()}
_RUN = re.compile(r"[^\x00-\x1f\x7f-\x9f]+")
_KEPT = {True: "\t\n", False: "\b\t\n\r"}  # of control characters, when plain and when not

# What is shown. Source: https://invisible-island.net/xterm/ctlseqs/ctlseqs.html
_ESCAPES = frozenset({"7", "8", "D", "E", "M", "(B", "(0"})
_NUMBER = "[0-9]{0,5}"
_MOVES = re.compile(
    rf"{_NUMBER}[@A-GKLMPSTXade]|[0-9]{{0,3}}b"  # the cursor, lines and characters; b repeats one
    rf"|{_NUMBER}(;{_NUMBER})?[Hfr]|[su]"
    r"|[0-2]?J"  # not 3: what has scrolled away is somebody else's
    rf"|{_NUMBER}([;:]{_NUMBER})*m"
)
_MODES = re.compile(r"\?([0-9;]+)([hl])")
_ALTERNATE = ("47", "1047", "1049")
_SHOWN_MODES = frozenset({"7", "25", "1048", *_ALTERNATE})  # wrapping, the cursor, its place, the other screen

# The whole screen scrolls, the cursor where it was; no colours, letters, the cursor is seen, lines wrap
_WHOLE, _USUAL = "\x1b7\x1b[r\x1b8", "\x1b[0m\x1b(B\x1b[?25h\x1b[?7h\n"


@dataclass(frozen=True, kw_only=True, slots=True)
class Listed:
    """A recording with what it says of itself; ``header`` is None where it cannot be read."""

    recording: Recording
    seconds: float
    header: Header | None


def find_recordings(parts: Parts, word: str, service: Callable[[], str | None]) -> tuple[tuple[Recording, ...], bool]:
    """Return the recordings that ``word`` names, oldest first, and whether it names an environment.

    It is an instance, also one that is gone, a recording, or an environment: of ``service``, which is asked for only
    then. Raises NotFound when there is none.
    """
    require_root("replay", "the state directory belongs to root")
    own = tuple(one for one in recordings(parts.state) if word in (one.instance, one.name))
    if own:
        return own, False
    try:
        place = find_place(parts.ledger, word, service())
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


class Filter:
    """Lets through, of a text that comes in pieces, what only draws; whoever was inside chose what it says.

    Text, and a few control characters. Of sequences, those that are known to do no more than move the cursor, colour,
    erase and scroll; none that a terminal answers as if somebody had typed, that has it tell of the mouse, or that
    outlasts what is shown (its title, the clipboard). Each is held until it is whole, and shown whole or not at all: a
    control character in its middle ends it, an escape begins the next. ``plain``: no sequences at all.
    """

    def __init__(self, *, plain: bool) -> None:
        self._plain = plain
        self._state = _TEXT
        self._held = ""
        self._alternate: str | None = None

    def feed(self, text: str) -> str:
        """Return what is shown of the next piece."""
        shown: list[str] = []
        at = 0
        while at < len(text):
            run = None if self._state in (_ESCAPE, _CSI) else _RUN.match(text, at)
            if run is None:
                shown.append(self._take(text[at]))
                at += 1
            else:
                shown.append(run[0] if self._state == _TEXT else "")
                at = run.end()
        return "".join(shown)

    def end(self) -> str:
        """Return what makes a terminal usual again, wherever it was cut off; on the screen that it began on."""
        alternate = f"\x1b[?{self._alternate}l" if self._alternate else ""
        self._begin(_TEXT)
        self._alternate = None
        return "\n" if self._plain else _WHOLE + alternate + _USUAL

    def _begin(self, state: int) -> None:
        self._state, self._held = state, ""

    def _take(self, character: str) -> str:
        """Go on by one character, and return what is shown for it."""
        if character == "\x1b":
            self._begin(_ESCAPE)
        elif "\x80" <= character <= "\x9f":
            self._begin(_C1.get(character, _TEXT))
        elif self._state in (_STRING, _OSC):
            if character in "\x18\x1a" or (character == "\x07" and self._state == _OSC):
                self._begin(_TEXT)
        elif not " " <= character <= "~":
            self._begin(_TEXT)
            return character if character in _KEPT[self._plain] or character > "\x7f" else ""
        elif self._state == _ESCAPE:
            return self._escape(character)
        else:
            return self._csi(character)
        return ""

    def _escape(self, character: str) -> str:
        if not self._held and character in _AFTER_ESCAPE:
            self._begin(_AFTER_ESCAPE[character])
            return ""
        if character < "0":
            self._hold(character)
            return ""
        sequence = self._held + character
        self._begin(_TEXT)
        return f"\x1b{sequence}" if sequence in _ESCAPES and not self._plain else ""

    def _csi(self, character: str) -> str:
        if character < "@":
            self._hold(character)
            return ""
        sequence = self._held + character
        self._begin(_TEXT)
        if self._plain or len(sequence) > _HELD:
            return ""
        if modes := _MODES.fullmatch(sequence):
            return self._set(modes[1].split(";"), modes[2])
        return f"\x1b[{sequence}" if _MOVES.fullmatch(sequence) else ""

    def _set(self, modes: list[str], final: str) -> str:
        """Return the sequence that sets, or takes back, those of ``modes`` that are shown."""
        shown = [one for one in modes if one in _SHOWN_MODES]
        for one in shown:
            if one in _ALTERNATE:
                self._alternate = one if final == "h" else None
        return f"\x1b[?{';'.join(shown)}{final}" if shown else ""

    def _hold(self, character: str) -> None:
        if len(self._held) < _HELD:  # longer ones are not shown: their last character comes on top
            self._held += character


def _of_place(parts: Parts, place: Place) -> tuple[Recording, ...]:
    return recordings(parts.state, frozenset(parts.ledger.instance_names(place)))

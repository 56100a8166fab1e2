"""What of a text from inside an instance reaches a terminal: what draws, and nothing that steers it otherwise."""

from __future__ import annotations

import codecs
import re

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


class ByteFilter:
    """The same for bytes, of which a piece may end in the middle of a character."""

    def __init__(self) -> None:
        self._filter = Filter(plain=False)
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._steered = False

    def feed(self, piece: bytes) -> bytes:
        shown = self._filter.feed(self._decoder.decode(piece))
        self._steered = self._steered or "\x1b" in shown
        return shown.encode("utf-8", "replace")

    def end(self) -> bytes:
        """Return what makes the terminal usual again; nothing where only text was shown."""
        return self._filter.end().encode() if self._steered else b""

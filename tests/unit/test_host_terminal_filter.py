"""Bytes for a terminal: a character in two pieces, and a terminal that is as before."""

from instar.terminal.filter import ByteFilter


def test_text_comes_as_it_is_and_a_character_may_come_in_two_pieces() -> None:
    one = ByteFilter()
    assert (
        one.feed("gr\u00fc\u00df".encode()[:3]) + one.feed("gr\u00fc\u00df\n".encode()[3:])
        == "gr\u00fc\u00df\n".encode()
    )
    assert one.end() == b""


def test_what_steers_goes_and_colours_are_taken_back() -> None:
    one = ByteFilter()
    assert one.feed(b"a\x1b]0;t\x07\x1b[6n\x9b31mb\x1b[31mc\x1b[?1049h") == b"a\xef\xbf\xbd31mb\x1b[31mc\x1b[?1049h"
    ended = one.end()
    assert b"\x1b[?1049l" in ended and b"\x1b[0m" in ended

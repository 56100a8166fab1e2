"""The line that is hashed, its words, and the hash."""

import hashlib
import json

import pytest

from instar.ledger import chain


def test_a_hash_is_of_the_previous_hash_and_the_line() -> None:
    line = f"{chain.START}|1|2026-01-31T12:00:00.000000Z|ann|note|||{'{}'}"
    assert chain.link(chain.START, 1, "2026-01-31T12:00:00.000000Z", "ann", "note", None, None, "{}") == (
        hashlib.sha256(f"{line}\n".encode()).hexdigest()
    )


def test_what_would_break_a_line_becomes_a_question_mark() -> None:
    assert chain.word("a|b\nc\td") == "a?b?c?d"
    assert chain.word("Jörg") == "Jörg"
    assert chain.word("\udcff") == "?"
    assert chain.word("") == "?"


@pytest.mark.parametrize("text", ["|", "two\nlines", "nul\0", "ü\u2028\udcff", '"\\'])
def test_a_detail_is_one_line_of_ascii_and_reads_back(text: str) -> None:
    written = chain.detail_text({"says": text, "ms": 4.1})
    assert written.isascii() and written.isprintable()
    assert json.loads(written) == {"says": text, "ms": 4.1}


def test_a_detail_has_no_infinity() -> None:
    with pytest.raises(ValueError):
        chain.detail_text({"ms": float("inf")})

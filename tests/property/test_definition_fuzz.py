"""A definition with other bytes in it is a definition, or an error with places, in no time; a short run and a long."""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest

import instar.definition
from instar.definition import load, load_name
from instar.errors import DefinitionError

EXAMPLES = tuple(
    path.read_bytes()
    for path in sorted(Path(instar.definition.__path__[0]).glob("**/*.yaml"))
    + sorted((Path(__file__).parents[2] / "examples").glob("*/instar.yaml"))
)
PIECES = (
    b"\x00", b"\xff", b"\xed\xa0\x80", b"\xef\xbb\xbf", b"\xe2\x80\xa8", b"\x85", b"\t", b"\r", b"\n", b"\n---\n",
    b"\n...\n", b"&a ", b"*a", b"!!python/object ", b"!", b"<<: ", b"? ", b"- ", b": ", b"{", b"}", b"[", b"]", b'"',
    b"'", b"|", b">", b"%YAML 1.1\n", b"#", b"9" * 5000, b"[" * 50, b"{a: " * 50,
    b"1e999", b".inf", b"0o17", b"~", b"null", b"yes", b"../..", b"/etc/shadow",
    b"\\x00", b'"\\ud800"', b"a" * 70_000, b" " * 10_000, b"\n" * 10_000,
)  # fmt: skip
LONGEST_S = 5.0  # of processor time; the machine may be busy


def mutated(chance: random.Random) -> bytes:
    """Return one of the examples with up to six changes: bits, pieces put in, parts taken out, repeated or swapped."""
    data = bytearray(chance.choice(EXAMPLES))
    for _ in range(chance.randint(1, 6)):
        at = chance.randrange(len(data) + 1)
        until = min(len(data), at + chance.choice((1, 3, 30, 300)))
        match chance.randrange(6):
            case 0 if at < len(data):
                data[at] ^= 1 << chance.randrange(8)
            case 1:
                data[at:at] = chance.choice(PIECES)
            case 2:
                del data[at:until]
            case 3:
                data[at:at] = data[at:until] * chance.choice((1, 2, 20))
            case 4:
                data[at:until] = chance.choice(PIECES)
            case _:
                other = chance.choice(EXAMPLES)
                start = chance.randrange(len(other))
                data[at:at] = other[start : start + chance.choice((5, 50, 500))]
    return bytes(data)


def tried(folder: Path, cases: range) -> int:
    """Read each case; return how many were definitions. The number of a case is its seed."""
    file, well = folder / "instar.yaml", 0
    for case in cases:
        data = mutated(random.Random(case))
        file.write_bytes(data)
        began = time.process_time()
        try:
            loaded = load(file)
        except DefinitionError as error:
            for problem in error.problems:
                assert problem.line >= 1 and problem.column >= 1 and problem.message.isprintable(), (case, problem)
            assert str(error), case
        else:
            well += 1
            assert load_name(file) == loaded.definition.name, case
        assert time.process_time() - began < LONGEST_S, case
    return well


def test_some_hundred_definitions_with_other_bytes(tmp_path: Path) -> None:
    assert tried(tmp_path, range(400)) > 0, "some changes are of no meaning, such as those in comments"


@pytest.mark.long
def test_fifty_thousand_definitions_with_other_bytes(tmp_path: Path) -> None:
    assert tried(tmp_path, range(1_000, 51_000)) > 100

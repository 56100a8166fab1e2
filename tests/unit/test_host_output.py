"""What a child prints is kept in a bounded amount of memory, all of its end is there, and nobody is waited for."""

from __future__ import annotations

import subprocess
import time

from instar import child_output, process
from instar.host.processes import output


def test_the_last_bytes_are_kept_and_no_more() -> None:
    with output.captured() as (descriptor, tail):
        process.run(["sh", "-c", "head -c 3000000 /dev/zero | tr '\\0' x; echo end"], stdout=descriptor)
    assert tail.text() == "x" * (child_output.TAIL_BYTES - 4) + "end\n"


def test_lines_are_handed_on() -> None:
    lines: list[str] = []
    with output.captured(lines.append) as (descriptor, _):
        process.run(["printf", "one\\ntwo\\nrest"], stdout=descriptor)
    assert lines == ["one", "two"]


def test_who_goes_on_printing_holds_nobody_up() -> None:
    began = time.monotonic()
    with output.captured() as (descriptor, tail):
        child = subprocess.Popen(["yes"], stdout=descriptor)
        while not tail.text():
            time.sleep(0.001)
    assert time.monotonic() - began < 5
    assert child.wait(5) != 0

"""The mark that descendants inherit, and limits as the kernel shows them."""

from __future__ import annotations

import os
import resource
import subprocess

import pytest

from instar.host.processes import marks

SHOWN = b"""Limit                     Soft Limit           Hard Limit           Units
Max cpu time              unlimited            unlimited            seconds
Max file size             unlimited            unlimited            bytes
Max data size             unlimited            unlimited            bytes
Max stack size            8388608              unlimited            bytes
Max core file size        0                    0                    bytes
Max resident set          unlimited            unlimited            bytes
Max processes             63410                63410                processes
Max open files            1024                 524288               files
Max locked memory         8388608              8388608              bytes
Max address space         unlimited            unlimited            bytes
Max file locks            2305843009213693959  2305843009213693959  locks
Max pending signals       63410                63410                signals
Max msgqueue size         819200               819200               bytes
Max nice priority         0                    0
Max realtime priority     0                    0
Max realtime timeout      unlimited            unlimited            us
"""


def test_the_kernel_s_text_is_read() -> None:
    found = marks.hard(SHOWN)
    assert found["NOFILE"] == 524_288 and found["CORE"] == 0 and found["STACK"] == -1 and found["NICE"] == 0
    assert "LOCKS" not in found and len(found) == 15
    assert marks.carried(SHOWN) == (1 << 61) + 7
    assert marks.carried(SHOWN.replace(b"2305843009213693959", b"unlimited          ")) is None
    assert marks.carried(SHOWN.replace(b"2305843009213693959", b"4096               ")) is None


@pytest.mark.parametrize(
    ("there", "wanted", "looser"), [(-1, 5, True), (6, 5, True), (5, 5, False), (4, 5, False), (9, -1, False)]
)
def test_what_is_looser(there: int, wanted: int, looser: bool) -> None:
    assert marks.is_looser(there, wanted) is looser


def test_children_carry_the_mark_and_others_do_not() -> None:
    number = marks.mark_of(b"what was written down")
    assert number != marks.mark_of(b"what was written down.") and number >= 1 << 61
    script = "read x; sleep 100 & echo $!; wait"
    with subprocess.Popen(["sh", "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as parent:
        marks.mark(parent.pid, number, None)
        assert parent.stdin is not None and parent.stdout is not None
        print(file=parent.stdin, flush=True)
        child = int(parent.stdout.readline())
        assert marks.carried(marks.text_of(child)) == marks.carried(marks.text_of(parent.pid)) == number
        os.kill(child, 9)
    assert marks.carried(marks.text_of(os.getpid())) is None
    assert marks.hard(marks.text_of(os.getpid()))["NOFILE"] == resource.getrlimit(resource.RLIMIT_NOFILE)[1]

"""Who may be taken for runc that is about to begin a command, and who has memory."""

from __future__ import annotations

import errno
import os
from typing import Any

import pytest

from instar.host.processes import proc
from instar.host.processes.proc import Status
from instar.process import Process
from instar.providers.local.inspection import processes
from instar.providers.local.inspection.processes import Allowed, Member

FIRST = Process(boot_id="boot", pid=10, start_time=1)
ALLOWED = Allowed(
    instance="hello-dev-1-1",
    first=FIRST,
    group="instar-0a1b2c/hello-dev-1-1",
    namespaces={},
    own=(),
    root=(1, 2),
    devices=(),
    user=1000,
    of_group=1000,
    ids=range(0, 1),
    capabilities=(),
    mask=0,
    jit=False,
    token="mark",
)


def member(pid: int, parent: int) -> Member:
    status = Status(
        name="runc:[2:INIT]",
        state="S",
        parent=parent,
        users=(0,),
        groups=(0,),
        more_groups=(),
        capabilities={},
        no_new_privileges=False,
        filtered=False,
    )
    process = Process(boot_id="boot", pid=pid, start_time=1)
    return Member(pid=pid, process=process, status=status, namespaces={}, in_group=True)


@pytest.fixture(autouse=True)
def young_and_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everybody is young, and the parent's words are those of runc with the instance's mark."""
    monkeypatch.setattr(proc, "age_s", lambda start_time: 0.1)
    monkeypatch.setattr(proc, "words", lambda pid, file: (b"runc", b"exec", b"--env=INSTAR_CHECK=mark"))


def test_a_command_of_instar_s_own_is_let_begin() -> None:
    assert processes._begins(ALLOWED, member(20, parent=77), {10, 20})


def test_who_has_runc_s_words_inside_is_not_runc() -> None:
    assert not processes._begins(ALLOWED, member(20, parent=77), {10, 20, 77})


def test_the_first_process_is_let_begin() -> None:
    assert processes._begins(ALLOWED, member(10, parent=1), {10})


@pytest.mark.parametrize(
    ("number", "has"), [(errno.ENOENT, False), (errno.ESRCH, False), (errno.ENAMETOOLONG, True), (errno.EACCES, True)]
)
def test_a_program_s_name_may_be_too_long_to_be_told(monkeypatch: pytest.MonkeyPatch, number: int, has: bool) -> None:
    def refuse(path: str) -> Any:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "readlink", refuse)
    assert proc.living_thread(os.getpid()) == (os.getpid() if has else None)

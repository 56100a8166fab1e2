"""Whether a command can run in a root, found out by looking."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from instar.host.isolation.programs import Execution, Unrunnable, check, real_path

ELF = bytearray(Path("/proc/self/exe").read_bytes()[:4096])


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for folder in ("bin", "usr/bin", "opt/venv/bin", "srv", "closed"):
        (tmp_path / folder).mkdir(parents=True)
    tmp_path.chmod(0o755)
    shutil.copy("/bin/busybox", tmp_path / "bin/sh")
    (tmp_path / "usr/bin/env").symlink_to("/bin/sh")
    return tmp_path


def script(path: Path, text: str, mode: int = 0o755) -> None:
    path.write_text(text)
    path.chmod(mode)


def run(root: Path, *command: str, uid: int = 10_001) -> str:
    path = "/opt/venv/bin:/usr/bin:/bin"
    return check(command, Execution(root=root, search=path, workdir="/srv", uid=uid, gid=uid))


def test_it_is_found_along_the_path_and_through_links(root: Path) -> None:
    assert run(root, "sh") == "/bin/sh"
    assert run(root, "env") == "/usr/bin/env"
    script(root / "opt/venv/bin/app", "#!/usr/bin/env sh\n")
    assert run(root, "app") == "/opt/venv/bin/app"
    script(root / "srv/app", "#! /bin/sh -e\n")
    assert run(root, "./app") == "/srv/app"
    (root / "srv/away").symlink_to("../../../../bin/sh")
    assert run(root, "./away") == "/srv/away"


def test_what_may_not_run_is_passed_over_for_what_may(root: Path) -> None:
    script(root / "opt/venv/bin/app", "#!/bin/sh\n", 0o644)
    script(root / "bin/app", "#!/bin/sh\n")
    assert run(root, "app") == "/bin/app"


def test_where_else_a_program_is_that_is_not_in_path_is_said(root: Path) -> None:
    (root / "usr/lib/postgresql/15/bin").mkdir(parents=True)
    (root / "usr/lib/initdb").mkdir()
    (root / "srv/initdb").symlink_to("/bin/sh")
    script(root / "opt/initdb", "#!/bin/sh\n", 0o644)
    script(root / "usr/lib/postgresql/15/bin/initdb", "#!/bin/sh\n")
    with pytest.raises(Unrunnable, match=r"; '/usr/lib/postgresql/15/bin/initdb' is: say that, or its folder in PATH"):
        run(root, "initdb")


@pytest.mark.parametrize(
    ("command", "cause"),
    [
        ("uvicornn", "command 'uvicornn' is not in the image (looked in /opt/venv/bin, /usr/bin, /bin)"),
        ("/bin/none", "command '/bin/none' is not in the image"),
        ("/srv", "command '/srv' is not a file"),
        ("./loop", "command './loop' is not in the image"),
        ("./plain", "command '/srv/plain' may not be executed by the image's user (the mode of '/srv/plain' is 644)"),
        ("/closed/app", "command '/closed/app' may not be executed by the image's user (the mode of '/closed' is 700)"),
        ("./text", "command '/srv/text' is neither a program nor a script with a '#!' line"),
        ("./empty", "command '/srv/empty' is an empty file"),
        ("./script", "command '/srv/script' begins with '#!/usr/bin/python3', and that is not in the image"),
        ("./crlf", "command '/srv/crlf' begins with '#!/bin/none', and that is not in the image"),
        ("./env", "command 'python3' is not in the image (looked in /opt/venv/bin, /usr/bin, /bin)"),
        ("./other", "command '/srv/other' was built for another architecture (64-bit Arm)"),
        ("./dynamic", "command '/srv/dynamic' needs '/lib64/ld.so', and that is not in the image"),
        ("", "the command is empty"),
    ],
)
def test_what_cannot_run_has_its_cause(root: Path, command: str, cause: str) -> None:
    (root / "srv/loop").symlink_to("loop")
    script(root / "srv/plain", "#!/bin/sh\n", 0o644)
    script(root / "closed/app", "#!/bin/sh\n")
    (root / "closed").chmod(0o700)
    script(root / "srv/text", "echo hello\n")
    script(root / "srv/empty", "")
    script(root / "srv/script", "#!/usr/bin/python3\n")
    script(root / "srv/crlf", "#!/bin/none\r\n")
    script(root / "srv/env", "#!/usr/bin/env python3\n")
    (root / "srv/other").write_bytes(bytes(ELF[:18]) + (183).to_bytes(2, "little") + bytes(ELF[20:]))
    (root / "srv/dynamic").write_bytes(_dynamic("/lib64/ld.so"))
    for name in ("other", "dynamic"):
        (root / "srv" / name).chmod(0o755)
    with pytest.raises(Unrunnable) as failure:
        run(root, command)
    assert str(failure.value) == cause


def test_owner_and_group_have_their_own_bits(root: Path) -> None:
    script(root / "srv/app", "#!/bin/sh\n", 0o700)
    assert run(root, "./app", uid=0) == "/srv/app"
    with pytest.raises(Unrunnable, match="the mode of '/srv/app' is 700"):
        run(root, "./app", uid=1)


def test_no_link_leads_out_of_the_root(root: Path) -> None:
    (root / "srv/up").symlink_to("../../../../../../etc/passwd")
    (root / "srv/etc").symlink_to("/etc")
    assert real_path(root, "/srv/up") is None
    assert real_path(root, "/srv/etc/passwd") is None
    assert real_path(root, "/../../bin/sh") == root / "bin/sh"


def _dynamic(interpreter: str) -> bytes:
    """An ELF header of this machine's with one program header, which names an interpreter."""
    text = interpreter.encode() + b"\0"
    header = bytes(ELF[:32]) + (64).to_bytes(8, "little") + bytes(ELF[40:54])
    header += (56).to_bytes(2, "little") + (1).to_bytes(2, "little") + bytes(6)
    entry = (3).to_bytes(4, "little") + bytes(4) + (120).to_bytes(8, "little") + bytes(16)
    return header + entry + len(text).to_bytes(8, "little") + bytes(16) + text


@pytest.mark.parametrize("where", [32, 54, 0])
def test_a_damaged_program_is_said_to_be_one(root: Path, where: int) -> None:
    damaged = bytearray(ELF)
    if where:
        damaged[where : where + 8] = b"\xff" * 8
    else:
        del damaged[50:]
    (root / "srv/app").write_bytes(damaged)
    (root / "srv/app").chmod(0o755)
    with pytest.raises(Unrunnable, match="is a damaged program"):
        run(root, "/srv/app")


def test_a_script_may_name_no_file_at_all(root: Path) -> None:
    script(root / "srv/app", "#!/bin/\0sh\n")
    with pytest.raises(Unrunnable, match="is not in the image"):
        run(root, "/srv/app")

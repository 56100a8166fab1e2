"""Whose programs run here: this machine's own, and what the kernel hands to an emulator at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from instar.host.kernel import emulation

ARM64 = """\
magic 7f454c460201010000000000000000000200b700
mask ffffffffffffff00fffffffffffffffffeffffff
"""  # as Debian's qemu-user-static registers it


@pytest.fixture(autouse=True)
def _on_amd64(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(emulation, "own_architecture", lambda: "amd64")


def registered(folder: Path, entry: str, status: str = "enabled") -> Path:
    (folder / "status").write_text(f"{status}\n")
    (folder / "register").write_text("")
    (folder / "qemu-aarch64").write_text(entry)
    return folder


def entry(flags: str = "OCF", state: str = "enabled", magic: str = ARM64) -> str:
    return f"{state}\ninterpreter /usr/libexec/qemu-binfmt/aarch64-binfmt-P\nflags: {flags}\noffset 0\n{magic}"


def test_its_own_run_whatever_is_registered(tmp_path: Path) -> None:
    assert emulation.runs("amd64", tmp_path / "nothing")
    assert not emulation.runs("arm64", tmp_path / "nothing")


def test_an_emulator_that_the_kernel_opens_at_once_runs_others(tmp_path: Path) -> None:
    assert emulation.runs("arm64", registered(tmp_path, entry()))
    assert not emulation.runs("s390x", tmp_path)


@pytest.mark.parametrize(
    ("told", "status"),
    [
        (entry(flags="OC"), "enabled"),  # it would be looked for in the image
        (entry(state="disabled"), "enabled"),
        (entry(), "disabled"),
        (entry(magic="magic 7f454c4602010100000000000000000002001600\n"), "enabled"),  # for s390x
        (entry(magic="extension .arm\n"), "enabled"),
        (entry(magic="magic 7f4\n"), "enabled"),
        (entry(magic="magic 7f454c46\nmask ff\n"), "enabled"),
        (entry().replace("offset 0", "offset 400"), "enabled"),
        ("", "enabled"),
    ],
)
def test_what_is_no_use_is_none(tmp_path: Path, told: str, status: str) -> None:
    assert not emulation.runs("arm64", registered(tmp_path, told, status))

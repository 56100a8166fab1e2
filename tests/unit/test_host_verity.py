"""What veritysetup says is read, and a machine that cannot do it goes without. The real thing: tests/machine."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from instar import process
from instar.errors import CommandFailed
from instar.host.filesystems import verity
from instar.process import Completed

IMAGE, ROOT = "/var/lib/instar/layers/f811.erofs", "bb2d319a92523b5c"
TOLD = """\
/dev/mapper/instar-806fd8-fb6e1e6f is active and is in use.
  type:        VERITY
  status:      {status}
  hash type:   1
  data device: /dev/loop2
  data loop:   {image}
  mode:        readonly
  hash device: /dev/loop3
  hash loop:   /memfd:verity (deleted)
  root hash:   {root}
"""


def answering(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    def run(argv: Sequence[str | Path], **_: Any) -> Completed:
        return Completed(returncode=0, stdout=text.encode(), stderr=b"")

    monkeypatch.setattr(process, "run", run)


@pytest.mark.parametrize(("status", "sound"), [("verified", True), ("corrupted", False)])
def test_what_is_told_of_a_device(monkeypatch: pytest.MonkeyPatch, status: str, sound: bool) -> None:
    answering(monkeypatch, TOLD.format(status=status, image=IMAGE, root=ROOT))
    found = verity.look("/dev/mapper/instar-806fd8-fb6e1e6f")
    assert found is not None
    assert (found.file, found.root, found.sound) == (IMAGE, ROOT, sound)


def test_what_is_no_such_device(monkeypatch: pytest.MonkeyPatch) -> None:
    answering(monkeypatch, "/dev/mapper/other is active.\n  type:        LUKS2\n")
    assert verity.look("/dev/mapper/other") is None
    assert verity.look("/dev/loop3") is None
    assert verity.look(IMAGE) is None


def test_a_machine_that_cannot_goes_without(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def run(argv: Sequence[str | Path], **_: Any) -> Completed:
        raise CommandFailed("it fails", argv=list(map(str, argv)), returncode=1, output="")

    monkeypatch.setattr(process, "run", run)
    monkeypatch.setattr(verity, "is_usable", lambda: True)
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    with verity.opened(tmp_path, "instar-000000-") as device:
        assert device is None
    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208

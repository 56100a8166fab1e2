"""Images on other bases, to the last bit. Where a digest here changes, images from existing locks change too."""

from __future__ import annotations

import platform
import time
from pathlib import Path

import pytest
from base_kit import Machine, machine
from import_kit import config_of, docker_save, member, tar_files, tar_of

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(platform.machine() != "x86_64", reason="the golden images are for amd64"),
]
__all__ = ["machine"]
SCRATCH = "sha256:252f2833efecdb607d85e20cc3fb2679d1be7465e13e86bc623db8398562c17b"
ON_OTHERS = "sha256:319257a8a95f0da6435d7b3a15a3481e9c17415d78bc5b286c22c6adb158f08e"
ON_A_DEFINITION = "sha256:a7c4bfdc52147dd113df03459f66f4cd1e50adf2afdbfe75d68868e5bed65a4f"


def write(machine: Machine) -> None:
    layer = tar_of([member("etc", kind=b"5", mode=0o755), member("etc/motd", b"hello\n", mode=0o644)])
    config = config_of(layer, created="2024-05-01T10:00:00Z", config={"Env": ["PATH=/opt/bin:/bin", "A=a"]})
    (machine.folder / "base.tar").write_bytes(tar_files(docker_save(layer, config=config)))
    (machine.folder / "app").mkdir()
    (machine.folder / "app/program").write_bytes(b"\x7fELF")
    (machine.folder / "app/program").chmod(0o755)
    (machine.folder / "app/zone").symlink_to("program")


def test_the_golden_images_are_the_same_for_ever(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Pacific/Kiritimati")
    time.tzset()
    write(machine)
    baked = []
    for name, base in (("a", "scratch"), ("b", "{oci: ./base.tar}"), ("c", "{image: ./b.yaml}")):
        files = "files: [{from: app, to: /srv/app, owner: app}]"
        made = machine.write(f"base: {base}\n{files}\nenv: {{GREETING: hello}}", name)
        file = Path(made.file).rename(machine.folder / f"{name}.yaml")
        loaded = machine.load(file)
        machine.lock(loaded)
        baked.append(machine.bake(loaded).image.digest)
    monkeypatch.undo()
    time.tzset()
    assert baked == [SCRATCH, ON_OTHERS, ON_A_DEFINITION]

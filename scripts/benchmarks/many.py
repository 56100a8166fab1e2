"""A step of very many small files: a bake that copies them, beside tar bringing them from one folder to another."""

from __future__ import annotations

import shutil
import subprocess
import time
from pathlib import Path

from subject import Subject

COUNT, IN_A_FOLDER = 100_000, 500
WHAT = f"bake that copies {COUNT:,} small files"
DEFINITION = """\
name: many
image: {base: scratch, files: [{from: tree, to: /data}]}
service: {command: [/data/0/0]}
"""


class Many:
    """``COUNT`` files of up to 900 bytes and a definition that copies them."""

    def __init__(self, folder: Path, home: Path) -> None:
        self._folder = folder
        self.subject = Subject(folder=folder, home=home, port=0)
        for number in range(COUNT):
            file = folder / "tree" / str(number // IN_A_FOLDER) / str(number)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(f"this is file {number}\n" * (1 + number % 40))
        (folder / "instar.yaml").write_text(DEFINITION)

    def bake(self) -> float:
        """Change one of them, bake, and return how many seconds that took."""
        (self._folder / "tree/0/0").write_text(f"{time.time_ns()}\n")
        return self.subject.run("bake").seconds

    def tar(self) -> float:
        """Return how many seconds tar takes for them, from reading the first to having written the last."""
        target = self._folder / "copied"
        target.mkdir()
        began = time.perf_counter()
        command = 'tar -C "$1" -cf - . | tar -C "$2" -xf -'
        subprocess.run(["sh", "-c", command, "sh", self._folder / "tree", target], check=True)
        seconds = time.perf_counter() - began
        shutil.rmtree(target)
        return seconds

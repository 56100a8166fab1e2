"""Users who are not root: one in a group that may look, and a stranger to it."""

from __future__ import annotations

import grp
import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

GROUP = "games"  # there is one everywhere, and nobody is in it
_USER = 61_234  # nobody's


def group_number() -> int:
    return grp.getgrnam(GROUP).gr_gid


class Reader:
    """Runs programs as user ``number``, who is in ``groups`` besides a group of their own."""

    def __init__(self, folder: Path, *, number: int = _USER, groups: Sequence[int] = ()) -> None:
        self.folder, self.number, self.groups = folder, number, list(groups)

    def start(self, words: Sequence[str | Path], environ: Mapping[str, str]) -> subprocess.Popen[str]:
        return subprocess.Popen(
            words,
            cwd="/",
            env={"PATH": os.environ["PATH"], "HOME": str(self.folder), **environ},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            user=self.number,
            group=self.number,
            extra_groups=self.groups,
        )

    def run(self, words: Sequence[str | Path], environ: Mapping[str, str]) -> tuple[int, str, str]:
        """Return the exit status and what was printed on either stream."""
        process = self.start(words, environ)
        out, err = process.communicate(timeout=120)
        assert "Traceback" not in err, err
        return process.returncode, out, err

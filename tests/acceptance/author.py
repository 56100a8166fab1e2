"""Somebody who isn't root, in a folder of their own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from project import INSTAR

NOBODY = 65534


_WITHOUT_ROOTS = """
aside=$(mktemp -d) && mount --bind /var/lib "$aside" && mount -t tmpfs tmpfs /var/lib || exit 125
for one in apt dpkg; do mkdir "/var/lib/$one" && mount --bind "$aside/$one" "/var/lib/$one" || exit 125; done
umount "$aside" && rmdir "$aside" && exec "$@"
"""  # a machine with Debian's own in /var/lib, and no Instar of root's


class Author:
    """Runs the command line with no more rights than anybody has, on a machine where root has no Instar."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        os.chown(folder, NOBODY, NOBODY)
        self._words = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
        if subprocess.run([*self._words, "test", "-x", sys.prefix], check=False).returncode != 0:
            # the clone lies where only root may read: let the program itself be read, and nothing be written
            self._words += ["--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]

    def instar(self, *words: str, timeout_s: float = 300, home: Path | None = None) -> subprocess.CompletedProcess[str]:
        result = subprocess.run(
            ["unshare", "--mount", "sh", "-c", _WITHOUT_ROOTS, "_", *self._words, INSTAR, *words],
            cwd=self.folder,
            env={
                **{"PATH": os.environ["PATH"], "HOME": str(self.folder)},
                **({"INSTAR_HOME": str(home)} if home else {}),
            },
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
        assert "Traceback" not in result.stderr, result.stderr
        return result

    def define(self, *, packages: str = "busybox-static") -> Path:
        """Write a short definition; its packages are on line 4."""
        path = self.folder / "instar.yaml"
        path.write_text(
            "name: hello\n"
            "image:\n"
            "  base: debian:bookworm\n"
            f"  packages: [{packages}]\n"
            "service: {command: [busybox, sleep, '9']}\n"
        )
        return path

    def leave(self) -> None:
        shutil.rmtree(self.folder)

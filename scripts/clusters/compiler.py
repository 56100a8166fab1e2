"""The Go that builds the cluster's programs: the machine's own where it is new enough, else a released one.

That is a module like any other, golang.org/toolchain: any Go fetches it, also one that is too old to become it by
itself, such as Debian 12's.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from clusters.images import ARCHITECTURES
from clusters.layout import Missing, Unusable

VERSION = "1.26.8"
SUMS = {
    "amd64": "h1:ZOmGe1OnfREDMIdb1Qi4G9JSuDPBLGExZMQ4nis1RXM=",
    "arm64": "h1:sYL/O6MqS68ML0kjsQ36WoYIpJqkw60TxizWUYUKQMc=",
}
_PLACES = "/usr/local/go/bin:/usr/lib/go/bin"
_MODULE = "golang.org/toolchain"


def find_go(caches: Mapping[str, str]) -> str:
    """Return a Go of VERSION or newer, fetched where the machine has none; ``caches``: Go's, as variables.

    Raises Missing where there is no Go at all, Unusable where it cannot be had or is not the one that was pinned.
    """
    found = next(_candidates(), None)
    if found is None:
        raise Missing("cannot build the cluster's programs: there is no Go on this machine; scripts/setup --cluster")
    if _version_of(found) >= numbers(VERSION):
        return found
    return _fetched(found, caches)


def numbers(text: str) -> tuple[int, ...]:
    """Return the numbers of a version, as in ``go1.26.8`` and ``go version go1.26rc1 linux/amd64``."""
    parts = re.search(r"(\d+)\.(\d+)(?:\.(\d+))?", text)
    return tuple(int(part or 0) for part in parts.groups()) if parts else ()


def _candidates() -> Iterator[str]:
    for places in (None, _PLACES):
        if found := shutil.which("go", path=places):
            yield found


def _version_of(go: str) -> tuple[int, ...]:
    return numbers(_run([go, "version"], {**os.environ, "GOTOOLCHAIN": "local"}))


def _fetched(go: str, caches: Mapping[str, str]) -> str:
    architecture = ARCHITECTURES[platform.machine()]
    wanted = f"{_MODULE}@v0.0.1-go{VERSION}.linux-{architecture}"
    said = json.loads(_run([go, "mod", "download", "-json", wanted], {**caches, **os.environ, "GOTOOLCHAIN": "local"}))
    if said.get("Sum") != SUMS[architecture]:
        raise Unusable(f"cannot use {wanted}: it is {said.get('Sum')}, and not {SUMS[architecture]}, which was pinned")
    folder = Path(said["Dir"])
    make_usable(folder)
    return str(folder / "bin/go")


def make_usable(folder: Path) -> None:
    """Make programs of a toolchain's programs, and modules of its modules: an archive of a module holds neither."""
    for draft in list(folder.rglob("_go.mod")):
        with _writable(draft.parent):
            draft.with_name("go.mod").unlink(missing_ok=True)
            shutil.copyfile(draft, draft.with_name("go.mod"))
    for file in (*folder.glob("pkg/tool/**/*"), *folder.glob("lib/*exec"), *folder.glob("bin/*")):
        if file.is_file():
            file.chmod(0o755)


@contextlib.contextmanager
def _writable(folder: Path) -> Iterator[None]:
    """Have a folder that can be written to for as long as the block lasts: Go makes its modules read-only."""
    mode = folder.stat().st_mode
    folder.chmod(mode | 0o200)
    try:
        yield
    finally:
        folder.chmod(mode)


def _run(argv: list[str], environ: Mapping[str, str]) -> str:
    with tempfile.TemporaryDirectory() as nowhere:  # not in a module, whose go.mod an old Go would not understand
        done = subprocess.run(argv, cwd=nowhere, env=dict(environ), capture_output=True, text=True, check=False)
    if done.returncode:
        raise Unusable(f"{' '.join(argv)} ended with {done.returncode}:\n{(done.stderr + done.stdout)[-2000:]}")
    return done.stdout

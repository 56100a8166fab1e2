"""A local Debian archive of exactly the packages in a lock, for mmdebstrap."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from instar.lock.file import read
from instar.model.lock import Package


@dataclass(frozen=True, kw_only=True)
class Archive:
    """``names`` are its packages; ``files`` their .debs."""

    folder: Path
    names: Sequence[str]
    files: Sequence[Path]

    def mmdebstrap(self, target: Path) -> None:
        """Make a tar of all its packages."""
        source = f"deb [trusted=yes] copy://{self.folder} bookworm main"
        included = f"--include={','.join(self.names)}"
        merged = "--hook-dir=/usr/share/mmdebstrap/hooks/merged-usr"
        argv = ["mmdebstrap", "--quiet", "--variant=essential", merged, included, "bookworm", str(target), source]
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise RuntimeError(f"mmdebstrap failed: {done.stderr[-2000:]}")

    def unpack(self, target: Path) -> None:
        """Unpack all its packages, two at a time, and do nothing else."""
        target.mkdir()
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(lambda file: subprocess.run(["dpkg-deb", "-x", file, target], check=True), self.files))


def write(folder: Path, lock: Path, cache: Path) -> Archive:
    """Make the archive out of a lock and the files that were fetched for it."""
    packages = read(lock).packages
    index = folder / "dists/bookworm/main"
    architecture = next(package.architecture for package in packages if package.architecture != "all")
    index = index / f"binary-{architecture}"
    index.mkdir(parents=True)
    (folder / "pool").mkdir()
    files = [_place(package, folder, cache) for package in packages]
    with ThreadPoolExecutor(2) as pool:
        stanzas = pool.map(lambda pair: _stanza(*pair), zip(packages, files, strict=True))
        (index / "Packages").write_text("\n".join(stanzas))
    _write_release(folder, index / "Packages", architecture)
    return Archive(folder=folder, names=[package.name for package in packages], files=files)


def _place(package: Package, folder: Path, cache: Path) -> Path:
    file = folder / "pool" / f"{package.name}.deb"
    shutil.copyfile(cache / "sha256" / package.sha256.hex, file)
    file.chmod(0o644)  # apt reads as a user of its own
    return file


def _stanza(package: Package, file: Path) -> str:
    fields = subprocess.run(["dpkg-deb", "--field", file], check=True, capture_output=True, text=True).stdout
    return f"{fields}Filename: pool/{file.name}\nSize: {package.size_bytes}\nSHA256: {package.sha256.hex}\n"


def _write_release(folder: Path, packages: Path, architecture: str) -> None:
    text = packages.read_bytes()
    (packages.parents[2] / "Release").write_text(
        "Label: bench\nSuite: stable\nCodename: bookworm\nComponents: main\n"
        f"Architectures: {architecture}\nSHA256:\n"
        f" {hashlib.sha256(text).hexdigest()} {len(text)} {packages.relative_to(packages.parents[2])}\n"
    )

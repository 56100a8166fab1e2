"""A source distribution of Python → the wheel that comes of it, built in a sandbox: without a network, by nobody.

What building takes is wheels, which are locked beside it. The wheel is packed anew, so that it has the same bytes
wherever the backend makes the same files.

Source: PEP 517, PEP 518, PEP 625.
"""

from __future__ import annotations

import io
import json
import re
import shutil
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from instar.ecosystems import sdist_runner
from instar.ecosystems.protocol import BUILD_FOLDER, StageSandbox
from instar.ecosystems.toml import read_toml
from instar.errors import ResolveError
from instar.fetch.cache import Cache
from instar.frozen import dataclass
from instar.model.digest import Digest
from instar.model.lock import Wheel
from instar.store import zipped
from instar.store.compression import gunzipped
from instar.store.members import Malformed, Members, Stream

_PYTHON: Final = "/usr/bin/python3"
_GIVEN: Final = "/run/instar/source"
_LEGACY: Final = ("setuptools>=40.8.0",)  # of a project that does not say what it is built with. Source: PEP 518
_LEGACY_BACKEND: Final = "setuptools.build_meta:__legacy__"
_UNPACKED_LIMIT_BYTES: Final = 4 << 30
_MANIFEST_LIMIT_BYTES: Final = 1 << 20
_WHEEL_LIMIT_BYTES: Final = 1 << 30
_CHUNK_BYTES: Final = 1 << 20
_FILENAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+!]*-[A-Za-z0-9._+!-]+\.whl\Z")
_ATTRIBUTES: Final = 0o100644 << 16, 0o100755 << 16


@dataclass(frozen=True, kw_only=True, slots=True)
class BuildSystem:
    """What ``pyproject.toml`` says of how it is built; ``folder`` is what all is in."""

    folder: str
    requires: tuple[str, ...] = _LEGACY
    backend: str = _LEGACY_BACKEND
    backend_path: tuple[str, ...] = ()


def read_build_system(path: Path, filename: str) -> BuildSystem:
    """Read the source distribution at ``path``. Raises ResolveError for what is none."""
    try:
        folder, text = _manifest(path)
        found = read_toml(text)
        system = found.get("build-system")
        if system is None:
            return BuildSystem(folder=folder)
        if not isinstance(system, dict):
            raise Malformed("its 'build-system' is no table")
        return BuildSystem(
            folder=folder,
            requires=_texts(system, "requires"),
            backend=str(system.get("build-backend", _LEGACY_BACKEND)),
            backend_path=_texts(system, "backend-path"),
        )
    except ValueError as error:
        raise ResolveError(
            f"cannot use the source distribution '{filename}': {str(error)[:200]}", hint="choose another version"
        ) from error


def _manifest(path: Path) -> tuple[str, str]:
    """Return the folder that all is in, and its ``pyproject.toml``, empty where there is none. Raises Malformed."""
    folders, text = set[bytes](), b""
    with path.open("rb") as file:
        chunks = iter(lambda: file.read(_CHUNK_BYTES), b"")
        members = Members(Stream(gunzipped(chunks), limit_bytes=_UNPACKED_LIMIT_BYTES), marked_end=True)
        for entry in members:
            above, _, rest = entry.name.removeprefix(b"./").partition(b"/")
            folders.add(above)
            if rest == b"pyproject.toml":
                if entry.size > _MANIFEST_LIMIT_BYTES:
                    raise Malformed("its pyproject.toml is too large to be one")
                text = b"".join(members.content())
    if len(folders) != 1 or (folder := folders.pop()) in (b"", b".", b".."):
        raise Malformed("what it holds is not in one folder")
    return folder.decode(), text.decode()


def _texts(table: dict[str, Any], key: str) -> tuple[str, ...]:
    found = table.get(key, [])
    if not isinstance(found, list) or not all(isinstance(one, str) for one in found):
        raise Malformed(f"its '{key}' is no list of texts")
    return tuple(found)


class Build:
    """One source distribution, which is in the cache, in a sandbox."""

    def __init__(self, sandbox: StageSandbox, cache: Cache, filename: str, sha256: Digest, system: BuildSystem) -> None:
        self._sandbox, self._cache, self._system = sandbox, cache, system
        self._filename, self._sha256 = filename, sha256

    def more_requires(self, wheels: Sequence[Wheel]) -> tuple[str, ...]:
        """Return what its backend wants besides; ``wheels`` are what it has asked for before. Raises StepFailed."""
        found = self._run("requires", wheels).get("requires")
        if not isinstance(found, list) or not all(isinstance(one, str) for one in found):
            raise self._sandbox.failed("its backend does not say what building it takes")
        return tuple(found)

    def wheel(self, wheels: Sequence[Wheel]) -> tuple[str, Digest]:
        """Build it; return the wheel's name and what it is in the cache. Raises StepFailed."""
        name = self._run("wheel", wheels).get("wheel")
        if not isinstance(name, str) or not _FILENAME.match(name):
            raise self._sandbox.failed("its backend does not say which wheel it made")
        data = self._sandbox.read(f"{BUILD_FOLDER}/out/{name}", _WHEEL_LIMIT_BYTES)
        if data is None or len(data) >= _WHEEL_LIMIT_BYTES:
            raise self._sandbox.failed("the wheel that its backend names is not there")
        with self._cache.workspace() as folder:
            made = folder / "made.whl"
            made.write_bytes(data)
            try:
                with zipped.opened(made) as archive:
                    return name, self._cache.add([_packed(archive)])
            except Malformed as error:
                raise self._sandbox.failed(f"what its backend made is no wheel: {error}") from error

    def _run(self, wish: str, wheels: Sequence[Wheel]) -> dict[str, Any]:
        if not self._sandbox.exists(_PYTHON):
            raise self._sandbox.failed("there is no Python in the stage", hint="add python3 to its packages")
        asked = {
            "file": self._filename,
            "folder": self._system.folder,
            "backend": self._system.backend,
            "backend_path": self._system.backend_path,
        }
        with self._given(wheels) as folder:
            command = [_PYTHON, "-I", f"{_GIVEN}/runner.py", wish, json.dumps(asked)]
            self._sandbox.run(command, env={}, shown={_GIVEN: folder})
        try:
            answer = json.loads(self._sandbox.read(f"{BUILD_FOLDER}/answer.json", _MANIFEST_LIMIT_BYTES) or b"null")
        except (ValueError, RecursionError):
            answer = None
        return answer if isinstance(answer, dict) else {}

    @contextmanager
    def _given(self, wheels: Sequence[Wheel]) -> Iterator[Path]:
        """Lay out copies that nobody, in the sandbox, can read: what the cache has is root's."""
        with self._cache.workspace() as place:
            folder = place / "given"
            (folder / "wheels").mkdir(parents=True)
            shutil.copyfile(sdist_runner.__file__, folder / "runner.py")
            for name, sha256 in [
                (self._filename, self._sha256),
                *((f"wheels/{one.filename}", one.sha256) for one in wheels),
            ]:
                shutil.copyfile(self._cache.verify(sha256), folder / name)
            for path in (folder, *folder.rglob("*")):
                path.chmod(0o755 if path.is_dir() else 0o644)
            yield folder


def _packed(archive: zipfile.ZipFile) -> bytes:
    """Return a wheel with the same files, and nothing of when, where and by which version of zlib it was packed.

    Raises Malformed.
    """
    if sum(info.file_size for info in archive.infolist()) > _WHEEL_LIMIT_BYTES:
        raise Malformed(f"it unfolds to more than the {_WHEEL_LIMIT_BYTES:,} bytes that are allowed")
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as packed:
        for info in sorted(archive.infolist(), key=lambda one: (".dist-info/" in one.filename, one.filename)):
            if info.is_dir():
                continue
            made = zipfile.ZipInfo(info.filename)
            made.create_system = 3
            made.external_attr = _ATTRIBUTES[bool(info.external_attr >> 16 & 0o100)]
            packed.writestr(made, b"".join(zipped.chunks(archive, info)))
    return buffer.getvalue()

"""A wheel → the files that it installs. No installer runs: the same wheel gives the same files for ever.

Source: PyPA specifications, "Binary distribution format", "Recording installed projects", "Entry points".
"""

from __future__ import annotations

import base64
import configparser
import re
import stat
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from instar.bake.root import Written
from instar.bake.wheels.distribution import info_folder
from instar.errors import BakeError
from instar.frozen import dataclass
from instar.store import zipped
from instar.store.members import Malformed

if TYPE_CHECKING:
    import zipfile

_FILE, _PROGRAM = 0o644, 0o755
_ENTRY_POINTS_LIMIT_BYTES = 1 << 20
_LONG_GAP = re.compile(r"(?<=\S)[^\S\n]{100}")
_SCRIPT = re.compile(r"(?!\.{1,2}\Z)[^/\0-\x1f\x7f]+")
_LAUNCHER = """#!{python}
import sys
from {module} import {attribute}
if __name__ == "__main__":
    sys.exit({call}())
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Layout:
    """Where things of a virtual environment are. ``packages`` and ``scripts`` are below ``prefix``."""

    prefix: str
    packages: str
    scripts: str
    headers: str


Put = Callable[[str, Iterable[bytes], int], Written]
"""Writes a file: its path below the prefix, its content, its mode."""


def install(path: Path, filename: str, layout: Layout, put: Put) -> None:
    """Put every file that the wheel at ``path`` installs, its RECORD last. Raises BakeError when it is malformed."""
    try:
        with zipped.opened(path) as archive:
            _Wheel(archive, layout, put).install()
    except (KeyError, configparser.Error, Malformed) as error:
        raise BakeError(
            f"cannot install wheel '{filename}': it is malformed: {error}",
            hint="choose another version in the requirements",
        ) from error


class _Wheel:
    def __init__(self, archive: zipfile.ZipFile, layout: Layout, put: Put) -> None:
        self._archive = archive
        self._layout = layout
        self._put = put
        self._records: list[str] = []
        self._names = sorted(name for name in archive.namelist() if not name.endswith("/"))
        for name in self._names:
            if name.startswith("/") or ".." in name.split("/") or "\\" in name:
                raise Malformed(f"'{name}' leads out of it")
        self._info = info_folder(self._names)

    def install(self) -> None:
        for name in self._names:
            if name not in {f"{self._info}/{record}" for record in ("RECORD", "RECORD.jws", "RECORD.p7s")}:
                self._install_one(name)
        for script, text in self._launchers():
            self._write(f"{self._layout.scripts}/{script}", [text.encode()], _PROGRAM)
        text = "".join([*sorted(self._records), f"{self._info}/RECORD,,\n"])
        self._put(f"{self._layout.packages}/{self._info}/RECORD", [text.encode()], _FILE)

    def _install_one(self, name: str) -> None:
        target, is_script = self._target(name)
        executable = is_script or self._archive.getinfo(name).external_attr >> 16 & stat.S_IXUSR
        content = zipped.chunks(self._archive, name)
        if is_script:
            content = self._script(content)
        self._write(target, content, _PROGRAM if executable else _FILE)

    def _write(self, path: str, content: Iterable[bytes], mode: int) -> None:
        self._records.append(_record(path, self._put(path, content, mode), self._layout))

    def _target(self, name: str) -> tuple[str, bool]:
        """Return where a member goes below the prefix, and whether it is a script."""
        layout, data = self._layout, self._info.removesuffix(".dist-info") + ".data/"
        if not name.startswith(data):
            return f"{layout.packages}/{name}", False
        scheme, _, rest = name.removeprefix(data).partition("/")
        folders = {
            "purelib": layout.packages,
            "platlib": layout.packages,
            "scripts": layout.scripts,
            "headers": f"{layout.headers}/{self._info.partition('-')[0]}",
            "data": "",
        }
        if scheme not in folders or not rest:
            raise Malformed(f"'{name}' has no known place")
        return f"{folders[scheme]}/{rest}".lstrip("/"), scheme == "scripts"

    def _script(self, content: Iterator[bytes]) -> Iterator[bytes]:
        """Yield a script; one that asks for Python gets the environment's."""
        start = next(content, b"")
        first, newline, rest = start.partition(b"\n")
        words = first.split()
        if words[:1] in ([b"#!python"], [b"#!pythonw"]):
            start = b" ".join([b"#!" + self._python().encode(), *words[1:]]) + newline + rest
        yield start
        yield from content

    def _launchers(self) -> Iterator[tuple[str, str]]:
        name = f"{self._info}/entry_points.txt"
        if name not in self._names:
            return
        parser = configparser.RawConfigParser(delimiters=("=",), strict=False)
        parser.optionxform = str  # type: ignore[assignment,method-assign]  # names keep their case
        info = self._archive.getinfo(name)
        text = zipped.content(self._archive, info, limit_bytes=_ENTRY_POINTS_LIMIT_BYTES).decode()
        if _LONG_GAP.search(text):  # which the parser would take minutes for
            raise Malformed("its entry points have gaps that no one writes")
        parser.read_string(text)
        for section in ("console_scripts", "gui_scripts"):
            for script, target in sorted(parser.items(section)) if parser.has_section(section) else ():
                module, _, call = target.partition("[")[0].replace(" ", "").partition(":")
                if not call or not _SCRIPT.fullmatch(script):
                    raise Malformed(f"entry point '{script}' names no function")
                attribute = call.partition(".")[0]
                yield script, _LAUNCHER.format(python=self._python(), module=module, attribute=attribute, call=call)

    def _python(self) -> str:
        return f"{self._layout.prefix}/{self._layout.scripts}/python"


def _record(path: str, written: Written, layout: Layout) -> str:
    """Return a line of RECORD: paths are as seen from where packages are."""
    inside = path.startswith(f"{layout.packages}/")
    up = "../" * (layout.packages.count("/") + 1)
    path = path[len(layout.packages) + 1 :] if inside else up + path
    quoted = f'"{path}"' if "," in path else path
    digest = base64.urlsafe_b64encode(written.sha256).rstrip(b"=").decode()
    return f"{quoted},sha256={digest},{written.size_bytes}\n"

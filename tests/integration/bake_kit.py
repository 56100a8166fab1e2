"""A world to bake in without a network: hand-made packages, one tiny program, and everything of a bake at hand."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import io
import lzma
import struct
import tarfile
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from instar.bake import Baked, Planned, bake
from instar.bake.scratch import clear_leftovers
from instar.definition import Loaded, parse
from instar.fetch.cache import Cache
from instar.host.filesystems.layers import LayerImages
from instar.host.kernel import mounts
from instar.model.image import Image
from instar.model.lock import Lock, Package, Requested, Suite, Wheel
from instar.model.progress import Progress
from instar.model.state import StateDirectory
from instar.store import Store
from instar.store.hashed_files import HashedFiles

EPOCH = 1_700_000_000
Files = Mapping[str, bytes | str | None]


def writer_program() -> bytes:
    """Return a program for amd64 that writes its third word to /srv/ran and ends well. It needs nothing."""
    path = b"/srv/ran\0"
    code = bytes.fromhex(
        "488b5c2418"  # mov rbx, [rsp+24]       argv[2]
        "488d3d32000000"  # lea rdi, [rip+path]
        "be41020000"  # mov esi, O_WRONLY|O_CREAT|O_TRUNC
        "baa4010000"  # mov edx, 0644
        "b802000000 0f05"  # open
        "89c7 4889de 31d2"  # mov edi, eax; mov rsi, rbx; xor edx, edx
        "803c1300 7404 ffc2 ebf6"  # count to the zero byte
        "b801000000 0f05"  # write
        "b83c000000 31ff 0f05"  # exit(0)
    )
    base, start = 0x400000, 64 + 56
    header = struct.pack(
        "<16sHHIQQQIHHHHHH", b"\x7fELF\x02\x01\x01", 2, 62, 1, base + start, 64, 0, 0, 64, 56, 1, 0, 0, 0
    )
    size = start + len(code) + len(path)
    segment = struct.pack("<IIQQQQQQ", 1, 5, 0, base, base, size, size, 0x1000)
    return header + segment + code + path


def tar(files: Files, *, executable: Sequence[str] = (), modes: Mapping[str, int] | None = None) -> bytes:
    """A tar of ``files``: bytes are a file's, text a link's target, None is a directory."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.mtime, info.uname, info.gname = EPOCH - 86_400, "root", "root"
            info.mode = (modes or {}).get(name, 0o755 if content is None or name in executable else 0o644)
            if content is None:
                info.type = tarfile.DIRTYPE
            elif isinstance(content, str):
                info.type, info.linkname = tarfile.SYMTYPE, content
            else:
                info.size = len(content)
            archive.addfile(info, io.BytesIO(content) if isinstance(content, bytes) else None)
    return buffer.getvalue()


def deb(
    name: str,
    files: Files,
    *,
    control: Files | None = None,
    extra: str = "",
    executable: Sequence[str] = (),
    modes: Mapping[str, int] | None = None,
    fast: bool = False,
) -> bytes:
    """A package file. ``control`` are its control files besides ``control``, ``extra`` more fields of that.

    ``fast``: it is not compressed, which of a large one takes long.
    """
    text = f"Package: {name}\nVersion: 1\nArchitecture: amd64\nMaintainer: nobody\n{extra}Description: {name}\n"
    data = tar(
        {f"./{path}": content for path, content in files.items()},
        executable=[f"./{path}" for path in executable],
        modes={f"./{path}": mode for path, mode in (modes or {}).items()},
    )
    members = {
        "debian-binary": b"2.0\n",
        "control.tar": tar({"./control": text.encode(), **(control or {})}),
        **({"data.tar": data} if fast else {"data.tar.xz": lzma.compress(data)}),
    }
    out = b"!<arch>\n"
    for member, data in members.items():
        out += f"{member:<16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(data):<10}`\n".encode() + data + b"\n" * (len(data) % 2)
    return out


def wheel(name: str, files: Mapping[str, bytes], *, entry_points: str = "") -> bytes:
    """A wheel file of version 1."""
    info = f"{name}-1.dist-info"
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for path, content in files.items():
            archive.writestr(path, content)
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1\n")
        archive.writestr(f"{info}/RECORD", "")
        if entry_points:
            archive.writestr(f"{info}/entry_points.txt", entry_points)
    return buffer.getvalue()


@dataclass
class World:
    """A state directory with everything in it, the author's folder beside it, and what was reported."""

    path: Path
    said: list[Progress] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.state = StateDirectory(self.path / "home", self.path / "home" / "run")
        self.folder = self.path / "project"
        self.folder.mkdir(parents=True, exist_ok=True)
        self.cache = Cache(self.state.cache)
        self.store = Store(self.state.store)
        self.layers = LayerImages(self.store, self.state.layers, self.state.mounts, HashedFiles(self.state.sealed))

    def load(self, image: str, name: str = "tiny", *, build: str = "") -> Loaded:
        """Load a definition whose ``image`` section, and ``build`` where it has one, have these lines."""
        sections = (("build", build), ("image", image)) if build else (("image", image),)
        lines = "".join(
            f"{section}:\n" + "".join(f"  {line}\n" for line in text.strip("\n").splitlines())
            for section, text in sections
        )
        return parse(
            f"name: {name}\n{lines}service:\n  command: [/bin/sh]\n"
            "environments:\n  dev: {secrets: {TOKEN: {file: secrets/token}}}\n",
            str(self.folder / "instar.yaml"),
        )

    def package(self, name: str, data: bytes, step: Literal["base", "packages"] = "base") -> Package:
        return Package(
            name=name, version="1", architecture="amd64", size_bytes=len(data), sha256=self.cache.add([data]),
            label="Test", suite="test", path=f"pool/{name}.deb", step=step,
        )  # fmt: skip

    def wheel(self, name: str, data: bytes) -> Wheel:
        return Wheel(name=name, version="1", filename=f"{name}-1-py3-none-any.whl", sha256=self.cache.add([data]))

    def lock(
        self,
        packages: Sequence[Package],
        wheels: Sequence[Wheel] = (),
        *,
        bake_format: int = 1,
        build: Mapping[str, Lock] | None = None,
    ) -> Lock:
        return Lock(
            bake_format=bake_format,
            architecture="amd64",
            requested=Requested(
                base="debian:test",
                packages=tuple(one.name for one in packages),
                requirements=tuple(one.name for one in wheels),
            ),
            suites=(Suite(label="Test", suite="test", date=EPOCH),),
            packages=tuple(packages),
            python="3.11" if wheels else None,
            wheels=tuple(wheels),
            build=build or {},
        )

    def bake(self, loaded: Loaded, lock: Lock, *, mountable: bool = False, planned: Planned | None = None) -> Baked:
        return bake(
            loaded, lock=lock, store=self.store, cache=self.cache, layers=self.layers, state=self.state,
            report=self.said.append,
            mountable=mountable, planned=planned,
        )  # fmt: skip

    @contextlib.contextmanager
    def mounted(self, image: Image) -> Iterator[Path]:
        """Give the root of an image, read-only."""
        target = self.path / "mounted"
        target.mkdir(exist_ok=True)
        lowers = [self.layers.mount(layer) for layer in reversed(image.layers)]
        (self.path / "nothing").mkdir(exist_ok=True)
        mounts.mount_overlay([*lowers, self.path / "nothing"], target)
        try:
            yield target
        finally:
            mounts.unmount(target)

    def work_left(self) -> list[Path]:
        folder = self.state.steps / "work"
        return list(folder.iterdir()) if folder.is_dir() else []

    def close(self) -> None:
        """Leave nothing that outlives the test or keeps its folder from being removed."""
        clear_leftovers(self.state.steps)
        self.layers.prune([], list)
        mounts.unmount_all(self.path)


def hexadecimal(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def tiny_packages(world: World) -> list[Package]:
    """A base with one program, which is its shell and its Python."""
    program = writer_program()
    base = deb(
        "tiny-base",
        {"./": None, "etc/": None, "bin/": None, "bin/sh": program, "tmp/": None, "srv/": None, "lib64/": None,
         "usr/": None, "usr/bin/": None, "usr/bin/python3.11": program, "usr/bin/python3": "python3.11"},
        executable=["bin/sh", "usr/bin/python3.11"],
    )  # fmt: skip
    return [world.package("tiny-base", base)]


def shell_packages(world: World) -> list[Package]:
    """A base with this machine's own dash, and nothing else in it that could run."""
    return [world.package("shell", _shell())]


@functools.cache
def _shell() -> bytes:
    folders = ("./", "bin/", "etc/", "lib/", "lib/x86_64-linux-gnu/", "lib64/", "srv/", "tmp/", "usr/", "usr/bin/")
    files: dict[str, bytes | str | None] = dict.fromkeys(folders)
    files |= {"bin/dash": Path("/usr/bin/dash").read_bytes(), "bin/sh": "dash"}
    for name in ("lib/x86_64-linux-gnu/libc.so.6", "lib64/ld-linux-x86-64.so.2"):
        files[name] = Path("/usr", name).read_bytes()
    return deb("shell", files, executable=[name for name, content in files.items() if isinstance(content, bytes)])

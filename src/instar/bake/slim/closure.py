"""What files need of a tree, found by following what they say: the loader and libraries of programs (ELF), the
interpreters of scripts (``#!``), links on every way. Paths are inside the tree, without a slash at their beginning.

What a program opens by a name that it computes cannot be known; of what is loaded so in every image there is a table.
The tree is quiet: nothing writes to it meanwhile. No link in it leads out.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

from instar.bake import elf
from instar.store.overlay import DEEPEST

_LINKS_LIMIT = 40  # as Linux has it
_SCRIPT_BYTES = 64 << 10
_FOLDERS_LIMIT = 256  # of libraries, of all that the loader's configuration names
_SHELLS = frozenset({"sh", "bash", "dash"})
_WORD = re.compile(r"[A-Za-z0-9_./+-]+")
_READ = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
_TRIPLETS = {62: "x86_64-linux-gnu", 183: "aarch64-linux-gnu"}  # by ELF's numbers of machines
# What the libraries of a name open by themselves, {} being the folder of libraries.
_OPENED = {
    "libc.so.6": ("{}/libgcc_s.so.1",),
    "libcrypto.so.3": ("{}/ossl-modules", "usr/lib/ssl/openssl.cnf"),
}
_OPENED_BY_PROGRAMS = {"perl": ("{}/perl-base", "{}/perl", "usr/share/perl", "usr/share/perl5")}


class Closure:
    """``kept`` are the paths that are needed, with every folder above them; ``missing`` the libraries that no folder
    has, each with a file that names it."""

    def __init__(self, root: Path, *, path: str) -> None:
        """``path``: the folders in which programs are looked for, as in PATH."""
        self._root = os.fspath(root)
        self._path = [folder for folder in path.split(":") if folder]
        self.kept: set[str] = set()
        self.missing: dict[str, str] = {}
        self._looked_at: set[str] = set()
        self._programs: set[str] = set()
        self._machine = 62
        self._configured = list(islice(dict.fromkeys(self._library_folders()), _FOLDERS_LIMIT))

    def add(self, path: str) -> str | None:
        """Keep what is at ``path``, links on the way to it, and what it needs; return its real path, None where there
        is nothing. Of a folder, everything in it."""
        real = self._real(path)
        if real is None:
            return None
        self._keep(real)
        mode = os.lstat(self._at(real)).st_mode
        if stat.S_ISDIR(mode):
            self._add_tree(real)
        elif stat.S_ISREG(mode):
            self._look_at(real)
        return real

    def add_file(self, path: str) -> None:
        """Keep just this, and what it needs: a link as the link that it is, a folder without what is in it."""
        self._keep(path)
        if stat.S_ISREG(os.lstat(self._at(path)).st_mode):
            self._look_at(path)

    def add_command(self, words: Sequence[str], workdir: str) -> str | None:
        """Keep a program, what it names of files, and, where it is a shell, every program that its words name.

        Returns the path of the program, None where there is none.
        """
        found = self.add_program(words[0], workdir)
        for word in words[1:]:
            if word.startswith("/"):
                self.add(word) if self._is_file(word) else None
            elif found and found.rpartition("/")[2] in _SHELLS:
                self._add_words(word)
        return found

    def add_program(self, name: str, workdir: str = "/") -> str | None:
        """Keep a program, and its interpreter. Returns its real path, None where there is none."""
        paths = [f"{workdir}/{name}"] if "/" in name else [f"{folder}/{name}" for folder in self._path]
        path = name if name.startswith("/") else next((one for one in paths if self._is_file(one)), None)
        real = self.add(path) if path and self._is_file(path) else None
        if real is not None and real not in self._programs:
            self._programs.add(real)
            for opened in _OPENED_BY_PROGRAMS.get(real.rpartition("/")[2].rstrip("0123456789."), ()):
                self.add(opened.format(self._libraries()))
            self._follow_script(real)
        return real

    def _follow_script(self, real: str) -> None:
        text = self._start_of(real)
        if not text.startswith(b"#!"):
            return
        line, _, rest = text[2:].decode("utf-8", "replace").partition("\n")
        words = line.split()
        interpreter = self.add_program(words[0]) if words else None
        if interpreter and interpreter.rpartition("/")[2] == "env":
            named = next((word for word in words[1:] if not word.startswith("-") and "=" not in word), None)
            interpreter = self.add_program(named) if named else None
        if interpreter and interpreter.rpartition("/")[2] in _SHELLS:
            self._add_words(rest)

    def _add_words(self, text: str) -> None:
        """Keep every program that a word of a shell's text could be the name of."""
        for word in sorted(set(_WORD.findall(text))):
            if not word.strip("./") or word.isdigit():
                continue
            if "/" not in word or word.startswith("/"):
                self.add_program(word)

    def _look_at(self, real: str) -> None:
        """Keep what a file names, and what that names."""
        waiting = [real]
        while waiting:
            path = waiting.pop()
            if path in self._looked_at:
                continue
            self._looked_at.add(path)
            linked = self._linked(path)
            if linked is None:
                continue
            self._machine = linked.machine
            folders = [_placed(one, path) for one in linked.run_paths]
            if linked.interpreter:
                waiting += self._needed([linked.interpreter], path)
            for name in linked.needed:
                waiting += self._needed([f"{folder}/{name}" for folder in (*folders, *self._folders())], path)
            for opened in _OPENED.get(path.rpartition("/")[2], ()):
                self.add(opened.format(self._libraries()))

    def _needed(self, paths: Sequence[str], by: str) -> list[str]:
        for path in paths:
            if self._is_file(path):
                real = self._real(path)
                assert real is not None
                self._keep(real)
                return [real]
        self.missing.setdefault(paths[-1].rpartition("/")[2], by)
        return []

    def _linked(self, path: str) -> elf.Linked | None:
        descriptor = os.open(self._at(path), _READ)
        try:
            return elf.linked(descriptor)
        finally:
            os.close(descriptor)

    def _add_tree(self, top: str, depth: int = 0) -> None:
        if depth > DEEPEST:
            return
        with os.scandir(self._at(top)) as entries:
            found = sorted((entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries)
        for name, is_folder in found:
            path = f"{top}/{name}" if top else name
            self.kept.add(path)
            if is_folder:
                self._add_tree(path, depth + 1)
            else:
                self.add(path)

    def _libraries(self) -> str:
        return f"usr/lib/{_TRIPLETS.get(self._machine, 'x86_64-linux-gnu')}"

    def _folders(self) -> Iterator[str]:
        yield from self._configured
        yield from (self._libraries(), "usr/lib", "lib64", "usr/lib64", "usr/local/lib")

    def _library_folders(self) -> Iterator[str]:
        """Yield the folders that the loader's configuration names."""
        paths = ["etc/ld.so.conf"]
        real = self._real("etc/ld.so.conf.d")
        if real is not None:
            paths += sorted(f"{real}/{name}" for name in os.listdir(self._at(real)) if name.endswith(".conf"))  # noqa: PTH208
        for path in paths:
            file = self._real(path)
            text = self._start_of(file).decode("utf-8", "replace") if file is not None else ""
            yield from (line.strip() for line in text.splitlines() if line.startswith("/"))

    def _is_file(self, path: str) -> bool:
        real = self._real(path, keep=False)
        return real is not None and stat.S_ISREG(os.lstat(self._at(real)).st_mode)

    def _start_of(self, path: str) -> bytes:
        descriptor = os.open(self._at(path), _READ)
        try:
            return os.read(descriptor, _SCRIPT_BYTES) if stat.S_ISREG(os.fstat(descriptor).st_mode) else b""
        finally:
            os.close(descriptor)

    def _keep(self, path: str) -> None:
        while path and path not in self.kept:
            self.kept.add(path)
            path = path.rpartition("/")[0]

    def _real(self, path: str, *, keep: bool = True) -> str | None:
        """Return the path that ``path`` leads to inside the tree, None where there is nothing. Keeps links on it."""
        waiting, at, links = [part for part in reversed(path.split("/")) if part not in ("", ".")], "", 0
        passed = []
        while waiting:
            part = waiting.pop()
            if part == "..":
                at = at.rpartition("/")[0]
                continue
            there = f"{at}/{part}" if at else part
            try:
                mode = os.lstat(self._at(there)).st_mode
            except (FileNotFoundError, NotADirectoryError):
                return None
            if stat.S_ISLNK(mode):
                links += 1
                if links > _LINKS_LIMIT:
                    return None
                target = os.readlink(self._at(there))  # noqa: PTH115 - text
                passed.append(there)
                at = "" if target.startswith("/") else at
                waiting += [one for one in reversed(target.split("/")) if one not in ("", ".")]
            else:
                at = there
        for link in passed if keep else ():
            self._keep(link)
        return at

    def _at(self, path: str) -> str:
        return f"{self._root}/{path}"


def _placed(run_path: str, of: str) -> str:
    """Return a folder of a file's own search path, with the folder of the file in it."""
    folder = "/" + of.rpartition("/")[0]
    return run_path.replace("${ORIGIN}", folder).replace("$ORIGIN", folder)

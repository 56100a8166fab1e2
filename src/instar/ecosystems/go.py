"""Go: what ``go.sum`` names, offered to the lines of ``run`` as a module proxy in a folder.

go asks the proxy that its environment names, which is a folder that the lines can read, and holds what it finds
there against ``go.sum`` once more. Its caches are in the sandbox's ``/tmp``: nothing of them is in an image.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from instar.ecosystems import author
from instar.ecosystems.author import AuthorText, one_of_each
from instar.ecosystems.go_hashes import is_hash
from instar.ecosystems.protocol import FileSource, Manifest, WantedFile, offer
from instar.fetch.cache import Cache
from instar.model.lock import Artifact

_PATH: Final = re.compile(r"(?!.*(?:/\.|//|\.\.))[A-Za-z0-9][A-Za-z0-9._~/-]{0,250}[A-Za-z0-9_~-]\Z")
_VERSION: Final = re.compile(r"v\d{1,9}\.\d{1,9}\.\d{1,14}[0-9A-Za-z.+-]{0,100}\Z")
_LONGEST_NAME: Final = 255  # of a folder, on Linux
_TIDY: Final = "go mod tidy writes both anew"
_PROXY: Final = "/run/instar/go"
_HOME: Final = "/tmp/go"  # noqa: S108  the sandbox's own


class Go:
    name: Final = "go"

    def read(self, folder: Path, use: str, architecture: str) -> Manifest:
        manifest = author.read(folder, use, "go.mod", missing="go mod init makes one")
        required = list(_required(manifest))
        if not required and not author.there(folder, use, "go.sum"):
            return Manifest(wanted=(), files={})
        sums = author.read(folder, use, "go.sum", missing=_TIDY)
        wanted = one_of_each(sums, _wanted(sums), _TIDY)
        known = {(one.name, one.version) for one in wanted}
        for path, version in required:
            if (path, version) not in known:
                manifest.refuse(f"'{path} {version}' is required here, and has no hash in go.sum", path, hint=_TIDY)
        return Manifest(wanted=wanted, files={})

    def source(self) -> FileSource:
        from instar.ecosystems.go_proxy import Proxies

        return Proxies.of_this_machine()

    def environment(self) -> Mapping[str, str]:
        return {
            "GOCACHE": f"{_HOME}/build",
            "GOENV": "off",
            "GOMODCACHE": f"{_HOME}/mod",
            "GONOPROXY": "none",
            "GOPATH": _HOME,
            "GOPROXY": f"file://{_PROXY}",
            "GOSUMDB": "off",
            "GOTOOLCHAIN": "local",
            "XDG_CONFIG_HOME": f"{_HOME}/config",
        }

    def lay_out(self, artifacts: Sequence[Artifact], cache: Cache, folder: Path) -> Mapping[str, Path]:
        """Source: go help goproxy."""
        for one in artifacts:
            versions = folder / escaped(one.name) / "@v"
            versions.mkdir(parents=True, exist_ok=True)
            offer(cache.verify(one.sha256), versions / f"{escaped(one.version)}.{one.kind}", one)
            (versions / f"{escaped(one.version)}.info").write_text(f'{{"Version":"{one.version}"}}\n')
        return {_PROXY: folder}


ECOSYSTEM: Final = Go()


def escaped(name: str) -> str:
    """Return a path or version as proxies write it: "!a" for "A"."""
    return re.sub("[A-Z]", lambda found: f"!{found[0].lower()}", name)


def _wanted(sums: AuthorText) -> Iterator[WantedFile]:
    """Yield the files that go.sum names. Raises DefinitionError."""
    for number, line in enumerate(sums.text.splitlines(), 1):
        if not line.strip():
            continue
        words = line.split()
        if len(words) != 3:
            sums.refuse("a line has a module, its version and a hash, and this one has not", line, hint=_TIDY)
        path, version, known = words
        kind = "mod" if version.endswith("/go.mod") else "zip"
        version = version.removesuffix("/go.mod")
        if not _PATH.match(path) or not _VERSION.match(version) or not _fits_a_folder(path):
            sums.refuse("this has not the form of a module's path and version", line, hint=_TIDY)
        if not is_hash(known):
            sums.refuse(f"'{path} {version}' has no hash that is known here ('h1:…')", line, hint=_TIDY)
        yield WantedFile(
            ecosystem="go", name=path, version=version, hash=known, kind=kind, place=f"{sums.name}:{number}"
        )


def _fits_a_folder(path: str) -> bool:
    return all(len(escaped(part)) <= _LONGEST_NAME for part in path.split("/"))


def _required(manifest: AuthorText) -> Iterator[tuple[str, str]]:
    """Yield each module that go.mod asks for, with what it is replaced by: not those that a folder is in place of."""
    required, replaced = list[list[str]](), dict[tuple[str, ...], list[str]]()
    for verb, words in _directives(manifest.text):
        if verb == "require" and len(words) == 2:
            required.append(words)
        elif verb == "replace" and "=>" in words:
            at = words.index("=>")
            replaced[tuple(words[:at])] = words[at + 1 :]
    for path, version in required:
        other = replaced.get((path, version), replaced.get((path,), [path, version]))
        if len(other) == 2:
            yield other[0], other[1]


def _directives(text: str) -> Iterator[tuple[str, list[str]]]:
    """Yield the directives of go.mod, each with its words. Source: Go Modules Reference, go.mod files."""
    block = ""
    for line in text.splitlines():
        words = [word.strip('"`') for word in line.partition("//")[0].split()]
        if not words:
            continue
        if block:
            if words == [")"]:
                block = ""
            else:
                yield block, words
        elif words[-1] == "(":
            block = words[0]
        else:
            yield words[0], words[1:]

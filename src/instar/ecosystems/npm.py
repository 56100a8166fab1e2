"""npm: ``package-lock.json`` of version 2 or 3, installed by the image's ``npm ci`` from a cache of npm's own form.

npm takes a file by the hash that the lock file has of it, from ``_cacache/content-v2``, without asking anybody, and
checks it again. Where the author fetched it from is taken out of the lock file that npm gets: an image does not depend
on whose registry was asked, and no address in a lock file is ever followed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from instar.definition import forms
from instar.ecosystems import author
from instar.ecosystems.author import AuthorText
from instar.ecosystems.npm_hashes import STRONG, best_hash, content_path
from instar.ecosystems.npm_workspaces import inside, workspaces_of
from instar.ecosystems.protocol import FileSource, Manifest, WantedFile, Workroom
from instar.fetch.cache import Cache
from instar.fetch.indexes import source_of
from instar.model.lock import Artifact
from instar.model.projects import NpmPackages

MANIFEST: Final = "package.json"
LOCK_FILE: Final = "package-lock.json"
_MODULES: Final = "node_modules/"
_VERSION: Final = re.compile(r"[0-9A-Za-z][0-9A-Za-z.+-]{0,127}\Z")
_ENTRY_LINE: Final = re.compile(r'^\s*"((?:[^"]+/)?node_modules/[^"]+)"\s*:\s*\{')
_KINDS: Final = ("dependencies", "devDependencies", "optionalDependencies", "peerDependencies")
_PROCESSORS: Final = {"amd64": "x64", "arm64": "arm64"}  # Debian's name → node's
_MAKE: Final = "make one that fits: npm install --package-lock-only"
_CACHE: Final = "/tmp/npm"  # noqa: S108  the sandbox's own
_NOWHERE: Final = "https://registry.invalid"
_HEADERS: Final = "include/node/node_version.h"
_OTHERS: Final = {"yarn.lock": "yarn's", "pnpm-lock.yaml": "pnpm's", "bun.lock": "bun's"}


class Npm:
    name: Final = "npm"

    def read(self, folder: Path, use: NpmPackages, architecture: str) -> Manifest:
        manifest = author.read(folder, use.source, MANIFEST, missing="npm init makes one")
        lock = author.read(folder, use.source, LOCK_FILE, missing=_missing(folder, use.source))
        entries = _entries(lock)
        _require_fit(manifest, lock, entries[""])
        workspaces = workspaces_of(lock, manifest, entries, _MAKE)
        manifests = {MANIFEST: manifest}
        for one in workspaces:
            name = f"{one}/{MANIFEST}"
            manifests[name] = author.read(folder, use.source, name, missing="the lock file names it as a workspace")
            _require_fit(manifests[name], lock, entries[one])
        lines = _lines(lock.text)
        wanted, scripted = dict[tuple[str, ...], WantedFile](), set[str]()
        for path, entry in _installed(entries, use, architecture, workspaces):
            file = _wanted(lock, inside(path, workspaces), entry, lines.get(path, 1), use)
            wanted.setdefault(file.key, file)
            if entry.get("hasInstallScript") is True:
                scripted.add(path.rpartition(_MODULES)[2])
        _require_scripts(lock, use, entries)
        return Manifest(
            wanted=tuple(wanted.values()),
            files={**{name: one.data for name, one in manifests.items()}, LOCK_FILE: lock.data},
            notes=tuple(_unscripted(sorted(scripted - set(use.scripts)), lock.name)),
        )

    def source(self) -> FileSource:
        from instar.ecosystems.npm_registry import Registries

        return Registries()

    def given(self, use: NpmPackages) -> Any:
        return [use.to, use.dev, sorted(use.scripts), *(["legacy-peer-deps"] if use.legacy_peer_deps else [])]

    def install(
        self,
        use: NpmPackages,
        manifest: Manifest,
        artifacts: Sequence[Artifact],
        cache: Cache,
        path: str,
        room: Workroom,
    ) -> None:
        npm = next((found for one in path.split(":") if room.exists(found := f"{one.rstrip('/')}/npm")), None)
        if npm is None:
            raise room.failed("there is no npm in the image", hint="add nodejs and npm to image.packages")
        to = use.to.rstrip("/")
        for name, content in manifest.files.items():
            if name != LOCK_FILE:
                room.put(f"{to}/{name}", content)
        room.put(f"{to}/{LOCK_FILE}", _without_addresses(manifest.files[LOCK_FILE]))
        room.say(f"installing {len(artifacts)} packages of npm")
        env = {"PATH": path, "HOME": _CACHE, **_settings(room, use)}
        with cache.workspace() as folder:
            _lay_out(artifacts, cache, folder)
            shown = {f"{_CACHE}/_cacache": folder}
            omit = ["--include=dev"] if use.dev else ["--omit=dev"]
            room.run([npm, "--prefix", use.to, "ci", "--ignore-scripts", *omit], env=env, shown=shown)
            if use.scripts:
                rebuild = [npm, "--prefix", use.to, "rebuild", "--foreground-scripts", "--", *sorted(use.scripts)]
                room.run(rebuild, env=env, shown=shown)
        room.put(f"{to}/{LOCK_FILE}", manifest.files[LOCK_FILE])


ECOSYSTEM: Final = Npm()


def _missing(folder: Path, source: str) -> str:
    other = next((name for name in _OTHERS if author.there(folder, source, name)), None)
    if other:
        return f"of lock files, npm's is read, not {_OTHERS[other]}: npm install --package-lock-only makes one"
    return "npm install --package-lock-only makes it"


def _entries(lock: AuthorText) -> dict[str, dict[str, Any]]:
    """Return what ``packages`` of a lock file has: path → entry, with the author's own at ""."""
    found = lock.json()
    version = found.get("lockfileVersion")
    if version not in (2, 3):
        lock.refuse(
            f"its lockfileVersion is {json.dumps(version)[:20]}; 2 and 3 are read",
            '"lockfileVersion"',
            hint="npm 7 or a later one writes it anew: npm install --package-lock-only",
        )
    entries = found.get("packages")
    if not isinstance(entries, dict) or not all(isinstance(entry, dict) for entry in entries.values()):
        lock.refuse("it has no 'packages' that can be read", hint=_MAKE)
    if "" not in entries:
        lock.refuse("it does not say which package.json it was made for", '"packages"', hint=_MAKE)
    return entries


def _require_fit(manifest: AuthorText, lock: AuthorText, locked: Mapping[str, Any]) -> None:
    """What package.json asks for has to be what the lock file was made for. Raises DefinitionError."""
    now, then = _dependencies(manifest, manifest.json()), _dependencies(lock, locked)
    for name in sorted(now.keys() | then.keys()):
        if now.get(name) == then.get(name):
            continue
        was = f"is '{then[name]}' in {LOCK_FILE}" if name in then else f"is not in {LOCK_FILE}"
        if name in now:
            manifest.refuse(f"'{name}' is '{now[name]}' here, and {was}", f'"{name}"', hint=_MAKE)
        lock.refuse(f"it was made for '{name}' '{then[name]}', which {MANIFEST} has not", f'"{name}"', hint=_MAKE)


def _dependencies(file: AuthorText, found: Mapping[str, Any]) -> dict[str, str]:
    """Return what is asked for, of every kind: name → version. An optional one may be among the others too."""
    asked: dict[str, str] = {}
    for kind in _KINDS:
        named = found.get(kind, {})
        if not isinstance(named, dict) or not all(isinstance(version, str) for version in named.values()):
            file.refuse(f"its '{kind}' are not names with versions", f'"{kind}"')
        asked.update(named)
    return asked


def _installed(
    entries: Mapping[str, dict[str, Any]], use: NpmPackages, architecture: str, workspaces: tuple[str, ...]
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield what npm will want a file of: not what others bring in their own, nor what is for another platform."""
    for path, entry in entries.items():
        if path in workspaces or (entry.get("link") is True and entry.get("resolved") in workspaces):
            continue
        if not path or entry.get("inBundle") is True or (entry.get("dev") is True and not use.dev):
            continue
        elsewhere = not _suits(entry.get("os"), "linux") or not _suits(entry.get("cpu"), _PROCESSORS.get(architecture))
        if not (entry.get("optional") is True and elsewhere):
            yield path, entry


def _lines(text: str) -> dict[str, int]:
    """Return the line of each entry, of a file as npm writes it."""
    entries = ((number, _ENTRY_LINE.match(line)) for number, line in enumerate(text.splitlines(), 1))
    return {match[1]: number for number, match in entries if match}


def _suits(named: Any, ours: str | None) -> bool:
    """Tell whether a list of platforms has ours, as npm does: ["linux"], or ["!win32"]."""
    given = named if isinstance(named, list) else [named]
    names = [one for one in given if isinstance(one, str)]
    refused = [one[1:] for one in names if one.startswith("!")]
    allowed = [one for one in names if not one.startswith("!")]
    return ours not in refused and (not allowed or ours in allowed or "any" in allowed)


def _wanted(lock: AuthorText, path: str, entry: Mapping[str, Any], line: int, use: NpmPackages) -> WantedFile:
    """Return the file that an entry names. Raises DefinitionError for one that is no package of a registry's."""
    at = f'"{path}"'
    last = path.rpartition(_MODULES)[2]
    names = path.removeprefix(_MODULES).split(f"/{_MODULES}")
    name, version = entry.get("name", last), entry.get("version")
    resolved = entry.get("resolved", "")
    if entry.get("link") is True or not path.startswith(_MODULES):
        lock.refuse(
            f"'{name}' is a folder, not a package of a registry",
            at,
            hint="publish it, or copy the folder with image.files and do without it in package.json",
        )
    if not all(isinstance(one, str) and forms.fits(forms.NPM_PACKAGE, one) for one in (*names, name)):
        lock.refuse("its entry has not the form of a package's name", at, hint=_MAKE)
    if not isinstance(resolved, str) or not re.match(r"https?://|\Z", resolved):
        lock.refuse(
            f"'{name}' comes from git or a file, which no registry vouches for",
            at,
            hint=f"ask for a version of it that is on the registry: npm install {name}@VERSION",
        )
    if not isinstance(version, str) or not _VERSION.match(version):
        lock.refuse(f"'{name}' has no version that can be read", at, hint=_MAKE)
    integrity = entry.get("integrity")
    found = best_hash(integrity) if isinstance(integrity, str) else None
    if found is None:
        lock.refuse(
            f"'{name}' {version} has no hash that can be relied on ('integrity': {', '.join(STRONG)})",
            at,
            hint="remove its entry there and node_modules, then let npm 7 or a later one look it up: npm install",
        )
    return WantedFile(
        ecosystem="npm",
        name=str(name),
        version=version,
        hash=found,
        place=f"{lock.name}:{line}",
        index=source_of(str(name), use.sources),
    )


def _require_scripts(lock: AuthorText, use: NpmPackages, entries: Mapping[str, Any]) -> None:
    names = {path.rpartition(_MODULES)[2] for path in entries}
    for name in use.scripts:
        if name not in names:
            lock.refuse(f"'{name}', whose scripts image.npm wants to be run, is not in it")


def _unscripted(names: Sequence[str], file: str) -> Iterator[str]:
    if names:
        shown = ", ".join(names)
        yield (
            f"{file}: install scripts of {shown} are not run; where the service needs what they make, name them:"
            f" scripts: [{shown}] in image.npm"
        )


def _without_addresses(data: bytes) -> bytes:
    """Return a lock file that npm finds all in its cache by: every file by its hash, none by where it came from."""
    found = json.loads(data.decode("utf-8-sig"))
    packages: dict[str, dict[str, Any]] = {}
    for path, entry in found["packages"].items():
        packages[path] = dict(entry)
        best = best_hash(str(entry.get("integrity", "")))
        if path and best:
            name = str(entry.get("name", path.rpartition(_MODULES)[2]))
            file = f"{name.rpartition('/')[2]}-{entry.get('version')}.tgz"
            packages[path] |= {"resolved": f"{_NOWHERE}/{name}/-/{file}", "integrity": best}
    kept = {key: value for key, value in found.items() if key != "dependencies"}
    return json.dumps({**kept, "lockfileVersion": 3, "packages": packages}, indent=2, ensure_ascii=False).encode()


def _lay_out(artifacts: Sequence[Artifact], cache: Cache, folder: Path) -> None:
    """Make npm's own cache of ``artifacts``, of names of the files that there are."""
    for one in artifacts:
        path = folder / content_path(one.hash)
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            path.hardlink_to(cache.verify(one.sha256))


def _settings(room: Workroom, use: NpmPackages) -> dict[str, str]:
    """Return npm's configuration: nothing of an image's own, no network, nothing that is left behind."""
    headers = next((top for top in ("/usr/local", "/usr") if room.exists(f"{top}/{_HEADERS}")), None)
    settings = {
        "audit": "false",
        "cache": _CACHE,
        "fund": "false",
        "globalconfig": f"{_CACHE}/global",
        "logs_max": "0",
        "offline": "true",
        "update_notifier": "false",
        "userconfig": f"{_CACHE}/user",
        **({"legacy_peer_deps": "true"} if use.legacy_peer_deps else {}),
        **({"nodedir": headers} if headers else {}),
    }
    return {f"npm_config_{name}": value for name, value in settings.items()}

"""uv as a solver: which wheels satisfy a requirements file, on one version of Python and one C library.

Only wheels: nothing is built, so that nothing of an index runs here and what is locked is what is installed.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from urllib.parse import unquote, urlsplit

from instar import process
from instar.errors import DefinitionError, FetchError, ResolveError, SourceUnreachable
from instar.fetch.cache import Cache
from instar.fetch.index import Index, read_index
from instar.fetch.requirements import Requirement, normal_name
from instar.model.digest import Digest
from instar.model.lock import Wheel

Update = Collection[str] | Literal["all"] | None

_TIMEOUT_S = 300
_SHOWN_LINES = 10
_MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}
_UV_GLIBC_MINORS = (17, 28, 31, 32, 33, 34, 35, 36, 37, 38, 39, 40)
_OLD_NAMES = {17: "manylinux2014", 12: "manylinux2010", 5: "manylinux1"}
_NO_ANSWER = re.compile(r"Failed to fetch: (\S+)|error sending request|Request failed after|timed out", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True, slots=True)
class Target:
    """What wheels must run on. ``python`` as in "3.11"; ``architecture`` is Debian's name; glibc is 2.``minor``."""

    python: str
    architecture: str
    glibc_minor: int

    @property
    def machine(self) -> str:
        """Raises ResolveError when wheels have no name for the architecture."""
        if self.architecture not in _MACHINES:
            raise ResolveError(f"cannot lock wheels for '{self.architecture}': known are {', '.join(_MACHINES)}")
        return _MACHINES[self.architecture]

    @property
    def uv_platform(self) -> str:
        minor = max((known for known in _UV_GLIBC_MINORS if known <= self.glibc_minor), default=_UV_GLIBC_MINORS[0])
        return f"{self.machine}-manylinux_2_{minor}"

    def platforms(self) -> list[str]:
        """Return the platform tags that run here, best first. Source: PEP 600."""
        oldest = 5 if self.machine == "x86_64" else 17
        tags = []
        for minor in range(self.glibc_minor, oldest - 1, -1):
            tags.append(f"manylinux_2_{minor}_{self.machine}")
            if minor in _OLD_NAMES:
                tags.append(f"{_OLD_NAMES[minor]}_{self.machine}")
        return [*tags, f"linux_{self.machine}"]

    def ranks(self) -> dict[str, int]:
        """Return every tag of a wheel that runs here and how good it is; 0 is best. Source: PEP 425."""
        from packaging import tags

        version = tuple(int(part) for part in self.python.split("."))
        platforms = self.platforms()
        found = [
            *tags.cpython_tags(version, platforms=platforms),
            *tags.compatible_tags(version, interpreter=f"cp{version[0]}{version[1]}", platforms=platforms),
        ]
        return {str(tag): rank for rank, tag in reversed(list(enumerate(found)))}


def solve_wheels(
    requirements: Sequence[Requirement],
    target: Target,
    cache: Cache,
    *,
    previous: Sequence[Wheel] = (),
    update: Update = None,
) -> tuple[Wheel, ...]:
    """Return the wheels that satisfy ``requirements``, sorted by name.

    Versions of ``previous`` are kept where they fit, except those that ``update`` names.

    Raises:
        DefinitionError: a requirement is malformed.
        ResolveError: no set of wheels satisfies them, or a hash in them rules every wheel out.
        SourceUnreachable: the index does not answer.
    """
    _require_well_formed(requirements)
    if not requirements:
        return ()
    kept = () if update == "all" else [wheel for wheel in previous if wheel.name not in (update or ())]
    with cache.workspace() as folder:
        answer = folder / "pylock.toml"  # uv keeps the versions that it finds in the file it will write
        if kept:
            answer.write_text(_as_pylock(kept))
        wish = folder / "requirements.txt"
        wish.write_text("".join(f"{one.text}\n" for one in requirements))
        index = read_index()
        done = process.run(
            _command(wish, answer, target, cache.folder("uv"), index),
            timeout_s=_TIMEOUT_S,
            env=index.uv_environment(cache.folder("uv")),
            check=False,
        )
        if done.returncode != 0:
            raise _error(done.stderr.decode("utf-8", "replace"), requirements)
        found = _read_pylock(answer)
    return _chosen(found, requirements, target)


def _command(wish: Path, answer: Path, target: Target, uv_cache: Path, index: Index) -> list[str]:
    import uv

    return [
        *(uv.find_uv_bin(), "pip", "compile", str(wish), "--output-file", str(answer), "--format", "pylock.toml"),
        *("--only-binary", ":all:", "--no-config", "--no-sources", "--quiet", "--cache-dir", str(uv_cache)),
        *("--python", sys.executable, "--python-version", target.python, "--python-platform", target.uv_platform),
        *index.uv_options(),
    ]


def _require_well_formed(requirements: Sequence[Requirement]) -> None:
    from packaging import requirements as pep508

    problems = []
    for one in requirements:
        try:
            pep508.Requirement(one.text)
        except pep508.InvalidRequirement as error:
            problems.append(one.problem(f"cannot read '{one.text}': {str(error).splitlines()[0]}"))
    if problems:
        raise DefinitionError(problems)


def _as_pylock(wheels: Sequence[Wheel]) -> str:
    entries = [f'[[packages]]\nname = "{wheel.name}"\nversion = "{wheel.version}"\n' for wheel in wheels]
    return "\n".join(('lock-version = "1.0"\ncreated-by = "instar"\n', *entries))


def _read_pylock(path: Path) -> list[tuple[str, str, list[tuple[str, Digest]]]]:
    """Return (name, version, [(file name, SHA-256)]) of each package. Source: PEP 751."""
    import tomllib

    packages: list[dict[str, Any]] = tomllib.loads(path.read_text("utf-8")).get("packages", [])
    found = []
    for package in packages:
        wheels = [
            (_filename(wheel), Digest.from_hex(wheel["hashes"]["sha256"]))
            for wheel in package.get("wheels", [])
            if "sha256" in wheel.get("hashes", {})
        ]
        found.append((package["name"], package.get("version", ""), wheels))
    return found


def _filename(wheel: Mapping[str, str]) -> str:
    return wheel.get("name") or unquote(urlsplit(wheel.get("url") or wheel.get("path") or "").path).rsplit("/", 1)[-1]


def _chosen(
    found: Sequence[tuple[str, str, list[tuple[str, Digest]]]], requirements: Sequence[Requirement], target: Target
) -> tuple[Wheel, ...]:
    ranks = target.ranks()
    wanted = {one.name: one for one in requirements}
    chosen = []
    for name, version, wheels in found:
        one = wanted.get(normal_name(name))
        allowed = {file: sha256 for file, sha256 in wheels if not (one and one.hashes) or sha256.hex in one.hashes}
        filename = best_wheel(list(allowed), ranks)
        if filename is None:
            raise _no_wheel(name, version, wheels, one, target, hashes_fit=bool(allowed))
        chosen.append(Wheel(name=normal_name(name), version=version, filename=filename, sha256=allowed[filename]))
    return tuple(sorted(chosen, key=lambda wheel: wheel.name))


def best_wheel(filenames: Sequence[str], ranks: Mapping[str, int]) -> str | None:
    """Return the wheel that fits best, by the tags of its name; None when none runs there. Source: PEP 427."""
    ranked = [(rank, filename) for filename in filenames if (rank := _rank(filename, ranks)) is not None]
    return min(ranked)[1] if ranked else None


def _rank(filename: str, ranks: Mapping[str, int]) -> int | None:
    parts = filename.removesuffix(".whl").rsplit("-", 3)
    if len(parts) != 4 or not filename.endswith(".whl"):
        return None
    pythons, abis, platforms = (part.split(".") for part in parts[1:])
    known = [
        ranks[tag]
        for python in pythons
        for abi in abis
        for platform in platforms
        if (tag := f"{python}-{abi}-{platform}".lower()) in ranks
    ]
    return min(known, default=None)


def _no_wheel(
    name: str,
    version: str,
    wheels: Sequence[tuple[str, Digest]],
    one: Requirement | None,
    target: Target,
    *,
    hashes_fit: bool,
) -> ResolveError:
    place = f"{one.place}: " if one else ""
    there = ", ".join(filename for filename, _ in wheels) or "none"
    if not hashes_fit:
        return ResolveError(
            f"{place}cannot lock '{name}': no wheel of {version} has a hash that is written there",
            hint=f"the wheels there are: {there}",
        )
    return ResolveError(
        f"{place}cannot lock '{name}': {version} has no wheel for Python {target.python} on {target.machine}",
        hint=f"the wheels there are: {there}",
    )


def _error(told: str, requirements: Sequence[Requirement]) -> ResolveError | FetchError:
    text = told.strip().removeprefix("error: ")
    unreachable = _NO_ANSWER.search(text)
    if unreachable:
        lines = [line.strip().removeprefix("cause: ") for line in text.splitlines() if line.strip()]
        where = next((line for line in lines if line.startswith("Failed to fetch")), lines[0])
        return SourceUnreachable(
            f"cannot lock the wheels: the package index does not answer: {where}: {lines[-1]}",
            hint="check the network, its proxy, and pip's configuration (pip config list)",
        )
    cause, *hints = re.split(r"\n\s*hint: ", text)
    cause = re.sub(r"\A.*?\n\s*cause: ", "", cause, flags=re.DOTALL)
    named = [one for one in requirements if re.search(rf"(?<![\w-]){re.escape(one.name)}(?![\w-])", text.lower())]
    what = ", ".join(f"'{one.text}' ({one.place})" for one in named[:_SHOWN_LINES]) or "the wheels"
    lines = [re.sub(r"\s+", " ", line).strip() for line in cause.splitlines()][:_SHOWN_LINES]
    return ResolveError(
        f"cannot lock {what}: {' '.join(lines)}",
        hint="; ".join(re.sub(r"\s+", " ", hint).strip() for hint in hints) or None,
    )

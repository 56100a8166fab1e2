"""uv as a solver: which wheels satisfy a requirements file, on one version of Python and one C library.

Only wheels: nothing is built, so that nothing of an index runs here and what is locked is what is installed.
"""

from __future__ import annotations

import dataclasses
import re
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal
from urllib.parse import unquote, urlsplit

from instar import process
from instar.definition.problems import nearest
from instar.errors import DefinitionError, FetchError, ResolveError, SourceUnreachable
from instar.fetch.cache import Cache
from instar.fetch.index import PipConfiguration, read_index
from instar.fetch.indexes import PythonIndex, all_from, find_index, write_certificates
from instar.fetch.origins import from_indexes, refusal
from instar.fetch.requirements import Requirement, normal_name
from instar.fetch.target import WheelTarget, best_wheel
from instar.frozen import dataclass
from instar.model.digest import Digest
from instar.model.lock import ASKED, Wheel, Why
from instar.model.reasons import explain

Update = Collection[str] | Literal["all"] | None

_TIMEOUT_S = 300
_SHOWN_LINES = 10
_NO_ANSWER = re.compile(r"Failed to fetch: (\S+)|error sending request|Request failed after|timed out", re.IGNORECASE)
_PINNED = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*)(?:==| @ )")
_VIA = re.compile(r" {4}#(?: via)? {1,3}([A-Za-z0-9][A-Za-z0-9._-]*)\Z")
_NO_WHEEL = re.compile(r"Wheels are required for `([A-Za-z0-9._-]+)`")
_UNKNOWN = re.compile(r"(?<![\w.-])([a-z0-9][a-z0-9._-]*) was not found in the package registry")
_ASKED = "pip config list shows which indexes are asked"
# names that a misspelt one probably means; nothing else is decided by them
_WELL_KNOWN = """
aiohttp alembic attrs bcrypt beautifulsoup4 boto3 bottle celery certifi cffi charset-normalizer click cryptography
django djangorestframework dnspython fastapi flask flask-cors flask-login flask-sqlalchemy gevent greenlet grpcio
gunicorn httpx hypercorn idna itsdangerous jinja2 jsonschema kombu lxml markdown markupsafe marshmallow matplotlib
numpy openpyxl orjson packaging pandas paramiko peewee pillow prometheus-client protobuf psycopg psycopg2-binary
pydantic pyjwt pymongo pymysql pyyaml redis requests rich scikit-learn scipy sentry-sdk setuptools sqlalchemy
starlette tornado tqdm typing-extensions urllib3 uvicorn waitress websockets werkzeug whitenoise
"""
_YANKED = re.compile(r'^warning: `([^`=\n]+)==([^`\n]+)` is yanked(?: \(reason: "([^\n]*)"\))?', re.MULTILINE)


def solve_wheels(
    requirements: Sequence[Requirement],
    target: WheelTarget,
    cache: Cache,
    *,
    previous: Sequence[Wheel] = (),
    update: Update = None,
    warn: Callable[[str], None] = lambda text: None,
    sources: Mapping[str, Sequence[str]] = MappingProxyType({}),
    built: Sequence[Wheel] = (),
) -> tuple[Wheel, ...]:
    """Return the wheels that satisfy ``requirements``, sorted by name, each with why it is there.

    Versions of ``previous`` are kept where they fit, except those that ``update`` names. ``warn`` is told of versions
    that were yanked: taken back by who published them, and taken here only where nothing else is asked for. ``sources``
    are the indexes that projects come from, by their names on this machine (``indexes.source_of``). ``built`` are
    wheels in the cache that stand for what an index has of their projects.

    Raises:
        DefinitionError: a requirement is malformed.
        ResolveError: no set of wheels satisfies them, a hash in them rules every wheel out, or one would come from
            another index than it has to.
        FetchError: this machine knows no index of a name, or it lets nobody in with the password that there is.
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
        own = {wheel.name: wheel for wheel in built}
        wish = folder / "requirements.txt"
        wish.write_text("".join(f"{_asked(one, own, cache, folder)}\n" for one in requirements))
        indexes, index = _indexes(sources, folder)
        ask = _Uv(wish, requirements, target, cache.folder("uv"), index)
        told = ask("--output-file", str(answer), "--format", "pylock.toml")
        chosen = _chosen(_read_pylock(answer), requirements, own, target)
        annotated = _annotated(ask, chosen, folder, by_index=bool(sources))
    for match in _YANKED.finditer(told):
        warn(f"{match[1]} {match[2]} was yanked by who published it{f': {match[3]}' if match[3] else ''}")
    reasons = _reasons(annotated, requirements)
    explained = [dataclasses.replace(wheel, why=reasons.get(wheel.name)) for wheel in chosen]
    return from_indexes(explained, annotated, indexes, sources, previous) if sources else tuple(explained)


def _indexes(sources: Mapping[str, Sequence[str]], folder: Path) -> tuple[Sequence[PythonIndex], PipConfiguration]:
    """Return the indexes that ``sources`` name, and where uv is to look, with certificates in ``folder``."""
    indexes = [find_index(name) for name in sources]
    index = read_index().with_indexes(indexes, all_from(sources))
    certificates = write_certificates(indexes, folder / "certificates.pem", index.cert)
    return indexes, dataclasses.replace(index, cert=str(certificates)) if certificates else index


@dataclass(frozen=True, slots=True)
class _Uv:
    """uv's resolver, asked the same in several words. Returns what it says besides."""

    wish: Path
    requirements: Sequence[Requirement]
    target: WheelTarget
    cache: Path
    index: PipConfiguration

    def __call__(self, *words: str) -> str:
        command = _command(self.wish, self.target, self.cache, self.index, *words)
        environment = self.index.uv_environment(self.cache)
        done = process.run(command, timeout_s=_TIMEOUT_S, env=environment, check=False)
        told = done.stderr.decode("utf-8", "replace")
        if done.returncode != 0:
            raise solver_error(told, self.requirements, self.index.named)
        return told


def _annotated(ask: _Uv, chosen: Sequence[Wheel], folder: Path, *, by_index: bool) -> str:
    """Return uv's notes on exactly these wheels: who needs each, and (``by_index``) where it comes from."""
    exact, again = folder / "exact.txt", folder / "reasons.txt"
    exact.write_text("".join(f"{wheel.name}=={wheel.version}\n" for wheel in chosen))
    places = ["--emit-index-annotation"] if by_index else []
    ask("--output-file", str(again), "--constraints", str(exact), "--annotation-style", "split", *places)
    return again.read_text("utf-8")


def _reasons(annotated: str, requirements: Sequence[Requirement]) -> dict[str, Why]:
    """Return why each project is there, from uv's notes below each: ``# via``, and who needs it."""
    needs: dict[str, set[str]] = {}
    name = ""
    for line in annotated.splitlines():
        if match := _PINNED.match(line):
            name = normal_name(match[1])
            needs.setdefault(name, set())
        elif name and (above := _VIA.match(line)):
            needs.setdefault(normal_name(above[1]), set()).add(name)
    return explain(dict.fromkeys((one.name for one in requirements), ASKED), needs)


def _command(wish: Path, target: WheelTarget, uv_cache: Path, index: PipConfiguration, *words: str) -> list[str]:
    import uv

    return [
        *(uv.find_uv_bin(), "pip", "compile", str(wish), *words, "--no-header", "--color", "never"),
        *("--only-binary", ":all:", "--no-config", "--no-sources", "--no-progress", "--cache-dir", str(uv_cache)),
        *("--python", sys.executable, "--python-version", target.python, "--python-platform", target.uv_platform),
        *index.uv_options(),
    ]


def _asked(one: Requirement, built: Mapping[str, Wheel], cache: Cache, folder: Path) -> str:
    """Return a requirement in uv's words. A wheel of the author's, or one that was built, is read in the cache."""
    if one.path is not None:
        filename, sha256 = one.wheel_name, Digest.from_hex(one.hashes[0])
    elif one.name in built:
        filename, sha256 = built[one.name].filename, built[one.name].sha256
    else:
        return one.text
    (folder / "own").mkdir(exist_ok=True)
    wheel = folder / "own" / filename
    if not wheel.exists():
        wheel.hardlink_to(cache.verify(sha256))
    return f"{_without_version(one)} @ {wheel.as_uri()}{_marker(one)}"


def _without_version(one: Requirement) -> str:
    if one.path is not None:
        return one.name
    extras = re.match(r"[^\[;]*(\[[^\]]*\])", one.text)
    return f"{one.name}{extras[1] if extras else ''}"


def _marker(one: Requirement) -> str:
    marker = one.text.partition(";")[2]
    return f" ; {marker.strip()}" if marker and one.path is None else ""


def _require_well_formed(requirements: Sequence[Requirement]) -> None:
    from packaging import requirements as pep508

    problems = []
    for one in (one for one in requirements if one.path is None):
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
            for wheel in (*package.get("wheels", []), *([package["archive"]] if "archive" in package else []))
            if "sha256" in wheel.get("hashes", {})
        ]
        found.append((package["name"], package.get("version", ""), wheels))
    return found


def _filename(wheel: Mapping[str, str]) -> str:
    return wheel.get("name") or unquote(urlsplit(wheel.get("url") or wheel.get("path") or "").path).rsplit("/", 1)[-1]


def _chosen(
    found: Sequence[tuple[str, str, list[tuple[str, Digest]]]],
    requirements: Sequence[Requirement],
    own: Mapping[str, Wheel],
    target: WheelTarget,
) -> tuple[Wheel, ...]:
    ranks = target.ranks()
    wanted = {one.name: one for one in requirements}
    chosen = []
    for name, version, wheels in found:
        if normal_name(name) in own:
            chosen.append(own[normal_name(name)])
            continue
        one = wanted.get(normal_name(name))
        allowed = {file: sha256 for file, sha256 in wheels if not (one and one.hashes) or sha256.hex in one.hashes}
        filename = best_wheel(list(allowed), ranks)
        if filename is None:
            raise _no_wheel(name, version, wheels, one, target, hashes_fit=bool(allowed))
        chosen.append(
            Wheel(
                name=normal_name(name),
                version=version,
                filename=filename,
                sha256=allowed[filename],
                path=one.path if one else None,
            )
        )
    return tuple(sorted(chosen, key=lambda wheel: wheel.name))


def _no_wheel(
    name: str,
    version: str,
    wheels: Sequence[tuple[str, Digest]],
    one: Requirement | None,
    target: WheelTarget,
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


def solver_error(
    told: str, requirements: Sequence[Requirement], indexes: Sequence[PythonIndex] = ()
) -> ResolveError | FetchError:
    """Return what uv has ``told`` on its standard error in this program's words."""
    if refused := refusal(told, indexes):
        return refused
    text = re.split(r"^error: ", told.strip(), maxsplit=1, flags=re.MULTILINE)[-1]
    unreachable = _NO_ANSWER.search(text)
    if unreachable:
        lines = [line.strip().removeprefix("cause: ") for line in text.splitlines() if line.strip()]
        where = next((line for line in lines if line.startswith("Failed to fetch")), lines[0])
        return SourceUnreachable(
            f"cannot lock the wheels: the package index does not answer: {where}: {lines[-1]}",
            hint="check the network, its proxy, and pip's configuration (pip config list)",
        )
    source_only = _NO_WHEEL.search(text)
    if source_only:
        name = source_only[1]
        one = next((one for one in requirements if one.name == normal_name(name)), None)
        return ResolveError(
            f"{f'{one.place}: ' if one else ''}cannot lock '{name}': the index has no wheel of it that"
            " fits, only source",
            hint=f"choose a version that has wheels, or have one built: {name}==VERSION in the requirements, and its"
            f" name in python.from_source ({{STAGE: [{name}]}})",
        )
    unknown = _UNKNOWN.search(text)
    if unknown:
        return _no_project(unknown[1], text, requirements)
    cause, hints = _explanation(text)
    words = set(re.findall(r"[a-z0-9][a-z0-9._-]*", text.lower()))
    named = [one for one in requirements if one.name in {normal_name(word) for word in words}]
    what = ", ".join(f"'{one.text}' ({one.place})" for one in named[:_SHOWN_LINES]) or "the wheels"
    return ResolveError(f"cannot lock {what}: {' '.join(cause[:_SHOWN_LINES])}", hint="; ".join(hints) or None)


def _no_project(name: str, text: str, requirements: Sequence[Requirement]) -> ResolveError:
    """Return what to say of a name that no index has: of a requirement itself, or of what one of them needs."""
    one = next((one for one in requirements if one.name == normal_name(name)), None)
    if one is None:
        asked = f"what is required needs '{name}', and no index that this machine asks has it"
        cause = " ".join(_explanation(text)[0][:_SHOWN_LINES])
        return ResolveError(f"cannot lock the wheels: {asked}: {cause}", hint=_ASKED)
    near = nearest(one.name, _WELL_KNOWN.split(), cutoff=0.75)
    return ResolveError(
        f"{one.place}: cannot lock '{one.text}': no index that this machine asks has a project of that name",
        hint=f"did you mean '{near}'?" if near else f"is the name spelt right? {_ASKED}",
    )


def _explanation(text: str) -> tuple[list[str], list[str]]:
    """Return the lines of the cause that uv gives, the last of several, and its hints."""
    cause, hints = list[str](), list[str]()
    here = cause
    for line in (" ".join(line.split()) for line in text.splitlines()):
        if line.startswith("cause: ") and here is cause:
            cause.clear()
            cause.append(line.removeprefix("cause: "))
        elif line.startswith("hint: "):
            here = hints
            hints.append(line.removeprefix("hint: "))
        elif line and here is hints:
            hints[-1] += f" {line}"
        elif line:
            cause.append(line)
    return cause, hints

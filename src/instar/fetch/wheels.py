"""Wheels, fetched by hash from whatever index pip is configured for.

pip does the transfer, so that the machine's index, credentials and certificates hold; its requirement of hashes
makes it take the very file that is locked, and what it brings is hashed again on the way into the cache.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from instar import process
from instar.errors import CommandFailed, FetchError, HashMismatch, SourceUnreachable
from instar.fetch.cache import Cache
from instar.fetch.index import pip_command, pip_environment
from instar.fetch.indexes import PythonIndex, find_index, write_certificates
from instar.fetch.network import CONNECT_TIMEOUT_S, RETRIES
from instar.model.lock import Wheel

_TIMEOUT_S = 1800
_MISMATCH = re.compile(
    r"^ {4}([A-Za-z0-9._-]+)==[^\n]*\n {1,40}Expected sha256 ([0-9a-f]{64})\n {1,40}Got {1,40}([0-9a-f]{64})", re.M
)
_MISSING = re.compile(r"No matching distribution found for ([A-Za-z0-9._-]+)==")
_UNKNOWN = re.compile(r"that satisfies the requirement \S+ \(from versions: none\)")
_NO_ANSWER = re.compile(r"^.*?(?:after connection broken by|Could not fetch URL|ReadTimeoutError)(.*)", re.M)


def fetch_wheels(wheels: Sequence[Wheel], python: str, cache: Cache, index: str | None = None) -> None:
    """Fetch ``wheels`` into the cache. ``python`` is the version they are for, as in "3.11"; ``index`` is where they
    are, by its name on this machine, None where pip is configured for it.

    Raises:
        SourceUnreachable: the index does not answer.
        FetchError: a wheel is no longer on the index, or this machine knows none of that name.
        HashMismatch: the index has other bytes than the lock says.
    """
    with cache.workspace() as folder:
        wish = folder / "requirements.txt"
        wish.write_text("".join(f"{one.name}=={one.version} --hash={one.sha256}\n" for one in wheels))
        named = find_index(index) if index is not None else None
        certificates = write_certificates([named] if named else [], folder / "certificates.pem")
        environment = pip_environment(index=named, certificates=certificates)
        told = _download(wish, folder / "wheels", wheels, python, environment)
        for wheel in wheels:
            file = folder / "wheels" / wheel.filename
            if file.is_file():
                cache.take(file, wheel.sha256)
    left = [wheel for wheel in wheels if cache.find(wheel.sha256) is None]
    if left:
        raise _error(left, told, named)


def _download(wish: Path, folder: Path, wheels: Sequence[Wheel], python: str, environment: Mapping[str, str]) -> str:
    try:
        done = process.run(_command(wish, folder, wheels, python), timeout_s=_TIMEOUT_S, env=environment, check=False)
    except CommandFailed:
        return f"no end after {_TIMEOUT_S} s"
    return done.stderr.decode("utf-8", "replace")


def _command(wish: Path, folder: Path, wheels: Sequence[Wheel], python: str) -> list[str]:
    """Return pip's command. It is told only the tags that the wheels have: it looks at each file once per tag."""
    tags = [wheel.filename.removesuffix(".whl").rsplit("-", 2)[1:] for wheel in wheels]
    abis = sorted({abi for tag in tags for abi in tag[0].split(".")} | {"none"})
    platforms = sorted({platform for tag in tags for platform in tag[1].split(".")})
    return pip_command(
        *("download", "--quiet", "--no-cache-dir", "--no-deps", "--only-binary", ":all:", "--require-hashes"),
        *("--requirement", str(wish), "--dest", str(folder), "--timeout", str(CONNECT_TIMEOUT_S)),
        *("--retries", str(RETRIES), "--implementation", "cp", "--python-version", python),
        *(word for abi in abis for word in ("--abi", abi)),
        *(word for platform in platforms for word in ("--platform", platform)),
    )


def _error(left: Sequence[Wheel], told: str, index: PythonIndex | None = None) -> FetchError:
    what = f"the index '{index.name}'" if index else "the package index"
    check = f"indexes.{index.name} in this machine's own file" if index else "pip's configuration (pip config list)"
    mismatch = _MISMATCH.search(told)
    if mismatch:
        return HashMismatch(
            f"cannot fetch the wheel of '{mismatch[1]}': {what} has other bytes (SHA-256 {mismatch[3]})"
            f" than the lock says ({mismatch[2]})",
            hint=f"if that is meant: instar lock --update {mismatch[1]}",
        )
    missing = _MISSING.search(told)
    wheel = next((one for one in left if missing and one.name == missing[1]), left[0])
    silent = _NO_ANSWER.search(told)
    lines = [line for line in told.splitlines() if line.startswith("ERROR: ")] or told.splitlines() or ["no answer"]
    if missing and not silent and _UNKNOWN.search(told):
        return FetchError(
            f"cannot fetch '{wheel.filename}': {what}{'' if index else ' that this machine asks'} has no '{wheel.name}'"
            " at all",
            hint=f"it may be on another one, or not be shown without a password: check {check}; or it is gone:"
            f" instar lock --update {wheel.name}",
        )
    if missing and not silent:
        return FetchError(
            f"cannot fetch '{wheel.filename}': it is no longer on {what}",
            hint=f"instar lock --update {wheel.name}",
        )
    cause = silent[1].partition(": ")[2].partition("')'")[0] if silent else ""
    return SourceUnreachable(
        f"cannot fetch '{wheel.filename}': {what} does not answer: {cause or lines[-1]}",
        hint=f"check the network, its proxy, and {check}",
    )

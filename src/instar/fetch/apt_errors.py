"""What apt says when it fails → what an operator is told."""

from __future__ import annotations

import re

from instar import process
from instar.errors import FetchError, HashMismatch, SourceUnreachable
from instar.fetch.sources import VARIABLE, Sources

_SHOWN_LINES = 6
_FAILED = re.compile(r"Failed to fetch (\S+)\s+(.*)")
_RECEIVED = "Hash Sum mismatch"
_STATUS = re.compile(r"\b(401|403|404) {2}")
OTHER_RELEASE = re.compile(r"changed its 'Codename' value from '([^'\n]*)' to '([^'\n]*)'")
_UNKNOWN_KEY = re.compile(r"NO_PUBKEY ([0-9A-F]{8,40})")
_BAD_SIGNATURE = re.compile(r"(EXPKEYSIG|REVKEYSIG|EXPSIG|BADSIG) ([0-9A-F]{8,40})")
_UNSIGNED = re.compile(r"The repository '([^'\n]*)' is not signed")
_MISSING = re.compile(r"The repository '([^'\n]*)' does not have a Release file")
_TIME = re.compile(r"Release file for \S+ is (expired \(invalid since|not valid yet \(invalid for another) ([^)\n]*)\)")
_ABOUT = {
    "EXPKEYSIG": "has expired",
    "REVKEYSIG": "was revoked",
    "EXPSIG": "made a signature that has expired",
    "BADSIG": "did not sign what the archive says: that was changed on the way, or is damaged",
}


def text_of(done: process.Completed) -> str:
    return (done.stdout + done.stderr).decode("utf-8", "replace")


def update_error(text: str, sources: Sources) -> FetchError:
    """Return why package lists could not be read, of what apt said."""
    files = ", ".join(str(file) for file in sources.files)
    hint = f"check the network, its proxy, and {files}; ${VARIABLE} names another file of sources"
    other = OTHER_RELEASE.search(text)
    if other:
        return FetchError(
            f"cannot read the package lists: an archive that was of release '{other[1]}' is of '{other[2]}' now",
            hint=f"see what {files} name; if it is meant, run the command again",
        )
    if sources.key and (error := _of_others(text, files)):
        return error
    failed = _FAILED.search(text)
    if failed:
        suite = next(
            (one.suite for one in sources.archives if failed[1].startswith(one.url(f"dists/{one.suite}/"))), ""
        )
        cause = failed[2].strip().rstrip(".")
        what = f"'{files}'" if sources.key else f"the archive of '{suite}'"
        hint = f"check its address and the network's proxy in {files}" if sources.key else hint
        return SourceUnreachable(f"cannot read {what}: {failed[1]}: {cause}", hint=hint)
    lines = [line for line in text.splitlines() if line.startswith("E: ")]
    return FetchError(f"cannot read the package lists: {lines[0][3:] if lines else text.strip()[-300:]}", hint=hint)


def _of_others(text: str, files: str) -> FetchError | None:
    """Return the same of an archive that the definition names, at ``files``; None when it does not answer."""
    what = f"cannot use '{files}'"
    key = _UNKNOWN_KEY.search(text)
    if key:
        return FetchError(
            f"{what}: it is signed by the key {key[1]}, which is not in its 'signed_by'",
            hint="ask whoever keeps the archive, in another way than by it, whether that is the key now",
        )
    signature = _BAD_SIGNATURE.search(text)
    if signature:
        hint = "ask whoever keeps the archive for the key that it has now, and nothing of what it says was taken"
        return FetchError(f"{what}: the key {signature[2]} {_ABOUT[signature[1]]}", hint=hint)
    time = _TIME.search(text)
    if time and time[1].startswith("expired"):
        hint = "a mirror may hide what is new; of a snapshot, say which day it is of: 'as_of: 2026-01-31'"
        return FetchError(f"{what}: its Release file expired {time[2]} ago", hint=hint)
    if time:
        return FetchError(f"{what}: its Release file is of the future, by {time[2]}", hint="check this machine's clock")
    missing = _MISSING.search(text)
    if missing:
        return FetchError(f"{what}: there is no Release file at '{missing[1]}'", hint="check 'uris' and 'suites'")
    failed = _FAILED.search(text)
    if failed and _RECEIVED in text:
        return HashMismatch(f"{what}: {failed[1]} is not what its signed Release file says: changed, or not up to date")
    status = _STATUS.search(failed[2]) if failed else None
    if failed and status and status[1] in ("401", "403"):
        return FetchError(
            f"{what}: {failed[1]} answers {status[1]}: it wants a password, or another one",
            hint="which one it gets is this machine's business: /etc/apt/auth.conf.d (apt_auth.conf(5))",
        )
    if _UNSIGNED.search(text) and not failed:
        return FetchError(f"{what}: it is not signed, or by nothing that 'signed_by' could hold")
    if failed:
        return None
    lines = [line[3:] for line in text.splitlines() if line.startswith("E: ")] or ["it ended without a word"]
    return FetchError(f"{what}: apt cannot read what it says: {lines[0]}", hint="ask whoever keeps the archive")


def explanation(text: str) -> str:
    """Return what apt says of an unsatisfiable wish, without what it says each time."""
    lines = [line.rstrip() for line in text.splitlines() if line.strip()]
    marks = [number for number, line in enumerate(lines) if "unmet dependencies" in line]
    if marks:
        told = [line.strip() for line in lines[marks[0] + 1 :] if not line.startswith("E: ")]
    else:
        told = [line[3:] for line in lines if line.startswith("E: ")] or lines[-1:]
    rest = len(told) - _SHOWN_LINES
    return "\n".join((*told[:_SHOWN_LINES], *((f"and {rest} more",) if rest > 0 else ())))

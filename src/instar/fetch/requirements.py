"""A requirements file → its requirements, each with the line it stands in.

Only what can be locked is let in: names with versions, extras, markers and ``--hash=sha256:…``, and wheels of the
author's by their paths (``./wheels/…``), which are hashed here. Options, other files and URLs are refused, with the
reason. Whether a requirement is well-formed to the last character is
for ``python.py`` to say, when it solves; this much must cost nothing, since it is read to see whether a lock fits.

Source: pip's documentation, Requirements File Format; PEP 508.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from instar.definition.author_files import open_author_file
from instar.errors import DefinitionError, Problem
from instar.fetch import own_wheels
from instar.frozen import dataclass

_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?")
_HASH = re.compile(r"\s--hash[=\s]\s*(\S+)")
_SHA256 = re.compile(r"sha256:([0-9a-f]{64})\Z")
_OPTION = re.compile(r"\s(--?[A-Za-z][\w-]*)")
_BY_URL = re.compile(r"[A-Za-z0-9._-]+\s*(\[[^\]]*\])?\s*@")
_OWN_WHEEL = re.compile(r"\./[^;\[\s]+\.whl\Z", re.IGNORECASE)
_PATH = re.compile(r"[./~]|[^;]*\.(whl|zip|tar\.gz|tar\.bz2)\s*(;|\Z)|[^;\[]*/")
_COMPARED = re.compile(r"([\w.-]+ ?(?:\[[^\]]*\])?)( ?=[<>]? ?| )([0-9][^\s=<>!~,;]*) ?(?:;.*)?")
_INDEX = "which index is asked is this machine's business: pip's configuration, or a name of it as python.index"
_REFUSED = {
    "-e": "what is not a wheel cannot be locked: build one, or copy the folder with image.files",
    "--editable": "what is not a wheel cannot be locked: build one, or copy the folder with image.files",
    "-r": "another file is not read: write its requirements here",
    "--requirement": "another file is not read: write its requirements here",
    "-c": "constraints are not read: write the versions here",
    "--constraint": "constraints are not read: write the versions here",
    **dict.fromkeys(("-i", "--index-url", "--extra-index-url", "-f", "--find-links", "--no-index"), _INDEX),
    "--trusted-host": _INDEX,
}
_OF_FILES = "of files, wheels in the definition's folder are read, such as ./wheels/acme-1.0-py3-none-any.whl"
SIZE_LIMIT_BYTES = 1 << 20


@dataclass(frozen=True, kw_only=True, slots=True)
class Requirement:
    """One requirement. ``text`` is without comments and hashes; ``hashes`` are SHA-256, hex; any when empty.

    ``path``: of a wheel of the author's, where it is in the definition's folder; its one hash is what it is now.
    """

    file: str
    line: int
    text: str
    hashes: tuple[str, ...] = ()
    path: str | None = None

    @property
    def name(self) -> str:
        """The project's name in its normal form. Source: PEP 503."""
        return project_of(self.text)

    @property
    def wheel_name(self) -> str:
        """The name of the author's wheel."""
        return (self.path or "").rpartition("/")[2]

    @property
    def place(self) -> str:
        return f"{self.file}:{self.line}"

    @property
    def written(self) -> str:
        """All of it in one line, as a lock keeps it."""
        return " ".join((self.text, *(f"--hash=sha256:{one}" for one in self.hashes)))

    def problem(self, message: str) -> Problem:
        return Problem(file=self.file, line=self.line, column=1, message=message)


def normal_name(text: str) -> str:
    """Return the project's name that ``text`` begins with, in its normal form."""
    match = _NAME.match(text)
    return re.sub(r"[-_.]+", "-", match[0]).lower() if match else ""


def project_of(text: str) -> str:
    """Return the project that a requirement asks for, in its normal form: of a wheel's path, what the wheel is of."""
    path = text.partition(" --hash")[0]
    return normal_name(path.rpartition("/")[2].partition("-")[0]) if _OWN_WHEEL.match(path) else normal_name(text)


def read_requirements(folder: Path, file: str) -> tuple[Requirement, ...]:
    """Read the requirements file ``file`` below ``folder``.

    Raises DefinitionError with all that is wrong in it.
    """
    try:
        found = open_author_file(folder, file, SIZE_LIMIT_BYTES)
    except OSError as error:
        raise _unreadable(file, error.strerror or str(error)) from error
    if not found.may_be_quoted:
        raise _unreadable(file, "only root may read it, and what it says would stand in the lock, for everybody")
    return _read(folder, file, found.data)


def _read(folder: Path, file: str, data: bytes) -> tuple[Requirement, ...]:
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise _unreadable(file, "it is not UTF-8 text", line) from error
    found = [_requirement(folder, file, line, words) for line, words in _logical_lines(text)]
    problems = [one for one in found if isinstance(one, Problem)]
    if problems:
        raise DefinitionError(problems)
    return tuple(one for one in found if isinstance(one, Requirement))


def _unreadable(file: str, cause: str, line: int = 1) -> DefinitionError:
    return DefinitionError([Problem(file=file, line=line, column=1, message=f"cannot be read: {cause}")])


def _logical_lines(text: str) -> Iterator[tuple[int, str]]:
    """Yield (number of the first line, words): continued lines joined, comments and empty lines left out."""
    begun, parts = 0, list[str]()
    for number, line in enumerate(text.splitlines(), 1):
        begun = begun if parts else number
        comment = line.lstrip().startswith("#")
        if line.endswith("\\") and not comment:
            parts.append(line[:-1])
            continue
        words = _words(" ".join((*parts, line)))
        parts = []
        if words:
            yield begun, words
    if parts and (words := _words(" ".join(parts))):
        yield begun, words


def _words(line: str) -> str:
    """Return what a line says, with one space between its words. A comment begins with a ``#`` that begins a word."""
    at = line.find("#")
    while at > 0 and not line[at - 1].isspace():
        at = line.find("#", at + 1)
    return " ".join((line if at < 0 else line[:at]).split())


def _requirement(folder: Path, file: str, line: int, words: str) -> Requirement | Problem:
    def problem(message: str) -> Problem:
        return Problem(file=file, line=line, column=1, message=message)

    if words.startswith("-"):
        option = re.split(r"[=\s]", words, maxsplit=1)[0]
        return problem(f"cannot use '{option}' here: {_REFUSED.get(option, 'options are not read')}")
    hashes = _HASH.findall(words)
    text = _HASH.sub("", words).strip()
    wrong = next((one for one in hashes if not _SHA256.match(one)), None)
    if wrong:
        return problem(f"cannot use the hash '{wrong}': expected sha256: and 64 hexadecimal digits")
    refused = _refused(text)
    if refused:
        return problem(f"cannot lock '{text}': {refused}")
    asked = tuple(one.partition(":")[2] for one in hashes)
    if not _OWN_WHEEL.match(text):
        return Requirement(file=file, line=line, text=text, hashes=asked)
    try:
        sha256 = own_wheels.sha256_of(folder, text[2:])
    except own_wheels.Unusable as error:
        return problem(f"cannot lock '{text}': {error}")
    if asked and sha256 not in asked:
        return problem(f"cannot lock '{text}': its SHA-256 is {sha256}, which is not a hash that is written here")
    return Requirement(file=file, line=line, text=text, hashes=(sha256,), path=text[2:])


def _refused(text: str) -> str | None:
    option = _OPTION.search(text)
    if option:
        return f"the option {option[1]} is not read"
    if "://" in text.partition(";")[0] or _BY_URL.match(text):
        return "a URL can change what it answers; name the project and its version, which the index has"
    if _OWN_WHEEL.match(text):
        return None
    if _PATH.match(text):
        return f"a file is not on the index; {_OF_FILES}"
    if not _NAME.match(text):
        return "expected the name of a project, such as 'flask==3.0'"
    compared = _COMPARED.fullmatch(text)
    if compared:
        meant = {"=>": ">=", "=<": "<="}.get(compared[2].strip(), "==")
        return f"no version is named so; write '{compared[1].strip()}{meant}{compared[3]}'"
    return None

"""Lines of a shell that build an image → packages, users and what is left to run. Nothing is run here."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Sequence
from typing import Final

from instar.adopt.draft import Draft, Origin, Part, scalar
from instar.adopt.instructions import LONGEST_LINE
from instar.adopt.instructions import words as words_of
from instar.definition import forms

_NOT_SPLIT: Final = frozenset({"if", "for", "while", "until", "case", "{", "(", "function"})
_NEEDS_NETWORK: Final = {
    "npm": "install them before, and copy node_modules",
    "yarn": "install them before, and copy node_modules",
    "pnpm": "install them before, and copy node_modules",
    "bundle": "vendor them before (bundle cache), and copy vendor/",
    "composer": "install them before, and copy vendor/",
    "go": "build it before, and copy the program",
    "cargo": "build it before, and copy the program",
    "mvn": "build it before, and copy the archive",
    "gradle": "build it before, and copy the archive",
    "./mvnw": "build it before, and copy the archive",
    "./gradlew": "build it before, and copy the archive",
    "dotnet": "build it before, and copy what it published",
    "gem": "take Debian's package (ruby-NAME), or vendor it",
    "curl": "name the file in image.fetch, with its sha256",
    "wget": "name the file in image.fetch, with its sha256",
    "git": "copy a checkout in image.files, or name an archive of it in image.fetch",
    "uv": "export its lock (uv export -o requirements.txt), and name it as image.python",
    "poetry": "export its lock (poetry export -o requirements.txt), and name it as image.python",
    "pipenv": "export its lock (pipenv requirements > requirements.txt), and name it as image.python",
}
_LEFTOVERS: Final = ("/var/lib/apt/lists", "/var/cache/apt", "/tmp/", "/var/tmp/", "/root/.cache")  # noqa: S108
_OTHERS: Final = {"apk": ("add",), "yum": ("install",), "dnf": ("install",), "microdnf": ("install",)}
_PIP: Final = re.compile(r"(?:python3? -m )?pip3?\Z")
_WITH_VALUE: Final = frozenset({"-t", "--target-release", "-o", "-c", "--virtual", "--repository"})


def carry_line(draft: Draft, line: str, workdir: str, origin: Origin) -> None:
    """Put what a line of RUN does into the draft."""
    kept = list[str]()
    for command in split(line):
        if not _carried(draft, command, origin):
            kept.append(command)
    if kept:
        text = " && ".join(kept)
        draft.run.append(
            Part(yaml=scalar(f"cd {shlex.quote(workdir)} && {text}" if workdir != "/" else text), origin=origin)
        )


def split(line: str) -> Sequence[str]:
    """Return the commands of ``a && b; c``; a line that is more than such a list is one command."""
    if len(line) > LONGEST_LINE:
        return [line]
    lexer = shlex.shlex(line, posix=False, punctuation_chars=";&|")
    lexer.whitespace_split, lexer.commenters = True, ""
    try:
        tokens = list(lexer)
    except ValueError:
        return [line]
    if any(token in _NOT_SPLIT or token in ("||", "|", "&") or token.startswith("(") for token in tokens):
        return [line]
    found: list[list[str]] = [[]]
    for token in tokens:
        if token in ("&&", ";"):
            found.append([])
        else:
            found[-1].append(token)
    return [" ".join(words) for words in found if words]


def _carried(draft: Draft, command: str, origin: Origin) -> bool:
    """Tell whether a command needs no line of its own: it is done otherwise, or named among what is left."""
    try:
        words = words_of(command)
    except ValueError:
        return False
    if _is_done_anyhow(words):
        return True
    while words and re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*=.*", words[0]):
        words = words[1:]
    words = words[1:] if words[:1] == ["sudo"] else words
    if not words:
        return True
    name = words[0].rpartition("/")[2] if words[0].startswith("/") else words[0]
    if name in ("apt", "apt-get"):
        return _apt(draft, words, origin)
    if name in _OTHERS:
        return _other_packages(draft, name, words, origin)
    if _PIP.match(" ".join(words[: 3 if words[0].startswith("python") else 1])):
        return _pip(draft, words[3 if words[0].startswith("python") else 1 :], origin)
    if name in ("useradd", "adduser", "groupadd", "addgroup", "usermod"):
        return _user(draft, name, words[1:], origin)
    if name in _NEEDS_NETWORK and not (name == "git" and words[1:2] == ["config"]):
        draft.leave(origin, f"'{name}' needs the network, which no step of a bake has: {_NEEDS_NETWORK[name]}")
        return True
    return False


def _is_done_anyhow(words: Sequence[str]) -> bool:
    """Tell whether a bake does that of itself, or what was left lying about never comes into a layer."""
    plain = [word for word in words if not word.startswith("-")]
    match plain:
        case [] | ["true" | ":"] | ["set", *_]:
            return True
        case ["export", one]:
            return one.startswith("DEBIAN_FRONTEND=")
        case ["apt" | "apt-get", "update" | "clean" | "autoclean" | "autoremove", *_]:
            return True
        case ["rm", *paths]:
            return bool(paths) and all(path.startswith(_LEFTOVERS) for path in paths)
        case ["pip" | "pip3", "install", *names]:
            return bool(names) and "-r" not in words and set(names) <= {"pip", "setuptools", "wheel"}
    return False


def _apt(draft: Draft, words: Sequence[str], origin: Origin) -> bool:
    verbs = [word for word in words[1:] if not word.startswith("-")]
    if verbs[:1] in (["upgrade"], ["dist-upgrade"], ["full-upgrade"]):
        draft.leave(origin, "nothing is upgraded in a bake: instar lock --update takes the newest packages")
        return True
    if verbs[:1] != ["install"]:
        return False
    for package in _operands(words[words.index("install") + 1 :]):
        _package(draft, package, origin)
    return True


def _package(draft: Draft, package: str, origin: Origin) -> None:
    name, _, version = package.partition("=")
    name = name.partition("/")[0]
    whole = package if version and "*" not in version else name
    try:
        forms.package(whole)
    except ValueError:
        draft.leave(origin, f"'{package}' is no name of a Debian package")
        return
    if version and "*" in version:
        draft.leave(origin, f"the version of '{package}': the lock holds the one that there is")
    draft.packages.setdefault(whole, origin)


def _other_packages(draft: Draft, tool: str, words: Sequence[str], origin: Origin) -> bool:
    if not any(word in _OTHERS[tool] for word in words[1:3]):
        return True
    for package in _operands(words[1:]):
        if package not in _OTHERS[tool] and not package.startswith(".") and package not in ("tini", "dumb-init"):
            draft.leave(origin, f"the package '{package}', which {tool} calls so: name Debian's under image.packages")
    return True


def _pip(draft: Draft, words: Sequence[str], origin: Origin) -> bool:
    if words[:1] != ["install"]:
        return False
    rest = iter(words[1:])
    for word in rest:
        if word in ("-r", "--requirement"):
            draft.requirements.setdefault(f"-r {next(rest, '')}", origin)
        elif word.startswith(("--requirement=", "-r")) and len(word) > len("-r"):
            draft.requirements.setdefault(f"-r {word.removeprefix('--requirement=').removeprefix('-r')}", origin)
        elif word in (
            "-e",
            "--editable",
            "-i",
            "--index-url",
            "--extra-index-url",
            "-c",
            "--constraint",
            "--target",
            "--prefix",
        ):
            draft.leave(origin, f"'pip install {word} {next(rest, '')}': name what it needs in the requirements file")
        elif word.startswith("-"):
            continue
        elif word == "." or word.startswith(("./", "/")) or "://" in word:
            draft.leave(
                origin, f"'pip install {word}': the project itself is not installed: copy it, or name its wheel"
            )
        else:
            draft.requirements.setdefault(word, origin)
    return True


def _user(draft: Draft, tool: str, words: Sequence[str], origin: Origin) -> bool:
    """Note the user that is made, whose numbers may be said; a group has none of its own here."""
    if tool not in ("useradd", "adduser"):
        return True
    numbers = dict[str, int]()
    rest, names = iter(words), list[str]()
    for word in rest:
        key, _, value = word.partition("=")
        if key in ("-u", "--uid", "-g", "--gid", "-G", "-d", "--home", "--home-dir", "-s", "--shell", "-c", "--comment",
                   "--gecos", "-h", "-k", "--ingroup", "--groups"):  # fmt: skip
            value = value or next(rest, "")
            if key in ("-u", "--uid") and value.isdigit():
                numbers["uid"] = int(value)
            elif key in ("-g", "--gid") and value.isdigit():
                numbers["gid"] = int(value)
        elif not word.startswith("-"):
            names.append(word)
    for name in names[:1]:
        draft.users[name] = (numbers.get("uid"), numbers.get("gid"))
    return True


def _operands(words: Sequence[str]) -> Iterator[str]:
    rest = iter(words)
    for word in rest:
        if word in _WITH_VALUE:
            next(rest, None)
        elif not word.startswith("-"):
            yield word

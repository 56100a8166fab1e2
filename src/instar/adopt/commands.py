"""Lines of a shell that build an image → packages, users and what is left to run. Nothing is run here."""

from __future__ import annotations

import re
import shlex
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from instar.adopt.draft import Draft, DraftValue, Origin, number, scalar
from instar.adopt.instructions import LONGEST_LINE, substituted
from instar.adopt.instructions import words as words_of
from instar.adopt.maven import only_fetches
from instar.adopt.names import packages_of_apk, packages_of_php
from instar.adopt.npm import carry_npm
from instar.definition import forms

_NOT_SPLIT: Final = frozenset({"if", "for", "while", "until", "case", "{", "(", "function"})
_NEEDS_NETWORK: Final = {
    "npm": "have a package-lock.json beside the definition, and name its folder as image.npm",
    "yarn": "install them before, and copy node_modules",
    "pnpm": "install them before, and copy node_modules",
    "bundle": "vendor them before (bundle cache), and copy vendor/",
    "composer": "install them before, and copy vendor/",
    "go": "build it before, and copy the program",
    "cargo": "build it before, and copy the program",
    "mvn": "build it in a stage (pom.xml beside the definition), or before, and copy the archive",
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
_INSTALLERS: Final = {
    "apt": "name its packages under image.packages",
    "apt-get": "name its packages under image.packages",
    "pip": "name them in a requirements file, and that as image.python",
    "pip3": "name them in a requirements file, and that as image.python",
}
_BEFORE_COMMANDS: Final = frozenset({"then", "do", "else", "elif", "!", "sudo", "exec"})
_ASSIGNMENT: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*=.*", re.DOTALL)
_NPM_BY_LOCK: Final = re.compile(r"package-lock\.json\b.{0,40}\bnpm (?:ci|i|install)\b", re.DOTALL)
_OF_NPM: Final = re.compile(r"(?:\A|[;&|] *)np[mx] ")
_WITHOUT_NETWORK: Final = {
    "git": ("config",),
    "npm": ("run", "run-script", "start", "test", "prune", "cache", "config", "set", "version"),
}
_LEFTOVERS: Final = ("/var/lib/apt/lists", "/var/cache/apt", "/var/cache/apk", "/tmp/", "/var/tmp/", "/root/.cache")  # noqa: S108
_OTHERS: Final = {"apk": ("add",), "yum": ("install",), "dnf": ("install",), "microdnf": ("install",)}
_PIP: Final = re.compile(r"(?:python3? -m )?pip3?\Z")
_PRINTED: Final = re.compile(r"[0-9]?>>?")
_WITH_VALUE: Final = frozenset({"-t", "--target-release", "-o", "-c", "--virtual", "--repository"})


def carry_line(
    draft: Draft,
    folder: Path,
    line: str,
    workdir: str,
    origin: Origin,
    variables: Mapping[str, str] | None = None,
    arguments: Collection[str] = (),
) -> None:
    """Put what a line of RUN does into the draft. ``folder`` is looked at for lock files; ``arguments`` are those of
    the ``variables`` that only a build has."""
    tokens, known = _tokens(line), variables or {}
    commands = _commands(tokens)
    if _only_warms_a_cache(line):
        return
    if commands is None:
        by_lock = _NPM_BY_LOCK.search(line) and carry_npm(draft, folder, ("npm", "ci"), workdir, origin)
        kept = [] if by_lock or _left(draft, tokens, origin) else [line]
    else:
        carried = (one for one in commands if not _carried(draft, folder, one, workdir, origin, known))
        kept = [re.sub(r"\Amkdir (?!-)", "mkdir -p ", command) for command in carried]
    if kept:
        draft.run.append(DraftValue(yaml=scalar(_line(kept, workdir, known, arguments)), origin=origin))
        if _OF_NPM.search(" && ".join(kept)) and "nodejs" in draft.packages:
            draft.packages.setdefault("npm", origin)


def _line(kept: Sequence[str], workdir: str, variables: Mapping[str, str], arguments: Collection[str]) -> str:
    """Return the line of a bake: in the folder that it worked in, with the arguments of the build that it names."""
    text = " && ".join(kept)
    named = [name for name in sorted(arguments) if re.search(rf"\$\{{?{name}\b", text) and name in variables]
    told = [f"export {name}={shlex.quote(variables[name])}" for name in named]
    return " && ".join([*told, *([f"cd {shlex.quote(workdir)}"] if workdir != "/" else []), text])


def _only_warms_a_cache(line: str) -> bool:
    """Tell whether a line compiles what crates need with a program of nothing, before the sources are there."""
    return "fn main" in line and re.search(r"\bcargo (build|check|fetch|install)\b", line) is not None


def _tokens(line: str) -> Sequence[str]:
    """Return the words of a line, and what is between its commands; nothing of one that cannot be told apart."""
    if len(line) > LONGEST_LINE:
        return ()
    lexer = shlex.shlex(line, posix=False, punctuation_chars=";&|")
    lexer.whitespace_split, lexer.commenters = True, ""
    found = list[str]()
    try:
        for word in lexer:
            if found and found[-1].endswith(">&" if word != "&" else ">"):  # 2>&1
                found[-1] += word
            else:
                found.append(word)
    except ValueError:
        return ()
    return found


def _commands(tokens: Sequence[str]) -> Sequence[str] | None:
    """Return the commands of ``a && b; c``, None for a line that is more than such a list."""
    if not tokens or any(token in _NOT_SPLIT or token in ("||", "|", "&") or token[0] == "(" for token in tokens):
        return None
    found: list[list[str]] = [[]]
    for token in tokens:
        if token in ("&&", ";"):
            found.append([])
        else:
            found[-1].append(token)
    return [" ".join(words) for words in found if words]


def _left(draft: Draft, tokens: Sequence[str], origin: Origin) -> bool:
    """Leave a line that is more than a list of commands, where a program in it needs the network."""
    begins, installers = True, _INSTALLERS if "install" in tokens else {}
    for place, token in enumerate(tokens):
        name = token.lstrip("(")
        why = _needs_network(draft, name, tokens[place + 1 : place + 2]) or installers.get(name)
        if begins and why is not None:
            _leave_networked(draft, name, why, origin)
            return True
        begins = set(token) <= set(";&|") or token in _NOT_SPLIT or token in _BEFORE_COMMANDS
        begins = begins or _ASSIGNMENT.fullmatch(token) is not None
    return False


def _needs_network(draft: Draft, name: str, words: Sequence[str]) -> str | None:
    """Return what to do instead of running a program in a bake, None for one that may work there."""
    if name in draft.offline:
        return None
    verb = next((word for word in words if not word.startswith("-")), None)
    return None if verb in _WITHOUT_NETWORK.get(name, ()) else _NEEDS_NETWORK.get(name)


def _leave_networked(draft: Draft, name: str, why: str, origin: Origin) -> None:
    draft.unmade.append(f"'{name}'")
    draft.leave(origin, f"'{name}' needs the network, which no step of a bake has: {why}")


def _carried(
    draft: Draft, folder: Path, command: str, workdir: str, origin: Origin, variables: Mapping[str, str]
) -> bool:
    """Tell whether a command needs no line of its own: it is done otherwise, or named among what is left."""
    try:
        words = [part for word in words_of(command) for part in _put_in(word, variables)]
    except ValueError:
        return False
    if _is_done_anyhow(words):
        return True
    while words and _ASSIGNMENT.fullmatch(words[0]):
        words = words[1:]
    words = words[1:] if words[:1] == ["sudo"] else words
    if not words:
        return True
    name = words[0].rpartition("/")[2] if words[0].startswith("/") else words[0]
    if name == "pecl" or name.startswith("docker-php-ext-"):
        return _php_extensions(draft, name, words[1:], origin)
    if name in ("apt", "apt-get"):
        return _apt(draft, words, origin)
    if name in _OTHERS:
        return _other_packages(draft, name, words, origin)
    count = 3 if name.startswith("python") else 1
    if _PIP.match(" ".join([name, *words[1:count]])):
        return _pip(draft, words[count:], origin)
    if name in ("useradd", "adduser", "groupadd", "addgroup", "usermod"):
        return _user(draft, name, words[1:], origin)
    if name == "mvn" and name in draft.offline and only_fetches(words):
        return True
    if name == "npm" and carry_npm(draft, folder, words, workdir, origin):
        return True
    if (why := _needs_network(draft, name, words[1:])) is not None:
        _leave_networked(draft, name, why, origin)
        return True
    return False


def _put_in(word: str, variables: Mapping[str, str]) -> Sequence[str]:
    """Return a word with its variables, which may stand for several; one that stands for nothing known as it is."""
    return substituted(word, variables).split() or [word] if "$" in word else [word]


def _is_done_anyhow(words: Sequence[str]) -> bool:
    """Tell whether a bake does that of itself, or what was left lying about never comes into a layer."""
    plain = [word for word in words if not word.startswith("-")]
    match plain:
        case [] | ["true" | ":"] | ["set", *_]:
            return True
        case ["export", one]:
            return one.startswith("DEBIAN_FRONTEND=")
        case ["go", "mod", "download" | "verify"] | ["python" | "python3", "venv", *_] if (
            "-m" in words or words[0] == "go"
        ):
            return True
        case ["npm" | "yarn", "cache", *_] | ["mv" | "cp", *_] if words[0] in ("npm", "yarn") or _is_php_ini(plain):
            return True
        case ["apt" | "apt-get", "update" | "clean" | "autoclean" | "autoremove", *_]:
            return True
        case ["rm", *paths]:
            return bool(paths) and all(path.startswith(_LEFTOVERS) for path in paths)
        case ["pip" | "pip3", "install", *names]:
            return bool(names) and "-r" not in words and set(names) <= {"pip", "setuptools", "wheel"}
    return False


def _is_php_ini(words: Sequence[str]) -> bool:
    """Tell whether PHP's settings for production are put in their place: Debian's PHP has them."""
    return any("php.ini-" in word for word in words)


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
    whole = f"{name}={version}" if version else name
    try:
        forms.package(whole)
    except ValueError:
        draft.leave(origin, f"'{package}' is no name of a Debian package")
        return
    draft.packages.setdefault(whole, origin)


def _other_packages(draft: Draft, tool: str, words: Sequence[str], origin: Origin) -> bool:
    if not any(word in _OTHERS[tool] for word in words[1:3]):
        return True
    for package in _operands(words[1:]):
        if package in _OTHERS[tool] or package.startswith("."):
            continue
        found = packages_of_apk(package) if tool == "apk" else None
        if found is None:
            draft.leave(origin, f"the package '{package}', which {tool} calls so: name Debian's under image.packages")
        for name in found or ():
            draft.packages.setdefault(name, origin)
    return True


def _php_extensions(draft: Draft, tool: str, words: Sequence[str], origin: Origin) -> bool:
    """Name Debian's packages of extensions that are installed; they are enabled with that."""
    if tool in ("docker-php-ext-configure", "docker-php-ext-enable"):
        return True
    for name in _operands(words):
        found = packages_of_php(name)
        if found is None and not name.isdigit() and name != "install":
            draft.leave(origin, f"the extension '{name}' of PHP: name Debian's package under image.packages")
        for package in found or ():
            draft.packages.setdefault(package, origin)
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
    uid: int | None = None
    gid: int | None = None
    rest, names = iter(words), list[str]()
    for word in rest:
        key, _, value = word.partition("=")
        if key in ("-u", "--uid", "-g", "--gid", "-G", "-d", "--home", "--home-dir", "-s", "--shell", "-c", "--comment",
                   "--gecos", "-h", "-k", "--ingroup", "--groups"):  # fmt: skip
            value = value or next(rest, "")
            if key in ("-u", "--uid"):
                uid = number(value)
            elif key in ("-g", "--gid"):
                gid = number(value)
        elif not word.startswith("-"):
            names.append(word)
    for name in names[:1]:
        draft.users[name] = (uid, gid)
    return True


def _operands(words: Sequence[str]) -> Iterator[str]:
    """Yield what a command is told, without options, and without where it prints."""
    rest = iter(words)
    for word in rest:
        if word in _WITH_VALUE or _PRINTED.fullmatch(word):
            next(rest, None)
        elif not word.startswith("-") and not _PRINTED.match(word):
            yield word

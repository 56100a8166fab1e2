"""apt-get as a solver: which packages, in which versions, satisfy a wish in one release.

apt runs over a private tree (``apt_tree.py``), so that it needs no root, changes nothing of the machine, and is not led
by what is installed or pinned there. The lists are refreshed at each lock.

Nothing is installed or downloaded here besides lists: what apt answers is name, version, size, SHA-256 and place.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal
from urllib.parse import quote, unquote

from instar import process
from instar.errors import ResolveError
from instar.fetch.apt_errors import OTHER_RELEASE, explanation, text_of, update_error
from instar.fetch.apt_status import BrokenPackage, broken, status_text
from instar.fetch.apt_tree import open_tree
from instar.fetch.archives import Given, label_of
from instar.fetch.cache import Cache
from instar.fetch.lists import PackageList, dates, require_size
from instar.fetch.network import CONNECT_TIMEOUT_S, RETRIES, network_environment
from instar.fetch.sources import Sources
from instar.model.control import fields
from instar.model.digest import Digest
from instar.model.lock import Package, Suite

_UPDATE_TIMEOUT_S = 600
_SOLVE_TIMEOUT_S = 120
_URI = re.compile(r"'([^']+)' (\S+) (\d+) SHA256:([0-9a-f]{64})\Z")
_NAME = re.compile(r"(?<![\w+.-])[\w+-]+(?:\.\w[\w+-]*)*")  # of a package, in a sentence


def transfer_options() -> list[str]:
    """Return apt's words for: short waits, few retries, no change of user."""
    return [
        *("-o", "APT::Sandbox::User=root"),
        *("-o", f"Acquire::Retries={RETRIES}"),
        *(
            word
            for scheme in ("http", "https", "ftp")
            for word in ("-o", f"Acquire::{scheme}::Timeout={CONNECT_TIMEOUT_S}")
        ),
    ]


@contextlib.contextmanager
def open_apt(cache: Cache, sources: Sources, architecture: str) -> Iterator[Apt]:
    """Give a solver over fresh lists of ``sources``. One process at a time has the lists; others wait.

    Raises:
        SourceUnreachable: an archive does not answer.
        FetchError: an archive's answer is not one that this machine trusts.
    """
    with open_tree(cache, sources, architecture) as (folder, holding):
        apt = Apt(folder, sources, holding)
        apt.refresh()
        yield apt


class Apt:
    """A solver over the lists in ``folder``. Made by :func:`open_apt`, whose hold on them is ``holding``."""

    def __init__(self, folder: Path, sources: Sources, holding: int) -> None:
        self._folder = folder
        self._holding = holding
        self._sources = sources
        self._labels: dict[tuple[str, str], str] = {}
        self._given: dict[str, Given] = {}
        self.fixed: Mapping[str, str] = {}  # versions of what is installed
        self._elsewhere: dict[str, frozenset[str]] = {}  # of what is named for an archive: the versions of all others
        self.suites: tuple[Suite, ...] = ()
        self.indexes: tuple[PackageList, ...] = ()

    def refresh(self) -> None:
        done = self._run("apt-get", "update", "-qq", *transfer_options(), timeout_s=_UPDATE_TIMEOUT_S)
        if done.returncode != 0:
            text = text_of(done)
            if OTHER_RELEASE.search(text):
                self._forget_lists()
            raise update_error(text, self._sources)
        self._read_suites()

    def _forget_lists(self) -> None:
        """What the archive was is of no use any more: the next time it is taken as it is."""
        for path in (self._folder / "lists").glob("*_*"):
            path.unlink(missing_ok=True)

    def add(self, archives: Sequence[Given]) -> None:
        """Let the solver take what ``archives`` give. Nothing but their lists, which were checked, is looked at."""
        self._given = {f"file:{self._folder}/given/{one.name}/": one for one in archives}
        lines = []
        for one in archives:
            one.write(self._folder / "given" / one.name)
            lines.append(f"deb [trusted=yes] file:{quote(str(self._folder))}/given/{one.name} ./\n")
        listed = self._folder / "sources.d/given.list"
        listed.write_text("".join(lines))
        alone = (f"Dir::Etc::sourcelist={listed}", "Dir::Etc::sourceparts=/dev/null", "APT::Get::List-Cleanup=false")
        done = self._run("apt-get", "update", "-qq", *(word for option in alone for word in ("-o", option)))
        if done.returncode != 0:
            raise update_error(text_of(done), self._sources)
        named = sorted(name for one in archives for name in one.named)
        self._elsewhere = {name: frozenset(versions) for name, versions in self.versions(named).items()}

    def stand_on(self, controls: Sequence[Mapping[str, str]]) -> None:
        """Solve for an image in which packages are installed, by their control fields; all of them stay as they are."""
        (self._folder / "status").write_text(status_text(controls))
        self.fixed = {control["Package"]: control["Version"] for control in controls}

    def would_break(self, wanted: Sequence[str]) -> tuple[BrokenPackage, ...]:
        """Return what of the installed packages would have to change for ``wanted``; none where nothing would help."""
        self._prefer({}, "packages", fixed={})
        done = self._run("apt-get", "install", "-s", "-q", "-y", "--allow-downgrades", "--", *wanted)
        if done.returncode != 0:
            return ()
        return tuple(broken(done.stdout.decode("utf-8", "replace")))

    def at_odds(self) -> str:
        """Return what does not fit together among the installed packages themselves, in apt's words."""
        done = self._run("apt-get", "check", "-q")
        return explanation(text_of(done)) if done.returncode != 0 else ""

    def names(self) -> frozenset[str]:
        """Return the names of all packages that the lists have, besides what was added."""
        found = re.compile(rb"(?m)^Package: (\S+)")
        texts = (index.file.read_bytes() for index in self.indexes)
        return frozenset(name.decode("utf-8", "replace") for text in texts for name in found.findall(text))

    def versions(self, names: Sequence[str], archive: str | None = None) -> Mapping[str, tuple[str, ...]]:
        """Return the versions that there are of each package, newest first; a name without any is left out.

        They are those of ``archive``, one that was added, or without it those of all but these.
        """
        found: dict[str, dict[str, None]] = {}
        for name, version, uri, _ in self._places(names):
            given = self._given.get(uri.rstrip("/") + "/")
            if (given.name if given else None) == archive:
                found.setdefault(name, {})[version] = None
        return {name: tuple(versions) for name, versions in found.items()}

    def suites_of(self, name: str) -> Mapping[str, str]:
        """Return the suites that have a package, and the newest version in each."""
        found: dict[str, str] = {}
        for _, version, _, suite in self._places([name]):
            found.setdefault(suite, version)
        return found

    def providers(self, name: str) -> tuple[str, ...]:
        """Return the packages that provide a name which is virtual."""
        lines = self._run("apt-cache", "showpkg", name).stdout.decode("utf-8", "replace").splitlines()
        start = lines.index("Reverse Provides: ") + 1 if "Reverse Provides: " in lines else len(lines)
        return tuple(sorted({line.split(" ")[0] for line in lines[start:] if line}))

    def near(self, name: str) -> tuple[str, ...]:
        """Return up to three names of packages that may have been meant."""
        import difflib  # only a mistake pays for it

        known = self._run("apt-cache", "pkgnames").stdout.decode("utf-8", "replace").split()
        likely = [other for other in known if abs(len(other) - len(name)) <= 3 and set(name[:2]) & set(other[:2])]
        return tuple(difflib.get_close_matches(name, likely, n=3, cutoff=0.75))

    def closure(
        self, wanted: Sequence[str], step: Literal["base", "packages"], keep: Mapping[str, str] | None = None
    ) -> tuple[Package, ...]:
        """Return ``wanted`` (``name``, ``name=version``, ``?essential``) and all that it depends on, sorted by name.

        ``keep`` names versions to prefer to newer ones where they still exist. Raises ResolveError with apt's own
        explanation, shortened, when no set of packages satisfies the wish.
        """
        self._prefer(keep or {}, step, fixed=self.fixed)
        done = self._run("apt-get", "install", "--print-uris", "--no-remove", "-q", "-y", "--", *wanted)
        if done.returncode != 0:
            said = explanation(text_of(done))
            raise ResolveError(said, about=_NAME.findall(said))
        found = [_URI.match(line) for line in done.stdout.decode().splitlines()]
        return self._located([match for match in found if match and not self._is_there(match)], step)

    def _is_there(self, match: re.Match[str]) -> bool:
        """Tell whether it is the version that is installed, which the archive describes in other words."""
        name, version, _ = _parts(match[2])
        return self.fixed.get(name) == version

    def controls(self, packages: Sequence[Package]) -> Mapping[str, Mapping[str, str]]:
        """Return the control fields of each package: name → fields; one that the lists don't have is left out."""
        wanted = {(package.name, package.sha256.hex) for package in packages}
        words = [f"{package.name}={package.version}" for package in packages]
        found = {}
        for paragraph in self._run("apt-cache", "show", "--", *words).stdout.split(b"\n\n"):
            one = fields(paragraph)
            if (one.get("Package", ""), one.get("SHA256", "")) in wanted:
                found[one["Package"]] = one
        return found

    def _located(self, found: Sequence[re.Match[str]], step: Literal["base", "packages"]) -> tuple[Package, ...]:
        names = [_parts(match[2])[0] for match in found]
        places: dict[tuple[str, str], list[tuple[str, str]]] = {}
        for name, version, uri, suite in self._places(names):
            places.setdefault((name, version), []).append((uri, suite))
        return tuple(sorted((self._package(match, places, step) for match in found), key=lambda package: package.name))

    def _package(
        self,
        match: re.Match[str],
        places: Mapping[tuple[str, str], Sequence[tuple[str, str]]],
        step: Literal["base", "packages"],
    ) -> Package:
        name, version, architecture = _parts(match[2])
        given = self._find_given(name, version, match)
        if given is not None:
            return dataclasses.replace(given, step=step)
        for uri, suite in places.get((name, version), ()):
            root = uri.rstrip("/") + "/"
            if match[1].startswith(root):
                return Package(
                    name=name,
                    version=version,
                    architecture=architecture,
                    size_bytes=int(match[3]),
                    sha256=Digest.from_hex(match[4]),
                    label=self._labels.get((root, suite), ""),
                    suite=suite,
                    path=unquote(match[1][len(root) :]),
                    step=step,
                )
        raise ResolveError(f"cannot lock '{name}': apt does not say which archive has its version {version}")

    def _places(self, names: Sequence[str]) -> Iterator[tuple[str, str, str, str]]:
        """Yield (name, version, URI, suite), newest version first."""
        lines = self._run("apt-cache", "madison", "--", *names).stdout.decode("utf-8", "replace").splitlines()
        for line in lines:
            columns = [column.strip() for column in line.split(" | ")]
            words = columns[-1].split(" ")  # the address, which may have spaces; the index; of none but a path: the CPU
            if len(columns) == 3 and len(words) > 2 and words[-1] == "Packages":
                at = -2 if "/" in words[-2] else -3
                yield columns[0], columns[1], " ".join(words[:at]), words[at].split("/")[0]

    def _find_given(self, name: str, version: str, match: re.Match[str]) -> Package | None:
        """Return the package where an archive that was added gives it: what only that has, or what it is named for."""
        for root, given in self._given.items():
            if name in given.named or match[1].startswith(root):
                return given.packages.get((name, version, match[4]))
        return None

    def _prefer(self, keep: Mapping[str, str], step: Literal["base", "packages"], *, fixed: Mapping[str, str]) -> None:
        """Say which versions come before newer ones. What is named of an archive does before that of all others."""
        kept = {name: version for name, version in keep.items() if version not in self._elsewhere.get(name, ())}
        stanzas = [
            f"Package: {name}\nPin: version {version}\nPin-Priority: 1001\n"
            for name, version in {**kept, **fixed}.items()
        ]
        for given in self._given.values():
            ours = f"Pin: release l={given.label}\n"
            stanzas.append(f"Package: {' '.join(sorted(given.named))}\n{ours}Pin-Priority: 1000\n")
            if step == "base":
                stanzas.append(f"Package: *\n{ours}Pin-Priority: -1\n")
        (self._folder / "preferences").write_text("\n".join(stanzas))

    def _read_suites(self) -> None:
        columns = ("REPO_URI", "RELEASE", "METAKEY", "FILENAME", "LABEL")  # the last is the archive's own word: any
        mark = os.urandom(16).hex()  # of a record's beginning, which that word cannot say
        form = "\t".join([mark, *(f"$({column})" for column in columns)])
        newest: dict[tuple[str, str], int] = {}
        indexes = []
        told = self._run("apt-get", "indextargets", "--format", form).stdout.decode("utf-8", "replace")
        for line in told.split(f"{mark}\t")[1:]:
            uri, suite, key, file, word = line.split("\t", len(columns) - 1)
            label = label_of(word)
            require_size(Path(file), suite)
            self._labels[(uri, suite)] = label
            released = dates(Path(file[: file.rindex(key.replace("/", "_"))]))
            indexes.append(PackageList(suite=suite, label=label, file=Path(file), release=released))
            newest[(label, suite)] = max(released["Date"], newest.get((label, suite), 0))
        self.indexes = tuple(indexes)
        self.suites = tuple(
            Suite(label=label, suite=suite, date=date) for (label, suite), date in sorted(newest.items())
        )

    def _run(self, *words: str, timeout_s: float = _SOLVE_TIMEOUT_S) -> process.Completed:
        program, *rest = words
        argv = [program, "-c", str(self._folder / "apt.conf"), *rest]
        return process.run(argv, timeout_s=timeout_s, env=network_environment(), check=False, pass_fds=(self._holding,))


def _parts(file: str) -> tuple[str, str, str]:
    """Split apt's file name of a package, ``name_version_architecture.deb``."""
    name, version, architecture = (unquote(part) for part in file.removesuffix(".deb").split("_"))
    return name, version, architecture

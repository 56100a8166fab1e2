"""apt's private tree of one release: its configuration, this machine's sources, an empty dpkg status, the lists.

Its proxies, credentials and keyrings stay the machine's. The lists are kept between locks; one process at a time has a
tree::

    CACHE/apt/DIGEST OF ARCHITECTURE AND SOURCES/
      in-use       the lock of whoever has it
      apt.conf  preferences  status  keys/  sources.d/
      lists/  cache/  state/       apt's own
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

from instar.errors import FetchError
from instar.fetch.cache import Cache
from instar.fetch.sources import Sources
from instar.waiting import Deadline, until

_WAIT_S = 300

# AllowReleaseInfoChange: what an archive calls itself is in the lock, for its reviewers; no machine is asked to agree.
# ForceEssential: apt counts itself as essential unless told otherwise, and images have no apt.
# Sandbox::User: apt would become a user that cannot enter a folder of mode 0700.
_CONFIGURATION = """\
#clear APT::Architectures;
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
#clear Acquire::IndexTargets;
APT::Architecture "{architecture}";
APT::Architectures:: "{architecture}";
APT::Cmd::Pattern-Only "true";
APT::Default-Release "";
APT::Get::AllowUnauthenticated "false";
APT::Install-Recommends "false";
APT::Install-Suggests "false";
APT::Sandbox::User "root";
APT::Update::Error-Mode "any";
Acquire::AllowInsecureRepositories "false";
Acquire::AllowReleaseInfoChange "false";
Acquire::AllowReleaseInfoChange::DefaultPin "true";
Acquire::AllowReleaseInfoChange::Label "true";
Acquire::AllowReleaseInfoChange::Origin "true";
Acquire::AllowReleaseInfoChange::Suite "true";
Acquire::AllowReleaseInfoChange::Version "true";
Acquire::ForceHash "SHA256";
Acquire::GzipIndexes "false";
Acquire::IndexTargets::deb::Packages {{
  MetaKey "$(COMPONENT)/binary-$(ARCHITECTURE)/Packages";
  flatMetaKey "Packages";
  ShortDescription "Packages";
  Description "$(RELEASE)/$(COMPONENT) $(ARCHITECTURE) Packages";
  flatDescription "$(RELEASE) Packages";
  Optional "0";
}};
Acquire::Languages "none";
Dir::Cache "{folder}/cache";
Dir::Cache::pkgcache "pkgcache.bin";
Dir::Cache::srcpkgcache "";
Dir::Etc::preferences "{folder}/preferences";
Dir::Etc::preferencesparts "/dev/null";
Dir::Etc::sourcelist "/dev/null";
Dir::Etc::sourceparts "{folder}/sources.d";
Dir::State "{folder}/state";
Dir::State::lists "{folder}/lists";
Dir::State::status "{folder}/status";
pkgCacheGen::ForceEssential ",";
"""

# of an archive that a definition names: whatever this machine lets its own do
_OF_OTHERS = """\
Acquire::AllowDowngradeToInsecureRepositories "false";
Acquire::AllowWeakRepositories "false";
Acquire::Check-Date "true";
Acquire::Check-Valid-Until "true";
Dir::Etc::trusted "/dev/null";
Dir::Etc::trustedparts "{folder}/keys";
"""


@contextlib.contextmanager
def open_tree(cache: Cache, sources: Sources, architecture: str) -> Iterator[tuple[Path, int]]:
    """Give the folder of a tree that says what is asked for now, and the descriptor of its lock. Raises FetchError
    where another process has it for too long."""
    whole = f"{architecture}\n{sources.lines}\n{sources.stanzas}".encode() + sources.key
    folder = cache.folder("apt") / hashlib.sha256(whole).hexdigest()[:16]
    for name in ("keys", "sources.d", "lists/partial", "cache/archives/partial", "state"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    with _held(folder / "in-use") as holding:
        _write_tree(folder, sources, architecture)
        yield folder, holding


def _write_tree(folder: Path, sources: Sources, architecture: str) -> None:
    files = {
        "apt.conf": (_CONFIGURATION + (_OF_OTHERS if sources.key else "")).format(
            folder=folder, architecture=architecture
        ),
        "preferences": "",
        "status": "",
        "sources.d/instar.list": sources.lines,
        "sources.d/instar.sources": sources.stanzas,
    }
    (folder / "sources.d/given.list").unlink(missing_ok=True)
    if sources.key:
        (folder / f"keys/archive.{'asc' if sources.key.startswith(b'-') else 'gpg'}").write_bytes(sources.key)
    for name, text in files.items():
        path = folder / name
        if (
            not path.is_file() or path.read_text(errors="replace") != text
        ):  # apt rebuilds its cache when a file is newer
            path.write_text(text)
    os.utime(folder)


@contextlib.contextmanager
def _held(path: Path) -> Iterator[int]:
    """Hold the lock at ``path``; give its descriptor, for children: an apt that outlives a killed Instar keeps it."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        if not until(lambda: _acquired(descriptor), Deadline.after(_WAIT_S), every_s=0.05):
            raise FetchError(f"cannot use '{path.parent}': another process has had it for {_WAIT_S} s")
        yield descriptor
    finally:
        os.close(descriptor)


def _acquired(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True

"""What ``image.strip`` takes out of a whole image at the end: the tools of packages (``apt``), and those of people
(``shell``). By packages; what anything that stays needs of them stays."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Final

_PACKAGES: Final[Mapping[str, str]] = {
    "apt": "apt apt-utils libapt-pkg6.0 libapt-pkg7.0 dpkg gpgv debian-archive-keyring ubuntu-keyring debconf "
    "init-system-helpers libgcrypt20 libgpg-error0 libseccomp2 libxxhash0 libudev1 libsystemd0 liblz4-1 libmd0",
    "shell": "bash dash coreutils diffutils findutils grep gzip hostname sed tar mawk util-linux util-linux-extra "
    "bsdutils login passwd mount ncurses-bin debianutils sysvinit-utils logsave e2fsprogs",
}
_LEFTOVERS: Final[Mapping[str, str]] = {
    "apt": r"(etc|usr/lib|var/lib|var/cache)/apt(/.*)?|etc/dpkg(/.*)?|var/lib/dpkg/(?!status$).+"
    r"|usr/share/keyrings/debian-.*|var/(lib|cache)/(ucf|debconf)(/.*)?",
    "shell": r"etc/(skel(/.*)?|bash\.bashrc|profile(\.d(/.*)?)?)|etc/alternatives/(awk|nawk)|usr/bin/(awk|nawk)",
}


def taken(kinds: Collection[str], files: Collection[str], packages: Mapping[str, Sequence[str]]) -> Iterator[str]:
    """Yield what goes of an image's ``files``; ``packages`` are their files, by the names of the packages."""
    names = {name for kind in kinds for name in _PACKAGES[kind].split()}
    stay = {path for name, paths in packages.items() if name not in names for path in paths}
    gone = {path for name in names for path in packages.get(name, ())} - stay
    leftovers = re.compile("|".join(_LEFTOVERS[kind] for kind in sorted(kinds)))
    yield from (path for path in files if path in gone or leftovers.fullmatch(path))

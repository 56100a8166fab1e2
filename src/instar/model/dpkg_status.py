"""dpkg's status: which packages an image has. What wrote it is not known, and it is believed in nothing that it cannot
show: one paragraph a package, each installed as a whole, names and versions that are some.

Source: dpkg 1.21, lib/dpkg/parse.c and doc/; Debian Policy 5.6.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from instar.model.control import fields
from instar.model.lock import InstalledPackage

STATUS: Final = "var/lib/dpkg/status"
PARTS: Final = "var/lib/dpkg/status.d"  # of images that were put together without dpkg: a file a package

_NAME: Final = re.compile(r"[a-z0-9][a-z0-9+.-]{0,199}\Z")
_VERSION: Final = re.compile(r"[0-9A-Za-z][0-9A-Za-z.+:~-]{0,199}\Z")
_ARCHITECTURE: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,39}\Z")
_STATE: Final = re.compile(r"[a-z-]{1,30}\Z")
_GONE: Final = ("not-installed", "config-files")
_SHOWN: Final = 3

Control = Mapping[str, str]


class WrongStatus(ValueError):
    """What is wrong with it, in the words of an operator."""


def installed(text: bytes, architecture: str) -> Mapping[str, Control]:
    """Return the control fields of every package that is installed, by its name. Raises WrongStatus where one is there
    by halves, twice or for another architecture, and for what is none of dpkg's."""
    found: dict[str, Control] = {}
    halves, foreign = list[str](), list[str]()
    for control in paragraphs(text):
        name = control.get("Package", "")
        if not _NAME.match(name):
            raise WrongStatus(f"dpkg's status has a package that is called {name!r:.60}")
        state = _state(control)
        if state in _GONE:
            continue
        if state != "installed":
            halves.append(f"'{name}' is {state}")
        elif control.get("Architecture") not in (architecture, "all"):
            foreign.append(f"'{name}' is for {control.get('Architecture', 'none')!r:.40}")
        elif name in found:
            raise WrongStatus(f"dpkg's status has '{name}' twice")
        else:
            found[name] = _checked(name, control)
    if halves:
        raise WrongStatus(f"packages are not installed as a whole: {_some(halves)}")
    if foreign:
        raise WrongStatus(f"packages are for another architecture than {architecture}: {_some(foreign)}")
    return found


def packages_of(controls: Mapping[str, Control]) -> tuple[InstalledPackage, ...]:
    return tuple(
        InstalledPackage(name=name, version=control["Version"], architecture=control["Architecture"])
        for name, control in sorted(controls.items())
    )


def paragraphs(text: bytes) -> Iterator[Control]:
    """Yield the fields of each paragraph, whatever they say."""
    for paragraph in re.split(rb"\n[ \t]*\n", text):
        if paragraph.strip():
            yield fields(paragraph.strip(b"\n"))


def _state(control: Control) -> str:
    """Return what dpkg says of it; of a part of an image that was put together without dpkg, that it is there."""
    status = control.get("Status")
    if status is None:
        return "installed"
    words = status.split()
    if len(words) != 3 or not _STATE.match(words[2]):
        raise WrongStatus(f"dpkg's status says {status!r:.60} of '{control.get('Package', '')}'")
    _, flag, state = words
    return state if flag == "ok" else f"{state}, and has to be installed again"


def _checked(name: str, control: Control) -> Control:
    version, architecture = control.get("Version", ""), control.get("Architecture", "")
    if not _VERSION.match(version) or not _ARCHITECTURE.match(architecture):
        raise WrongStatus(f"dpkg's status has '{name}' in a version {version!r:.60} that none can have")
    return control


def _some(texts: Sequence[str]) -> str:
    more = f" and {len(texts) - _SHOWN} more" if len(texts) > _SHOWN else ""
    return ", ".join(texts[:_SHOWN]) + more

"""What is installed, told to apt's solver as a status of dpkg; and what apt says that it would have to change of it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from instar.frozen import dataclass

# What the solver looks at, and what it tells two packages of one version apart by. The rest of an image's status is
# nothing that it would have to be shown.
_FIELDS: Final = (
    "Installed-Size", "Essential", "Multi-Arch",
    "Pre-Depends", "Depends", "Provides", "Conflicts", "Breaks", "Replaces",
)  # fmt: skip
_UNPRINTABLE: Final = re.compile(r"[^ -~]+")
_INSTALLED_AGAIN: Final = re.compile(r"Inst (\S+) \[([^\]\s]+)\] \((\S+)")
_REMOVED: Final = re.compile(r"Remv (\S+) \[([^\]\s]+)\]")


@dataclass(frozen=True, slots=True)
class BrokenPackage:
    """A package of the base that could not stay as it is: ``wanted`` in another version, or (None) not at all."""

    name: str
    version: str
    wanted: str | None

    def __str__(self) -> str:
        said = f"{self.wanted} is needed" if self.wanted else "it would have to go"
        return f"the base has '{self.name}' {self.version}, and {said}"


def status_text(controls: Iterable[Mapping[str, str]]) -> str:
    """Return a status in which all of these are installed. Their values come from anywhere: each is one line here."""
    return "".join(_paragraph(control) for control in controls)


def broken(told: str) -> Iterator[BrokenPackage]:
    """Yield what apt says that it would change, in a simulation."""
    for line in told.splitlines():
        if (match := _INSTALLED_AGAIN.match(line)) and match[2] != match[3]:
            yield BrokenPackage(match[1].partition(":")[0], match[2], match[3])
        elif match := _REMOVED.match(line):
            yield BrokenPackage(match[1].partition(":")[0], match[2], None)


def _paragraph(control: Mapping[str, str]) -> str:
    lines = {
        "Package": control["Package"],
        "Status": "install ok installed",
        "Maintainer": "-",
        "Architecture": control["Architecture"],
        "Version": control["Version"],
        **{name: control[name] for name in _FIELDS if control.get(name)},
        "Description": "-",
    }
    return "".join(f"{name}: {_UNPRINTABLE.sub(' ', value).strip()}\n" for name, value in lines.items()) + "\n"

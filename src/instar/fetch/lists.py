"""An archive's lists of packages as apt has read and checked them, and the dates of the Release files beside them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from instar.errors import FetchError
from instar.frozen import dataclass

LIST_LIMIT_BYTES = 1 << 29  # of one list, which is read whole: the largest of Debian's has a tenth of that


@dataclass(frozen=True, kw_only=True, slots=True)
class PackageList:
    """A list of packages that was read and checked. ``release``: ``Date`` and ``Valid-Until``, as :func:`dates`."""

    suite: str
    label: str
    file: Path
    release: Mapping[str, int]


def require_size(file: Path, suite: str) -> None:
    """Raise FetchError for a list that could not be held in memory."""
    size_bytes = file.stat().st_size
    if size_bytes > LIST_LIMIT_BYTES:
        raise FetchError(
            f"cannot use the archive: a list of packages of '{suite}' has {size_bytes:,} bytes, more than the"
            f" {LIST_LIMIT_BYTES:,} that are allowed"
        )


def dates(prefix: Path) -> Mapping[str, int]:
    """Return the dates (Unix seconds) in the Release file that stands beside an index: ``Date``, and ``Valid-Until``
    where it has that. ``prefix`` is what the names of both begin with."""
    from email.utils import parsedate_to_datetime  # only a lock pays for it

    for name in ("InRelease", "Release"):
        file = prefix.with_name(prefix.name + name)
        if file.is_file():
            found = re.findall(r"(?m)^(Date|Valid-Until): (.*)$", file.read_text("utf-8", "replace"))
            try:
                read = {name: int(parsedate_to_datetime(text.strip()).timestamp()) for name, text in reversed(found)}
            except (ValueError, OverflowError) as error:
                raise FetchError(f"cannot read the archive's Release file: a date in it is none: {error}") from error
            if "Date" in read:
                return read
    raise FetchError(f"cannot read the archive's Release file: there is none with a date beside '{prefix.name}'")

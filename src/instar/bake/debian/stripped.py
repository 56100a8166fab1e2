"""What ``image.strip`` takes out of what packages bring: nothing that a service runs by.

Names of what was installed, and its licences (``copyright``), stay: bills of materials are made of them.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Collection, Mapping
from typing import Final

_PATHS: Final[Mapping[str, str]] = {
    "docs": r"usr/share/(doc|doc-base|info|man|lintian|gtk-doc|help)/.*",
    "locales": r"usr/share/(locale|i18n)/.*|usr/lib/locale/(?!C\.).*",
}
_KEPT: Final = re.compile(rb"usr/share/doc/[^/]+/copyright")


class Stripped:
    """``kinds``: of those that ``image.strip`` can name. Asked from the bottom up: of a folder, after what is in it."""

    def __init__(self, kinds: Collection[str]) -> None:
        self._paths = re.compile("|".join(f"({_PATHS[kind]})" for kind in kinds).encode()) if kinds else None

    def takes(self, path: bytes, inside: bytes, status: os.stat_result) -> bool:
        """Tell whether what is at ``path``, which is ``inside`` in the image, goes. Of folders, those that got empty;
        a link stays: it may stand for a package's whole folder of documents."""
        if self._paths is None or not self._paths.fullmatch(inside):
            return False
        if stat.S_ISDIR(status.st_mode):
            return not os.listdir(path)  # noqa: PTH208 - bytes
        return stat.S_ISREG(status.st_mode) and not _KEPT.fullmatch(inside)

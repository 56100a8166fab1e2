"""The ecosystems that there are."""

from __future__ import annotations

from typing import Final

from instar.ecosystems.npm import NPM
from instar.ecosystems.protocol import Ecosystem, Installing

INSTALLING: Final[tuple[Installing, ...]] = (NPM,)
ECOSYSTEMS: Final[tuple[Ecosystem, ...]] = (*INSTALLING,)

"""The ecosystems that there are."""

from __future__ import annotations

from typing import Final

from instar.ecosystems.cargo import CARGO
from instar.ecosystems.go import GO
from instar.ecosystems.npm import NPM
from instar.ecosystems.protocol import Ecosystem, Installing, Offering

INSTALLING: Final[tuple[Installing, ...]] = (NPM,)
OFFERING: Final[tuple[Offering, ...]] = (GO, CARGO)
ECOSYSTEMS: Final[tuple[Ecosystem, ...]] = (*INSTALLING, *OFFERING)

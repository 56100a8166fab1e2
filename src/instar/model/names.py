"""Names of services, environments and volumes: they become parts of host names, and of paths that root writes to."""

from __future__ import annotations

import re
from typing import Final

NAME: Final = re.compile(r"[a-z][a-z0-9-]{0,30}", re.ASCII)

"""The architectures that images are made for, and what each is called."""

from __future__ import annotations

from typing import Final

ARCHITECTURES: Final = {"x86_64": "amd64", "aarch64": "arm64"}  # the kernel's name → Debian's and OCI's

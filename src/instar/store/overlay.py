"""How a layer says "removed" and which extended attributes it carries: overlay form on disk, OCI form in a tar.

| on disk (overlay form)                             | in a tar (OCI form)          |
| -------------------------------------------------- | ---------------------------- |
| character device 0/0 called NAME                   | empty file ``.wh.NAME``      |
| directory with ``trusted.overlay.opaque=y``        | ``.wh..wh..opq`` in it       |

Source: OCI image-spec 1.1, layer.md, Whiteouts; Linux, Documentation/filesystems/overlayfs.rst.
"""

from __future__ import annotations

import os
import stat

DEEPEST = 256
"""So many folders lie above what an image has, at most. Whoever walks through one may count on it."""

PREFIX = b".wh."
OPAQUE_MARKER = b".wh..wh..opq"
OPAQUE_XATTR = "trusted.overlay.opaque"

# An upper directory with these is not whole without the layers beneath it.
ENTANGLED = frozenset({"trusted.overlay.redirect", "trusted.overlay.metacopy"})

_CARRIED = ("user.", "security.", "system.posix_acl_")
# Overlay's private ones, and labels that belong to the machine and not to the image.
_LEFT_OUT = ("user.overlay.", "security.selinux", "security.ima", "security.evm", "security.SMACK64")


def is_whiteout(status: os.stat_result) -> bool:
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == 0


def is_carried(xattr: str) -> bool:
    """Whether a layer carries this extended attribute; all others are left out, writing and reading."""
    return xattr.startswith(_CARRIED) and not xattr.startswith(_LEFT_OUT)

"""What a Dockerfile's image stands on, where a definition can stand on the same: on nothing, or on an image of a
registry that is named. (Of what Docker's own registry has, a Debian is taken that has the same in packages.)
"""

from __future__ import annotations

from typing import Final

from instar.adopt.draft import Draft
from instar.model.base import SCRATCH, oci_base
from instar.model.reference import is_host

_HUB: Final = ("docker.io", "index.docker.io", "registry-1.docker.io")


def same_base(image: str) -> str | None:
    """Return what a definition says to stand on the same as ``FROM image``; None where it cannot, or better not."""
    if image.lower() == SCRATCH:
        return SCRATCH
    host, slash, _ = image.partition("/")
    if not slash or not is_host(host) or host in _HUB:
        return None
    name, at, digest = image.partition("@")
    if ":" in name.rpartition("/")[2]:
        name = name.rpartition(":")[0] if at else name
    elif not at:
        name += ":latest"
    try:
        oci_base(name + at + digest)
    except ValueError:
        return None
    return f"{{oci: '{name}{at}{digest}'}}"


def leave_packages(draft: Draft) -> None:
    """Leave what nothing could install, where the draft stands on nothing. What an image of others is of, is found out
    when it is locked; that apt-get was called there says enough."""
    if draft.base.yaml != SCRATCH:
        return
    why = "'scratch' has nothing that could install it: bring it by 'files', 'fetch' or a stage"
    for name, origin in [*draft.packages.items(), *draft.requirements.items()]:
        draft.leave(origin, f"'{name}': {why}")
    if draft.python is not None:
        draft.leave(draft.python.origin, why)
    draft.packages.clear()
    draft.requirements.clear()
    draft.python = None

"""The configuration of the image that a definition asks for. A pure function of definition, lock and
the numbers that the image's user has."""

from __future__ import annotations

from collections.abc import Mapping

from instar.model.base import find_definition, without_kind
from instar.model.definition import Definition
from instar.model.image import ImageConfig
from instar.model.image_spec import BuildStage
from instar.model.lock import Lock
from instar.process import PATH

VENV = "/opt/venv"
_LABEL = "org.opencontainers.image"
_OCI_ARCHITECTURES = {"armhf": "arm", "i386": "386", "ppc64el": "ppc64le"}  # Debian's name → OCI's, where they differ


def configure(definition: Definition, lock: Lock, user: tuple[int, int]) -> ImageConfig:
    """Return what a process in the image starts with. ``user`` are the numbers of the image's user and group."""
    service = definition.service
    return ImageConfig(
        architecture=_OCI_ARCHITECTURES.get(lock.architecture, lock.architecture),
        user=f"{user[0]}:{user[1]}",
        command=service.command,
        workdir=service.workdir,
        env=environment(definition.image, lock),
        ports=(service.port,) if service.port is not None else (),
        labels={
            f"{_LABEL}.title": definition.name,
            **_base_labels(definition.image.base, lock),
            "io.instar.bake-format": str(lock.bake_format),
        },
    )


def environment(made: BuildStage, lock: Lock) -> Mapping[str, str]:
    """Return the environment of an image or a stage: that of the image that it stands on, and its own over it. A
    virtual environment, where there is one, is first on PATH."""
    below = lock.base.env if lock.base is not None else {}
    path = below.get("PATH") or PATH
    return {**below, "PATH": f"{VENV}/bin:{path}" if made.python else path, **made.env}


def _base_labels(base: str, lock: Lock) -> Mapping[str, str]:
    """Return what the image says of its base. Where another definition lies is nothing that an image depends on."""
    if find_definition(base) is not None:
        return {}
    if lock.base is None or lock.base.digest is None:
        return {f"{_LABEL}.base.name": base}
    return {f"{_LABEL}.base.name": without_kind(base), f"{_LABEL}.base.digest": lock.base.digest}

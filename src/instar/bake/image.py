"""The configuration of the image that a definition asks for. A pure function of definition, lock and
the numbers that the image's user has."""

from __future__ import annotations

from collections.abc import Mapping

from instar.model.definition import BuildStage, Definition
from instar.model.image import ImageConfig
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
        env=environment(definition.image),
        ports=(service.port,) if service.port is not None else (),
        labels={
            f"{_LABEL}.title": definition.name,
            f"{_LABEL}.base.name": definition.image.base,
            "io.instar.bake-format": str(lock.bake_format),
        },
    )


def environment(made: BuildStage) -> Mapping[str, str]:
    """Return the environment of an image or a stage: a virtual environment, where there is one, is first on PATH."""
    path = f"{VENV}/bin:{PATH}" if made.python else PATH
    return {"PATH": path, **made.env}

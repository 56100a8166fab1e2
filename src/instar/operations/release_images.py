"""What a release's image is, also where this machine has not got it: an engine that several machines share has it in a
registry, and an agent that only has to say its digest asks there for what it starts with, and for no layer."""

from __future__ import annotations

import functools
import platform
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from instar.errors import FetchError, ImageNotFound
from instar.model.architectures import ARCHITECTURES
from instar.model.digest import Digest
from instar.model.image import Image
from instar.model.reference import repository
from instar.model.release import EnvironmentState
from instar.operations.secret_values import bring_values
from instar.operations.workspace import Workspace

_REMEMBERED: Final = 64
_LOOKED_AT: Final[dict[Digest, Image]] = {}


def prepare_check(workspace: Workspace, state: EnvironmentState) -> Callable[[Digest], Image] | None:
    """Have the values of an environment's secrets here, which a check holds what runs against, and return what finds
    its images; None, and nothing is done, where this machine has to have both. Raises Refused where it may not read
    the values: what nobody can compare is no difference."""
    if workspace.provider(state.settings.provider).traits.of_one_machine:
        return None
    for number in sorted({one.release for one in workspace.ledger.instances(state.id)}):
        bring_values(workspace, workspace.ledger.get_release(state.id, number))
    return image_finder(workspace, state)


def image_finder(workspace: Workspace, state: EnvironmentState) -> Callable[[Digest], Image]:
    """Return what finds the image of a release of an environment. It raises ImageNotFound, SourceUnreachable, and
    FetchError for what is no image."""
    traits = workspace.provider(state.settings.provider).traits
    where = state.settings.provider_settings.get("registry")
    if traits.of_one_machine or not isinstance(where, str):
        return workspace.store.image
    return functools.partial(_find, workspace, where)


def _find(workspace: Workspace, where: str, digest: Digest) -> Image:
    try:
        return workspace.store.image(digest)
    except ImageNotFound:
        return _look(workspace, where, digest)


def _look(workspace: Workspace, where: str, digest: Digest) -> Image:
    """Ask a registry, once for each image: what a digest is of never changes."""
    from instar.store.manifest import image_of_others

    if digest in _LOOKED_AT:
        return _LOOKED_AT[digest]
    found = workspace.registries.look(repository(where), digest, ARCHITECTURES[platform.machine()])
    try:
        image = replace(image_of_others(found.manifest, found.config), digest=digest)
    except ValueError as error:
        raise FetchError(f"cannot use '{where}@{digest}': {error}") from error
    if len(_LOOKED_AT) >= _REMEMBERED:
        _LOOKED_AT.clear()
    _LOOKED_AT[digest] = image
    return image

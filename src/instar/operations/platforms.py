"""``instar bake --all-platforms``: the image for each platform of a definition, and the index over them."""

from __future__ import annotations

from collections.abc import Mapping

from instar.bake import Baked
from instar.definition import Loaded
from instar.definition.problems import listed
from instar.errors import Refused
from instar.frozen import dataclass
from instar.lock.fit import platforms_of
from instar.model.image import Image
from instar.model.progress import Progress
from instar.operations.bake import bake
from instar.operations.images import joined
from instar.operations.locks import hold_store
from instar.operations.privilege import require_root
from instar.operations.workspace import Workspace


@dataclass(frozen=True, kw_only=True)
class BakedPlatforms:
    """``image`` is that for all of them; ``platforms``: what came of each, by its name."""

    image: Image
    platforms: Mapping[str, Baked]


def bake_platforms(workspace: Workspace, loaded: Loaded, *, explained: bool = False) -> BakedPlatforms:
    """Bake a definition for each of its platforms, and join them to one image, which the service's name then means.

    Those of other machines come first: where one cannot be made here, nothing is. Of one platform it is a bake.
    Raises what a bake does, and Refused where this machine's is not among several.
    """
    require_root("bake")
    names, here = platforms_of(loaded), workspace.store.platform
    if here not in names and len(names) > 1:
        raise Refused(
            f"cannot bake '{loaded.definition.name}' for all its platforms here: it is for {listed(names, 'and')}, and"
            f" this machine is {here}, which the image for all would be nothing for",
            hint="bake each alone (--platform), push it, and on a machine that one is for: instar images join",
        )
    with hold_store(workspace):
        found = {
            name: bake(workspace, loaded, platform=name, held=True, explained=explained)
            for name in sorted(names, key=lambda name: (name == here, name))
        }
        first = next(iter(found.values())).image
        image = joined(workspace, {name: each.image for name, each in found.items()}) if len(found) > 1 else first
        workspace.store.tag(loaded.definition.name, image.digest)
        if len(found) > 1:
            text = f"one image for {listed(names, 'and')}"
            workspace.report(Progress(stage="bake", text=text, aside=f"sha256:{image.digest.short}"))
    return BakedPlatforms(image=image, platforms={name: found[name] for name in names})

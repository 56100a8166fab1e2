"""Definition + lock → image. Nothing here touches the network; see baking.py for the whole, steps.py for the order."""

from instar.bake.baking import Baked, BakedStep, bake, prune_records
from instar.bake.planning import Planned, PlannedPart, PlannedStep, plan, service_on
from instar.bake.runnable import require_runnable
from instar.bake.stages.kept import layers_kept
from instar.bake.steps import of_the_image

__all__ = [
    "Baked",
    "BakedStep",
    "Planned",
    "PlannedPart",
    "PlannedStep",
    "bake",
    "layers_kept",
    "of_the_image",
    "plan",
    "prune_records",
    "require_runnable",
    "service_on",
]

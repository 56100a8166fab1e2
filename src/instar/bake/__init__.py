"""Definition + lock → image. Nothing here touches the network; see baking.py for the whole, steps.py for the order."""

from instar.bake.baking import Baked, BakedStep, Planned, PlannedStep, bake, plan, prune_records

__all__ = ["Baked", "BakedStep", "Planned", "PlannedStep", "bake", "plan", "prune_records"]

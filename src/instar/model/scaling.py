"""How many instances an autoscaler runs."""

from __future__ import annotations

from dataclasses import field

from instar.frozen import dataclass
from instar.model.declaration import key

# A key reads as a paragraph: its type, its default, its words.
# fmt: off


@dataclass(frozen=True, kw_only=True, slots=True)
class Scaling:
    """How many instances run, by their load: an autoscaler of the provider's own says it, and nobody else."""

    min: int = field(metadata=key("How many instances run at least.", low=1, high=100))
    max: int = field(metadata=key("How many instances run at most.", low=1, high=100))
    cpu_percent: int = field(default=70, metadata=key(
        "How much of `service.limits.cpus` the instances are to use on average, in percent: above it more run, below "
        "it fewer.", low=1, high=100))

"""What somebody has already → a first definition, with all that could not be carried over.

Nothing is run and nothing fetched: a Dockerfile, a compose file or a Procfile is data, like the folder beside it.
"""

from instar.adopt.carry import SOURCES, carry_over
from instar.adopt.draft import CarriedOver, Draft

__all__ = ["SOURCES", "CarriedOver", "Draft", "carry_over"]

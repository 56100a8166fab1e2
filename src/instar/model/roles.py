"""What stands for a role, or its door, that has no name of its own to stand there.

- A role is known by its name. The one of a service that is written without ``roles`` has none: UNNAMED_ROLE.
- Where a role may be left out (``role: str | None``), None is the first one, whatever that is called.
- A door is known by its key: FIRST_DOOR of the first role, whatever that is called, and ROLE of another; a further
  port of theirs ".PORT", "ROLE.PORT".
- A definition calls an unnamed role by the section that says how it runs: SERVICE.
"""

from __future__ import annotations

from typing import Final

UNNAMED_ROLE: Final = ""
FIRST_DOOR: Final = ""
SERVICE: Final = "service"


def written(role: str) -> str:
    """Return how a definition calls a role, also where it has but one."""
    return role or SERVICE


def path_of_role(role: str) -> tuple[str, ...]:
    """Return by which keys of a definition it says how instances of a role run."""
    return ("roles", role) if role else (SERVICE,)


def door_of(role: str, first: str) -> str:
    """Return the key of a role's door, where the ``first`` role is called that."""
    return FIRST_DOOR if role == first else role

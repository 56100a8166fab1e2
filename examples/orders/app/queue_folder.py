"""Orders as files in a folder that both roles have: whoever renames one has it."""

import os
import uuid
from pathlib import Path

FOLDER = Path("/var/lib/orders")


def put(text: str) -> str:
    """Keep an order, whole or not at all; return its name."""
    name = uuid.uuid4().hex
    written = FOLDER / f"{name}.new"
    written.write_text(text)
    written.rename(FOLDER / f"{name}.order")
    return name


def take() -> Path | None:
    """Take an order that nobody else takes; None where there is none."""
    for order in sorted(FOLDER.glob("*.order")):
        taken = order.with_suffix(f".{os.environ['INSTAR_INSTANCE']}")
        try:
            return order.rename(taken)
        except FileNotFoundError:
            continue  # another worker was faster
    return None


def done() -> int:
    return sum(1 for _ in FOLDER.glob("*.done"))


def waiting() -> int:
    return sum(1 for _ in FOLDER.glob("*.order"))

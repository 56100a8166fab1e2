"""The numbered SQL files of ``migrations/``, one folder for each engine.

A number is the version of the schema that the file leads to; the same number means the same on both engines. The first
file of an engine that came later makes the whole schema of its number. A migration and its number are one transaction:
a process that is killed in it has changed nothing.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Literal

from instar.errors import LedgerNewer

EngineName = Literal["sqlite", "postgresql"]

_FOLDER = Path(__file__).parent / "migrations"


@functools.cache
def files(engine: EngineName) -> tuple[Path, ...]:
    """Return the migrations in their order."""
    return tuple(sorted((_FOLDER / engine).glob("[0-9][0-9][0-9][0-9]_*.sql")))


def latest(engine: EngineName) -> int:
    """Return the number of the newest schema that this Instar knows."""
    return number(files(engine)[-1])


def number(file: Path) -> int:
    """Return the version of the schema that ``file`` leads to."""
    return int(file.name[:4])


def after(engine: EngineName, version: int) -> tuple[Path, ...]:
    """Return the migrations that a database of ``version`` has not had."""
    return tuple(file for file in files(engine) if number(file) > version)


def require_known(engine: EngineName, address: str, version: int) -> None:
    """Raise LedgerNewer when a ledger of ``version`` is of an Instar to come."""
    if version > latest(engine):
        raise LedgerNewer(
            f"cannot open '{address}': a newer Instar wrote it (schema {version}, this one knows {latest(engine)})",
            hint="use that Instar, or a newer one; nothing was changed",
        )


def role_script() -> str:
    """Return the SQL that makes the roles which a shared ledger needs."""
    return (_FOLDER / "postgresql" / "role.sql").read_text("utf-8")

"""The address of a ledger's database, as libpq reads it, and what to do where no connection comes of it.

Where a password comes from is libpq's business (``passfile``, a service's entry, a certificate): an address with one in
it is refused, since addresses are shown.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
from psycopg.conninfo import conninfo_to_dict
from psycopg.pq import Conninfo
from psycopg.pq.abc import PGconn

from instar.errors import UsageError

_DEFAULTS = {  # where the address doesn't say otherwise: a server that has gone is missed within twenty seconds
    "connect_timeout": "10",
    "keepalives_idle": "5",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "15000",
    "application_name": "instar",
}
_BY_A_FILE = "name a file with it (?passfile=/etc/instar/ledger.pass, 0600), or a service: docs/ledger.md"
_LOOK = "what runs goes on without it; look at the database, the address and the network between"
_FIELD = r"((?:[^:\\]|\\.)*)"  # of a password file's line: ":" and "\" stand behind a "\"
_LINE = re.compile(rf"{_FIELD}:{_FIELD}:{_FIELD}:{_FIELD}:")


def read(address: str) -> dict[str, Any]:
    """Return the parameters of ``address``. Raises UsageError where it is none, or a password is in it."""
    try:
        found = conninfo_to_dict(address)
    except psycopg.Error:  # its text may hold what is in the address
        raise UsageError(
            f"cannot read the ledger's address: {_unread(address)}",
            hint="postgresql://USER@HOST/DATABASE, or postgresql:///?service=NAME",
        ) from None
    if found.get("password") or found.get("sslpassword"):
        raise UsageError("cannot use the ledger's address: there is a password in it", hint=_BY_A_FILE)
    return {**{name: value for name, value in _DEFAULTS.items() if name not in found}, **found}


def _unread(address: str) -> str:
    """Say why libpq does not read ``address``, showing nothing of it that could be a secret."""
    known = [option.keyword.decode() for option in Conninfo.get_defaults()]
    for parameter in urlsplit(address).query.split("&"):
        name = parameter.partition("=")[0]
        near = difflib.get_close_matches(name, known, n=1)
        if name not in known and near:
            return f"libpq has no parameter '{name}'; did you mean '{near[0]}'?"
    return "it is not one that libpq can read"


def shown(conninfo: Mapping[str, Any]) -> str:
    """Return an address as messages show it."""
    host = str(conninfo.get("host", ""))
    where = "" if host.startswith("/") else host
    port = f":{conninfo['port']}" if "port" in conninfo and where else ""
    user = f"{conninfo['user']}@" if "user" in conninfo else ""
    more = [f"host={host}"] if host.startswith("/") else []
    more += [f"{name}={conninfo[name]}" for name in ("service",) if name in conninfo]
    return f"postgresql://{user}{where}{port}/{conninfo.get('dbname', '')}" + (f"?{'&'.join(more)}" if more else "")


def first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


def what_to_do(error: psycopg.Error) -> str:
    """Return what to do where ``error`` kept a connection from being made.

    libpq hands on no number of such an error, and the server speaks its own language: what is not known by its text has
    a hint that is right for all of them.
    """
    pgconn = error.pgconn
    if pgconn is None:
        return _LOOK
    database, user = pgconn.db.decode(), pgconn.user.decode()
    for phrase, hint in (
        (
            f'database "{database}" does not exist',
            f"where that is its name, make it (createdb -E UTF8 -T template0 {database}), then its roles (instar "
            "ledger role) and its schema (instar ledger upgrade): docs/ledger.md, Setting one up",
        ),
        (f'role "{user}" does not exist', f"the roles of a ledger are made by: instar ledger role | psql {database}"),
        (
            "pg_hba.conf",
            f"look whether the name '{database}' is right, and whether pg_hba.conf there has a line of it, of '{user}' "
            "and of this machine (of hostssl with ?sslmode=require): docs/ledger.md, Setting one up",
        ),
    ):
        if phrase in str(error):
            return hint
    if pgconn.needs_password:
        return f"it asks for a password, and there is none for this user: {_missing(pgconn)}"
    if pgconn.used_password:
        return f"{_LOOK}; where it is the password of '{user}' that is refused: {_BY_A_FILE}"
    return _LOOK


def _missing(pgconn: PGconn) -> str:
    """Say why libpq has found no password. Source: PostgreSQL, The Password File"""
    file = Path(next((option.val or b"").decode() for option in pgconn.info if option.keyword == b"passfile"))
    try:
        mode, text = file.stat().st_mode, file.read_text("utf-8", "replace")
    except FileNotFoundError:
        return f"there is no file '{file}'; {_BY_A_FILE}"
    except OSError as error:
        return f"'{file}' cannot be read ({(error.strerror or str(error)).lower()}); {_BY_A_FILE}"
    if mode & 0o077:
        return f"one that others may read is not used: chmod 0600 '{file}'"
    host, *rest = (one.decode() for one in (pgconn.host, pgconn.port, pgconn.db, pgconn.user))
    asked = ("localhost" if host.startswith("/") else host, *rest)
    if not any(_is_of(line, asked) for line in text.splitlines()):
        return f"'{file}' has no line of {':'.join(asked)}:PASSWORD"
    return _BY_A_FILE


def _is_of(line: str, asked: Sequence[str]) -> bool:
    found = _LINE.match(line)
    return found is not None and all(
        field == "*" or re.sub(r"\\(.)", r"\1", field) == one for field, one in zip(found.groups(), asked, strict=True)
    )

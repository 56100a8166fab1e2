"""A real PostgreSQL of the tests' own, from Debian's package: in a temporary folder, as a user without rights."""

from __future__ import annotations

import contextlib
import functools
import itertools
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg

from instar.ledger import Ledger

PASSWORD = "not-in-any-message"
_TABLES = (
    "events",
    "environments",
    "settings",
    "releases",
    "rollouts",
    "instances",
    "provider_records",
    "tasks",
    "leases",
    "secret_keys",
    "signing_keys",
    "secrets",
    "notices",
    "boots",
)
_COUNT = itertools.count(1)
_OPTIONS = (
    "fsync=off",
    "full_page_writes=off",
    "autovacuum=off",
    "max_connections=50",
    "shared_buffers=16MB",
    "log_min_messages=warning",
)


class PostgresServer:
    """A server that is there until :meth:`stop`. Over its socket everybody is let in, over TCP with a password."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="instar-pg-"))
        self.port = _free_port()
        self._user = _unprivileged()
        if self._user:
            shutil.chown(self.folder, self._user)
        self._run("initdb", "-D", self.data, "-A", "trust", "-U", "postgres", "-N", "--locale=C", "-E", "UTF8")
        (self.data / "pg_hba.conf").write_text("local all all trust\nhost all all 127.0.0.1/32 scram-sha-256\n")
        self.start()
        self._made: set[str] = set()

    def wiped(self) -> str:
        """Return a database with the schema and nothing in it: the same each time, which is faster than another."""
        tables = ", ".join(f"instar.{table}" for table in _TABLES)
        self.execute("SET session_replication_role = replica", f"TRUNCATE {tables}", database=self._common)
        return self._common

    @functools.cached_property
    def _common(self) -> str:
        return self.database(template=self.template)

    def drop(self, database: str) -> None:
        self.execute(f"DROP DATABASE {database} WITH (FORCE)")

    @functools.cached_property
    def template(self) -> str:
        """A database that has the schema, to make others from."""
        name = self.database()
        Ledger(self.address(name), actor="template").close()
        return name

    @property
    def data(self) -> Path:
        return self.folder / "data"

    def start(self) -> None:
        options = [word for option in _OPTIONS for word in ("-c", option)]
        where = ["-k", self.folder, "-c", "listen_addresses=127.0.0.1", "-p", str(self.port)]
        ending_with_us = ("setpriv", "--pdeathsig", "QUIT")  # a test's process that is killed stops nothing itself
        argv = [*ending_with_us, _program("postgres"), "-D", self.data, *where, *options]
        log = (self.folder / "log").open("ab")
        with log:
            self.process = subprocess.Popen(argv, stdout=log, stderr=log, **self._as_user())  # type: ignore[call-overload]
        deadline = time.monotonic() + 30
        while True:
            try:
                self.execute("SELECT 1")
                return
            except psycopg.OperationalError:
                if time.monotonic() > deadline or self.process.poll() is not None:
                    raise AssertionError((self.folder / "log").read_text()) from None
                time.sleep(0.02)

    def halt(self) -> None:
        """Stop it at once, as a power cut does for those who are connected."""
        self.process.send_signal(signal.SIGQUIT)
        self.process.wait(30)

    def stop(self) -> None:
        self.halt()
        shutil.rmtree(self.folder)

    def execute(self, *statements: str, database: str = "postgres") -> list[tuple[object, ...]]:
        """Execute statements as the server's superuser; return the rows of the last."""
        with psycopg.connect(host=str(self.folder), port=self.port, user="postgres", dbname=database) as connection:
            connection.autocommit = True
            for statement in statements:
                cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def database(self, template: str = "template0") -> str:
        """Make a database of its own; return its name."""
        name = f"t{os.getpid()}_{next(_COUNT)}"
        self.execute(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY file_copy")
        return name

    def address(self, database: str, *, user: str = "postgres", **more: object) -> str:
        words = "&".join(f"{name}={value}" for name, value in more.items())
        return f"postgresql://{user}@/{database}?host={self.folder}&port={self.port}" + (f"&{words}" if words else "")

    def tcp_address(self, database: str, *, user: str, port: int | None = None, **more: object) -> str:
        words = "&".join(f"{name}={value}" for name, value in more.items())
        return f"postgresql://{user}@127.0.0.1:{port or self.port}/{database}" + (f"?{words}" if words else "")

    def _run(self, name: str, *arguments: object) -> None:
        subprocess.run([_program(name), *map(str, arguments)], check=True, capture_output=True, **self._as_user())  # type: ignore[call-overload]

    def _as_user(self) -> dict[str, object]:
        who: dict[str, object] = {"cwd": "/", "start_new_session": True}
        return {**who, "user": self._user, "group": self._user, "extra_groups": []} if self._user else who


@contextlib.contextmanager
def postgres_server() -> Iterator[PostgresServer]:
    server = PostgresServer()
    try:
        yield server
    finally:
        server.stop()


def _program(name: str) -> Path:
    found = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    assert found, f"{name} is not here: scripts/setup --test installs it"
    return found[-1]


def _unprivileged() -> str | None:
    """The server refuses to run as root."""
    if os.geteuid() != 0:
        return None
    return pwd.getpwnam("postgres").pw_name


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])

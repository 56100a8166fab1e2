"""Widely used Python projects, in the versions of the day, locked and taken apart as a bake does it.

Each is resolved on its own for Debian 12, fetched, held against its lock, and installed into nothing. What was done
with the same versions is not done again: results are kept in ``$INSTAR_SURVEY`` (or the user's cache), with what was
fetched, so that a run that was broken off goes on where it was. ``scripts/test --long`` runs it.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from pathlib import Path

import pytest

from instar.bake.contents import require_wheels
from instar.bake.root import Written
from instar.bake.wheels.wheel import Layout, install
from instar.fetch.cache import Cache
from instar.fetch.python import solve_wheels
from instar.fetch.requirements import Requirement
from instar.fetch.target import WheelTarget
from instar.fetch.wheels import fetch_wheels
from instar.model.digest import Digest
from instar.model.lock import Lock, Package, Requested, Wheel

WEB = (
    "django flask fastapi uvicorn[standard] gunicorn aiohttp tornado sanic falcon pyramid litestar djangorestframework"
    " bottle requests httpx jinja2 bleach scrapy beautifulsoup4 lxml"
)
DATA = "numpy pandas scipy polars pyarrow scikit-learn matplotlib pillow duckdb networkx pydantic orjson msgpack tzdata"
STORES = (
    "sqlalchemy psycopg[binary] psycopg2-binary pymysql redis pymongo asyncpg elasticsearch alembic cassandra-driver"
    " boto3 azure-storage-blob azure-identity google-cloud-storage google-cloud-bigquery kubernetes grpcio protobuf"
)
TOOLS = (
    "setuptools wheel pip hatchling poetry-core flit-core meson ninja cython cffi build virtualenv scikit-build-core"
    " pytest celery rich cryptography pyyaml zstandard opentelemetry-sdk sentry-sdk paramiko ansible-core"
)
PROJECTS = tuple(" ".join((WEB, DATA, STORES, TOOLS)).split())
BOOKWORM = WheelTarget(python="3.11", architecture="amd64", glibc_minor=36)
LIBC = Package(
    name="libc6", version="2.36-9", architecture="amd64", size_bytes=1, sha256=Digest.of(b""), label="Debian",
    suite="bookworm", path="pool/libc6.deb", step="base",
)  # fmt: skip
LAYOUT = Layout(prefix="/opt/venv", packages="lib/site-packages", scripts="bin", headers="include")


def survey() -> Path:
    folder = Path(os.environ.get("INSTAR_SURVEY") or Path.home() / ".cache/instar-survey")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def installed(wheel: Wheel, cache: Cache) -> int:
    """Return how many files the wheel has, all of them read to their end."""
    count = 0

    def put(path: str, content: Iterable[bytes], mode: int) -> Written:
        nonlocal count
        count += 1
        hashed, size_bytes = hashlib.sha256(), 0
        for chunk in content:
            hashed.update(chunk)
            size_bytes += len(chunk)
        return Written(hashed.digest(), size_bytes)

    install(cache.verify(wheel.sha256), wheel.filename, LAYOUT, put)
    return count


@pytest.mark.long
@pytest.mark.parametrize("project", PROJECTS)
def test_a_widely_used_project_is_locked_fetched_and_installed(project: str) -> None:
    cache, record = Cache(survey() / "cache"), survey() / f"{project.partition('[')[0]}.json"
    wheels = solve_wheels([Requirement(file="requirements.txt", line=1, text=project)], BOOKWORM, cache)
    versions = {wheel.name: [wheel.version, wheel.sha256] for wheel in wheels}
    if record.is_file() and json.loads(record.read_text()) == versions:
        return
    if missing := [wheel for wheel in wheels if cache.find(wheel.sha256) is None]:
        fetch_wheels(missing, BOOKWORM.python, cache)
    requested = Requested(base="debian:bookworm", requirements=(project,))
    require_wheels(
        Lock(
            bake_format=1, architecture="amd64", requested=requested, suites=(), packages=(LIBC,), python="3.11",
            wheels=wheels,
        ),
        cache,
    )  # fmt: skip
    assert all(wheel.why is not None for wheel in wheels)
    assert all(installed(wheel, cache) > 3 for wheel in wheels), "files, and its metadata"
    record.write_text(json.dumps(versions))

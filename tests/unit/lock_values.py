"""A small lock to vary, and definitions that it fits or doesn't."""

from __future__ import annotations

from pathlib import Path

from instar.definition import Loaded, parse
from instar.lock.fit import host_architecture
from instar.model.digest import Digest
from instar.model.lock import Lock, Package, Requested, Suite, Wheel


def package(name: str, version: str = "1.0", *, step: str = "packages", suite: str = "bookworm") -> Package:
    return Package(
        name=name,
        version=version,
        architecture="amd64",
        size_bytes=1234,
        sha256=Digest.of(f"{name} {version}".encode()),
        label="Debian",
        suite=suite,
        path=f"pool/main/{name[0]}/{name}/{name}_{version}_amd64.deb",
        step="base" if step == "base" else "packages",
    )


def wheel(name: str, version: str = "1.0") -> Wheel:
    filename = f"{name.replace('-', '_')}-{version}-py3-none-any.whl"
    return Wheel(name=name, version=version, filename=filename, sha256=Digest.of(filename.encode()))


LOCK = Lock(
    bake_format=1,
    architecture=host_architecture(),
    requested=Requested(base="debian:bookworm", packages=("curl", "perl=5.36"), requirements=("flask==2.2", "uvicorn")),
    suites=(Suite(label="Debian", suite="bookworm", date=1_700_000_000),),
    packages=(
        package("bash", step="base"),
        package("curl", "1:7.88~rc1+b1"),
        package("perl", "5.36"),
        package("python3"),
    ),
    python="3.11",
    wheels=(wheel("flask", "2.2"), wheel("h11"), wheel("uvicorn")),
)


def author_writes(
    folder: Path,
    packages: str = "[curl, perl=5.36]",
    requirements: str | None = "flask==2.2\nuvicorn\n",
    base: str = "debian:bookworm",
) -> Loaded:
    lines = ["name: web", "image:", f"  base: {base}", f"  packages: {packages}"]
    if requirements is not None:
        (folder / "requirements.txt").write_text(requirements)
        lines.append("  python: requirements.txt")
    lines += ['service: {command: [sleep, "1"]}', "environments: {dev: {}}", ""]
    return parse("\n".join(lines), str(folder / "instar.yaml"))

"""Builds a source distribution of Python in the sandbox: this file is run there, by the stage's own Python.

It knows nothing of Instar. Words: ``requires`` or ``wheel``, and JSON: the file, the folder in it, the backend and
where that is. The wheels that building takes lie in a folder. The answer is a file of JSON beside what was built.

Source: PEP 517; PyPA specifications, "Binary distribution format", "Entry points".
"""

from __future__ import annotations

import configparser
import importlib
import json
import os
import pathlib
import shutil
import site
import sys
import tarfile
import zipfile

GIVEN = pathlib.Path("/run/instar/source")
WORK = pathlib.Path("/build")
ENVIRONMENT = WORK / "environment"
LAUNCHER = "#!{python}\nimport sys\nfrom {module} import {name}\nsys.exit({call}())\n"


def main(wish: str, given: str) -> None:
    asked = json.loads(given)
    if ENVIRONMENT.exists():
        shutil.rmtree(ENVIRONMENT)
    for wheel in sorted((GIVEN / "wheels").iterdir()):
        install(wheel)
    packages = ENVIRONMENT / "packages"
    packages.mkdir(parents=True, exist_ok=True)
    sys.path.insert(0, str(packages))
    site.addsitedir(str(packages))
    os.environ["PYTHONPATH"] = str(packages)
    os.environ["PATH"] = f"{ENVIRONMENT}/bin:{os.environ['PATH']}"
    folder = unpacked(asked["file"], asked["folder"])
    os.chdir(folder)
    sys.path[:0] = [str(folder / one) for one in asked["backend_path"]]
    module, _, name = asked["backend"].partition(":")
    backend = importlib.import_module(module)
    for part in name.split(".") if name else ():
        backend = getattr(backend, part)
    (WORK / "out").mkdir(exist_ok=True)
    if wish == "requires":
        hook = getattr(backend, "get_requires_for_build_wheel", None)
        answer = {"requires": list(hook(None)) if hook else []}
    else:
        answer = {"wheel": backend.build_wheel(str(WORK / "out"), None)}
    (WORK / "answer.json").write_text(json.dumps(answer))


def unpacked(file: str, folder: str) -> pathlib.Path:
    place = WORK / "source"
    if place.exists():
        shutil.rmtree(place)
    with tarfile.open(GIVEN / file) as archive:
        archive.extractall(place)  # noqa: S202  nobody's own, in the sandbox
    return place / folder


def install(wheel: pathlib.Path) -> None:
    """Put a wheel where the backend finds it: its packages, its programs."""
    packages, programs = ENVIRONMENT / "packages", ENVIRONMENT / "bin"
    programs.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(packages)  # noqa: S202
        names = archive.namelist()
    for data in packages.glob("*.data"):
        for scheme in data.iterdir():
            to = programs if scheme.name == "scripts" else ENVIRONMENT if scheme.name == "data" else packages
            shutil.copytree(scheme, to, dirs_exist_ok=True)
        shutil.rmtree(data)
    for name in names:
        if name.endswith(".dist-info/entry_points.txt") and name.count("/") == 1:
            make_launchers(packages / name, programs)
    for program in programs.iterdir():
        start = program.read_bytes()
        if start.startswith(b"#!python"):
            program.write_bytes(f"#!{sys.executable}".encode() + start[start.find(b"\n") :])
        program.chmod(0o755)


def make_launchers(file: pathlib.Path, programs: pathlib.Path) -> None:
    parser = configparser.RawConfigParser(delimiters=("=",), strict=False)
    parser.optionxform = str  # type: ignore[assignment,method-assign]  # names keep their case
    parser.read_string(file.read_text("utf-8"))
    for script, target in parser.items("console_scripts") if parser.has_section("console_scripts") else ():
        module, _, call = target.partition("[")[0].replace(" ", "").partition(":")
        name = call.partition(".")[0]
        (programs / script).write_text(LAUNCHER.format(python=sys.executable, module=module, name=name, call=call))


if __name__ == "__main__":
    main(*sys.argv[1:3])

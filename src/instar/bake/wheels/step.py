"""The step ``python``: a virtual environment in /opt/venv with the locked wheels, on the image's own Python.

Its files come from the wheels alone and are written here; then the image's Python compiles them in the sandbox, to
bytecode that is valid by content, as nothing in the image changes any more.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from instar.bake.image import VENV
from instar.bake.root import ROOT, Root, Written
from instar.bake.scratch import Room
from instar.bake.wheels import libraries, wheel
from instar.bake.wheels.wheel import Layout
from instar.model.lock import Wheel

_PYTHON = "/usr/bin/python3"  # Debian's
_SYNTAX_ERRORS = 1  # of compileall: a file for another Python, or a template; importing it would fail the same way


def bake_python(version: str, wheels: Sequence[Wheel], architecture: str, room: Room, other: str | None = None) -> None:
    """Make the virtual environment. ``other`` is where the Python is that the image has, where it is not Debian's.

    Raises BakeError, StepFailed, FetchError, OSError.
    """
    python = other or _PYTHON
    home = python.rpartition("/")[0]
    layout = Layout(
        prefix=VENV,
        packages=f"lib/python{version}/site-packages",
        scripts="bin",
        headers=f"include/site/python{version}",
    )
    with Root(room.root(), epoch=room.epoch) as root:
        if not root.exists(f"{home}/python{version}") or not root.exists(python):
            raise room.failed(f"there is no Python {version} in the image", hint="add python3 to image.packages")
        _make_environment(root, python, version, layout)
        for one in sorted(wheels, key=lambda one: one.name):
            room.say(f"installing {one.name} {one.version}")
            _install(root, one, layout, room)
        with root.folder(f"{VENV}/{layout.packages}") as top:
            for text in libraries.missing(root, top, architecture):
                room.warn(text)
    room.say("compiling")
    compile_all = ["-m", "compileall", "-q", "--invalidation-mode", "unchecked-hash", f"{VENV}/{layout.packages}"]
    room.run([python, "-I", "-S", *compile_all], env={}, accept=(0, _SYNTAX_ERRORS), on_line=lambda line: None)


def _make_environment(root: Root, python: str, version: str, layout: Layout) -> None:
    """Source: PEP 405."""
    for name in (layout.scripts, layout.packages):
        root.make_directory(f"{VENV}/{name}")
    for name, target in (("python", python), ("python3", "python"), (f"python{version}", "python")):
        root.put_link(f"{VENV}/{layout.scripts}/{name}", target, owner=ROOT)
    home = python.rpartition("/")[0]
    text = f"home = {home}\ninclude-system-site-packages = false\nversion = {version}\n"
    root.put(f"{VENV}/pyvenv.cfg", [text.encode()], owner=ROOT, mode=0o644)


def _install(root: Root, one: Wheel, layout: Layout, room: Room) -> None:
    made: set[str] = set()

    def put(path: str, content: Iterable[bytes], mode: int) -> Written:
        path = f"{VENV}/{path}"
        above = path.rpartition("/")[0]
        if above not in made:
            root.make_directory(above)
            made.add(above)
        return root.put(path, content, owner=ROOT, mode=mode)

    wheel.install(room.cache.verify(one.sha256), one.filename, layout, put)

"""What is taken for an orphan of this state directory, and what anybody can only pretend."""

from __future__ import annotations

import subprocess
from pathlib import Path

from instar.model.state import StateDirectory
from instar.providers.local import removal
from instar.providers.local.names import Names


def test_only_names_of_instances_are_taken_from_command_lines(tmp_path: Path) -> None:
    names = Names(StateDirectory(tmp_path, tmp_path / "run"), "abc123")
    here = names.state.instances
    words = [f"{here}/{name}" for name in ("..", "conmon", ".", "", "../x-1-1", "web-dev-1-1/config.json")]
    command = ["sh", "-c", "echo; read line; exit 0", *words]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as poser:
        assert poser.stdout is not None
        poser.stdout.readline()
        found = removal._found(names)
        poser.communicate(b"\n")
    assert found == {("web-dev-1-1", -1)}

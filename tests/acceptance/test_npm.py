"""A service of node's with packages of npm: from package-lock.json to an answer, with nothing but the real things."""

from __future__ import annotations

import json
import shutil
import subprocess
import urllib.request
from pathlib import Path

import pytest
from leftovers import remove_state
from project import Project

from free_ports import free_port

pytestmark = [pytest.mark.root, pytest.mark.long]

DEFINITION = """\
name: shop
image:
  base: debian:bookworm
  packages: [nodejs, npm]
  npm: {from: app, to: /srv/app}
  files: [{from: app, to: /srv/app}]
service: {command: [node, server.js], workdir: /srv/app, port: 8080, jit: true}
environments:
  dev: {listen: "127.0.0.1:PORT"}
"""
SERVER = "require('express')().get('/', (_, answer) => answer.send('hello\\n')).listen(8080, '0.0.0.0')\n"


def test_an_express_application_is_locked_baked_deployed_and_answers(tmp_path: Path) -> None:
    if shutil.which("npm") is None:
        pytest.skip("needs npm, which writes the lock file")
    folder, port = tmp_path / "shop", free_port()
    (folder / "app").mkdir(parents=True)
    (folder / "app/server.js").write_text(SERVER)
    (folder / "app/package.json").write_text(json.dumps({"name": "shop", "dependencies": {"express": "4"}}))
    subprocess.run(["npm", "install", "--package-lock-only", "--silent"], cwd=folder / "app", check=True, timeout=120)
    (folder / "instar.yaml").write_text(DEFINITION.replace("PORT", str(port)))
    project = Project(folder=folder, home=tmp_path / "home", ports={})
    try:
        project.instar("deploy", "dev", timeout_s=1_500)
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=10) as answer:
            assert answer.read() == b"hello\n"
        locked = json.loads((folder / "instar.lock").read_text())
        express = next(one for one in locked["artifacts"] if one["name"] == "express")
        assert express["version"].startswith("4.")
        assert "://" not in json.dumps(locked)
    finally:
        project.destroy_all()
        remove_state(project.home)

"""An image on the move: baked on one machine, run on another that has never baked, and the same one all the way."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from leftovers import remove_state
from project import Project, new_project

from registries import RealRegistry, running


@pytest.fixture
def other(tmp_path: Path) -> Iterator[Project]:
    """The same project on another machine, where nothing was ever baked. Afterwards nothing of it may be left."""
    made = new_project(tmp_path / "other/hello", tmp_path / "other/home")
    made.home.mkdir(mode=0o700)
    yield made
    made.destroy_all()
    remove_state(made.home)


def test_what_one_machine_bakes_another_runs(project: Project, other: Project, tmp_path: Path) -> None:
    with running(RealRegistry(tmp_path / "registry")) as registry:
        for one in (project, other):
            one.edit("name: hello\n", f"name: hello\nregistry: {registry.host}/team/hello\n")
        digest = project.json("bake")["digest"]
        refused = other.try_instar("deploy", "dev", "--image", digest)
        assert refused.status == 1
        assert f"instar push {digest.removeprefix('sha256:')[:12]}" in refused.err

        assert project.instar("push", "hello").out == f"{registry.host}/team/hello@{digest}\n"
        planned = other.try_instar("deploy", "dev", "--image", digest, "--plan")
        assert planned.status == 2 and "it is pulled from" in planned.out
        assert other.json("deploy", "dev", "--image", digest)["image"] == digest
        assert "hello" in other.get()
        assert other.json("drift", "dev")["clean"]
        assert project.json("push", "hello")["moved"] == 0
        assert other.json("pull", f"{registry.host}/team/hello@{digest}")["moved"] == 0


@pytest.mark.long
def test_what_other_tools_have_made_of_it_runs_too(project: Project, other: Project, tmp_path: Path) -> None:
    """As skopeo converts it: with layers in gzip, and as docker save would write it."""
    digest = project.json("bake")["digest"]
    project.instar("export", digest, str(tmp_path / "hello.oci"))
    assert other.instar("import", str(tmp_path / "hello.oci")).out == f"{digest}\n"
    project.instar("export", digest, str(tmp_path / "gzip.oci"), "--compression", "gzip")
    source, target = f"oci-archive:{tmp_path}/gzip.oci", f"docker-archive:{tmp_path}/hello.tar:hello:v1"
    subprocess.run(["skopeo", "copy", "--quiet", source, target], check=True)
    found = {file: other.json("import", str(tmp_path / file)) for file in ("gzip.oci", "hello.tar")}
    tars = [[layer["diff_id"] for layer in one["layers"]] for one in found.values()]
    assert tars[0] == tars[1] and found["gzip.oci"]["digest"] != digest
    assert other.json("deploy", "dev", "--image", found["gzip.oci"]["digest"])["outcome"] == "done"
    assert "hello" in other.get()
    assert other.json("drift", "dev")["clean"]

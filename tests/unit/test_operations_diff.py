"""What is different between two releases: read out of real layers, as an overlay would show them."""

from __future__ import annotations

import io
import re
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from instar.definition import Loaded, load
from instar.errors import Refused, StoreError
from instar.model.digest import Digest
from instar.model.image import Image, ImageConfig, Layer
from instar.model.release import EnvironmentId
from instar.operations.deploy import deploy
from instar.operations.diff import diff
from instar.operations.image_diff import image_diff
from instar.views.diffs import diff_json, diff_page
from instar.views.page import Table
from simulated.workspace import SimulatedWorkspace

DEV = EnvironmentId(service="web", name="dev")
DEFINITION = """\
name: web
image: {base: debian:bookworm}
service: {command: ["true"], port: 8080}
environments:
  dev: {listen: 127.0.0.1:8080, config: {GREETING: hello}}
"""
STATUS = """\
Package: libc6
Status: install ok installed
Version: %s

Package: gone
Status: deinstall ok config-files
"""


@pytest.fixture
def loaded(tmp_path: Path) -> Loaded:
    (tmp_path / "instar.yaml").write_text(DEFINITION)
    return load(tmp_path / "instar.yaml")


def layer(workspace: SimulatedWorkspace, files: Mapping[str, str | None]) -> Layer:
    """Put a layer into the store: a path that ends in "/" is a folder, None a whiteout."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for path, content in files.items():
            above, _, name = path.rpartition("/")
            one = tarfile.TarInfo(path if content is not None else f"{above}/.wh.{name}".lstrip("/"))
            one.type = tarfile.DIRTYPE if path.endswith("/") else tarfile.REGTYPE
            one.size = len(content or "")
            tar.addfile(one, io.BytesIO((content or "").encode()))
    digest, size = workspace.store.add_blob([out.getvalue()])
    kind = "application/vnd.oci.image.layer.v1.tar"
    return Layer(digest=digest, diff_id=digest, size_bytes=size, media_type=kind)


def image(workspace: SimulatedWorkspace, *layers: Mapping[str, str | None]) -> Image:
    config = ImageConfig(architecture="amd64", user="0:0", command=("true",))
    return workspace.store.add_image(config, [layer(workspace, files) for files in layers], created=0)


def text(page: Iterator[str | Table]) -> str:
    return "\n".join(line for part in page for line in (part.lines() if isinstance(part, Table) else [part]))


def test_packages_files_and_configuration_are_compared(workspace: SimulatedWorkspace, tmp_path: Path) -> None:
    site, node = "opt/venv/lib/python3.11/site-packages", "srv/node_modules/@x/y/package.json"
    one = image(
        workspace,
        {"var/lib/dpkg/status": STATUS % "1", "etc/": "", "etc/motd": "hi", "etc/shadow": "x", "srv/old/a": "a"},
        {f"{site}/Flask_Login-1.0.dist-info/METADATA": "", node: '{"version": "1.0"}'},
    )
    two = image(
        workspace,
        {"var/lib/dpkg/status": STATUS % "2", "etc/": "", "etc/motd": "hi", "etc/shadow": "x", "srv/old/a": "a"},
        {
            f"{site}/Flask_Login-1.1.dist-info/METADATA": "",
            node: '{"version": "\\u001b"}',
        },
        {"etc/shadow": None, "srv/old": None, "etc/motd": "hello", "srv/new\n": "n"},
    )
    for word, greeting in ((one, "hello"), (two, "ho")):
        (tmp_path / "instar.yaml").write_text(DEFINITION.replace("hello", greeting))
        deploy(workspace, load(tmp_path / "instar.yaml"), "dev", image=word.digest)
    found = diff(workspace, workspace.ledger.get_environment(DEV), None, None)
    assert (found.before.number, found.after.number) == (1, 2) and found.image is not None
    assert [(one.kind, one.name, one.before, one.after) for one in found.image.packages] == [
        ("debian", "libc6", "1", "2"),
        ("npm", "@x/y", "1.0", "?"),
        ("python", "flask-login", "1.0", "1.1"),
    ]
    files = {one.path: (one.kind, one.what) for one in found.image.files}
    assert files["/etc/motd"] == ("changed", ("content",))
    assert files["/etc/shadow"] == files["/srv/old/a"] == ("removed", ())
    assert files["/srv/new?"] == ("added", ()) and "/etc" not in files
    assert [(one.what, one.before, one.after) for one in found.configuration] == [("config.GREETING", "hello", "ho")]
    shown = text(diff_page(found, all_files=False))
    assert "config.GREETING" in shown and "2 → 5 B" in shown and "\x1b" not in shown
    assert {"packages", "files", "configuration", "before", "after"} <= diff_json(found).keys()


def test_an_image_that_is_gone_leaves_the_configuration_to_compare(
    workspace: SimulatedWorkspace, loaded: Loaded
) -> None:
    for word in ("one", "two"):
        deploy(workspace, loaded, "dev", image=workspace.bake(word).digest)
    gone = workspace.ledger.get_release(DEV, 1).image
    workspace.store.remove(gone)
    found = diff(workspace, workspace.ledger.get_environment(DEV), 1, 2)
    assert found.image is None and not found.is_same
    assert "not here any more" in text(diff_page(found, all_files=False))
    assert image_diff(workspace, gone, gone) is not None, "the same digest has the same files, here or not"


def test_there_is_something_to_compare_or_it_is_said_that_there_is_nothing(
    workspace: SimulatedWorkspace, loaded: Loaded
) -> None:
    deploy(workspace, loaded, "dev", image=workspace.bake("one").digest)
    environment = workspace.ledger.get_environment(DEV)
    with pytest.raises(Refused, match="no other release of 'web/dev' has served"):
        diff(workspace, environment, None, None)
    assert diff(workspace, environment, 1, 1).is_same


def test_a_layer_that_nothing_unpacks_is_an_error_and_no_empty_list(workspace: SimulatedWorkspace) -> None:
    digest, size = workspace.store.add_blob([b"no tar"])
    for kind in ("application/vnd.oci.image.layer.v1.tar", "application/x-other"):
        wrong = Layer(digest=digest, diff_id=Digest(digest), size_bytes=size, media_type=kind)
        with pytest.raises(StoreError, match="cannot list layer"):
            workspace.store.list_files([wrong], re.compile(b"x"))

"""What a plan says of the image: why which steps would run, and the first of the files that are other."""

from __future__ import annotations

from pathlib import Path

from control_values import ENV

from instar.definition import load
from instar.model.image_diff import FileChange, ImageDiff
from instar.model.plan import DeployPlan, PlannedChange
from instar.operations.lock import lock
from instar.operations.plan import plan
from instar.views.page import Table
from instar.views.plans import plan_json, plan_page
from simulated.workspace import SimulatedWorkspace

CHANGES = (PlannedChange(kind="image", what="image", before="a", after="b"),)
DEFINITION = """\
name: web
image: {base: scratch, files: [{from: site, to: /srv/site}]}
service: {command: [/srv/site/serve]}
environments: {dev: {}}
"""


def page(found: DeployPlan) -> str:
    each = ("\n".join(one.lines()) if isinstance(one, Table) else one for one in plan_page(found))
    return "\n".join(each)


def shown(count: int) -> list[str]:
    """Return what the page has after the count, of so many new files."""
    inside = ImageDiff(files=tuple(FileChange(path=f"/srv/{one}", kind="added", after_bytes=1) for one in range(count)))
    found = DeployPlan(environment=ENV, active=1, steps=(), image=None, release=True, changes=CHANGES, inside=inside)
    counted, files = page(found).partition(f"files: {count} added, 0 removed, 0 changed\n")[1:]
    assert counted
    return files.splitlines()


def test_five_files_are_named_and_how_many_there_are_more() -> None:
    assert shown(1) == ["+ /srv/0"]
    assert shown(5) == [f"+ /srv/{one}" for one in range(5)]
    assert shown(7) == [*shown(5), "  and 2 more: add --json"]


def test_steps_that_would_run_for_the_same_reason_are_named_together() -> None:
    steps, reasons = ("files", "run 1", "run 2"), ("new: /srv/a", "'files' before it runs", "'files' before it runs")
    found = DeployPlan(
        environment=ENV, active=1, steps=steps, reasons=reasons, image=None, release=True, changes=CHANGES
    )
    told = page(found).splitlines()[:2]
    assert told == ["bake     files: new: /srv/a", "bake     run 1, run 2: 'files' before it runs"]


def test_a_plan_knows_why_its_steps_would_run(workspace: SimulatedWorkspace, tmp_path: Path) -> None:
    (tmp_path / "instar.yaml").write_text(DEFINITION)
    (tmp_path / "site").mkdir()
    (tmp_path / "site/serve").write_text("one")
    loaded = load(tmp_path / "instar.yaml")
    lock(loaded, cache=tmp_path / "cache", report=workspace.report)
    found = plan(workspace, loaded, "dev")
    assert "files: no bake of 'web' before is known here" in page(found)
    assert len(plan_json(found)["reasons"]) == len(found.steps) > 0

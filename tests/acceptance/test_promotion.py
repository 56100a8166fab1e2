"""What an environment that takes its releases from another lets in, and what is said before anything is done."""

from __future__ import annotations

import fcntl

import pytest
from project import Project

pytestmark = pytest.mark.root


def test_what_is_baked_already_waits_for_no_other_bake(project: Project) -> None:
    project.instar("bake")
    with (project.home / "run/lock/store").open("r+") as store:
        fcntl.flock(store, fcntl.LOCK_EX)  # as another service's bake does for minutes
        assert project.json("deploy", "dev")["outcome"] == "done"
        assert project.json("promote", "dev", "production")["outcome"] == "done"
        project.set_version("2")
        waiting = project.start("deploy", "dev")
        assert waiting.stderr is not None
        assert any("which bakes or collects" in line for line in waiting.stderr), "it bakes beside another"
    assert waiting.wait(60) == 0 and "version 2" in project.get()


def test_production_takes_what_dev_runs_and_nothing_else(project: Project) -> None:
    first = project.try_instar("deploy", "production")
    assert first.status == 1 and "cannot deploy to 'production': it takes its releases from 'dev'" in first.err
    assert "instar promote dev production" in first.err and "--break-promotion" in first.err
    planned = project.try_instar("deploy", "production", "--plan")
    assert (
        planned.status == 1
        and planned.err.replace("promote dev production --plan", "promote dev production") == first.err
    )
    assert project.json("status") == []

    project.instar("deploy", "dev")
    promotion = project.try_instar("promote", "dev", "production", "--plan", "--json")
    assert promotion.status == 2 and promotion.json["release"] and promotion.json["active"] is None
    assert next(change["what"] for change in promotion.json["changes"]) == "image"
    project.instar("promote", "dev", "production")
    done = project.try_instar("promote", "dev", "production", "--plan")
    assert done.status == 0 and done.out.startswith("nothing to do: hello/production runs release 1"), done.out
    assert project.json("deploy", "production")["outcome"] == "unchanged", "what is there may be put right"


def test_its_config_and_settings_change_by_promoting_the_same_image_again(project: Project) -> None:
    project.instar("deploy", "dev")
    project.instar("promote", "dev", "production")
    project.edit("GREETING: good day", "GREETING: good night")
    project.edit("    instances: 2", "    instances: 1")
    assert project.try_instar("deploy", "production").status == 1
    planned = project.try_instar("promote", "dev", "production", "--plan", "--json")
    changes = {change["what"]: (change["before"], change["after"]) for change in planned.json["changes"]}
    assert changes == {"config.GREETING": ("good day", "good night"), "instances": ("2", "1")}
    promoted = project.json("promote", "dev", "production")
    assert promoted["release"] == 2 and "good night" in project.get("production")
    images = {release["image"] for release in project.json("status", "production")["releases"]}
    assert len(images) == 1


def test_in_an_emergency_the_promotion_is_broken_and_that_is_recorded(project: Project) -> None:
    project.instar("deploy", "production", "--break-promotion")
    (begun,) = [event for event in project.json("history", "production") if event["kind"] == "rollout"]
    assert begun["detail"]["break_promotion"] is True


def test_a_plan_needs_no_lock(project: Project) -> None:
    lock = project.folder / "instar.lock"
    lock.rename(lock.with_suffix(".away"))
    planned = project.try_instar("deploy", "dev", "--plan")
    assert planned.status == 2 and planned.out.startswith("lock     every outside input (there is no lock yet)"), (
        planned
    )
    assert not lock.exists() and project.json("status") == []
    assert project.try_instar("deploy", "dev", "--plan", "--json").json["locked"] is False

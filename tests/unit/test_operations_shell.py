"""In which asked a shell comes about, and what refuses it before anything is tainted."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from instar.errors import HostError, InstarError, NotFound, ProviderError, Refused, UsageError
from instar.ledger import Ledger
from instar.model.environment import Settings
from instar.model.progress import silent
from instar.model.state import StateDirectory
from instar.model.survey import Seen, Survey
from instar.operations import shell as operation
from instar.operations.isolation import require_another
from instar.operations.shell import ShellRequest, shell
from instar.providers.facets import Member
from simulated import Simulation
from simulated.shell import SimulatedShell
from simulated.values import ENV, configuration, image, release

LOOK = ShellRequest(why="to look", command="hello")


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """An environment whose active release 1 has two instances that run; release 2 has one that does not."""
    monkeypatch.setattr(operation, "require_root_for", lambda workspace, provider, verb: None)
    monkeypatch.setattr(operation, "_STAYED_S", 0)
    machine, state = Simulation(), StateDirectory(tmp_path, tmp_path / "run")
    with Ledger(state.ledger, actor="ann") as ledger:
        ledger.save_settings(ENV, Settings(replace_within_ms=60_000))
        for number, count in ((1, 2), (2, 1)):
            ledger.add_release(ENV, image(str(number)).digest, configuration({"N": str(number)}))
            for one in ledger.add_instances(ENV, number, count):
                machine.runtime.create(one, release(number), image())
                ledger.set_made(one.id)
                if number == 1:
                    machine.runtime.start(one)
                    ledger.set_started(one.id)
        ledger.set_active(ENV, 1)
        provider = machine.provider
        yield SimpleNamespace(
            ledger=ledger,
            state=state,
            actor="ann",
            report=silent,
            provider=lambda name: provider,
            runtime=machine.runtime,
        )


def have(workspace: Any, asked: ShellRequest = LOOK) -> Any:
    return shell(workspace, workspace.ledger.get_environment(ENV), asked, None)


def kinds(workspace: Any) -> list[str]:
    return [event.kind for event in workspace.ledger.history(ENV) if event.kind in ("taint", "shell", "shell-ended")]


def detail(workspace: Any, kind: str) -> Any:
    return next(event.detail for event in reversed(workspace.ledger.history(ENV)) if event.kind == kind)


def test_a_place_that_nobody_could_look_at_is_no_place_where_nothing_differs(
    workspace: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    unseen = Survey(unknown="its image has no 'find'")
    monkeypatch.setattr("simulated.shell.SimulatedShell.survey", lambda self: unseen)
    left = have(workspace)
    assert (left.whole, left.summary) == (False, "nothing was compared: its image has no 'find'")
    assert detail(workspace, "shell-ended")["different"] == left.summary


def test_a_command_in_the_oldest_instance(workspace: Any, capfd: pytest.CaptureFixture[str]) -> None:
    left = have(workspace)
    assert (left.exit_status, left.differences, left.summary) == (0, (), "nothing differs")
    assert capfd.readouterr().out == "hello\n"
    assert kinds(workspace) == ["taint", "shell", "shell-ended"]
    taint = workspace.ledger.instances(ENV)[0].taint
    assert taint.kind == "shell" and (taint.due_at - taint.at).total_seconds() == 60
    assert detail(workspace, "taint")["recording"] == detail(workspace, "shell")["recording"] == left.recording
    lines = (workspace.state.recordings / f"{left.recording}.cast").read_text().splitlines()
    assert json.loads(lines[0])["command"] == "hello" and json.loads(lines[1])[1:] == ["o", "hello\r\n"]


def test_what_was_changed_and_how_it_ended(workspace: Any) -> None:
    left = have(workspace, dataclasses.replace(LOOK, command="touch /tmp/me"))
    assert [one.name for one in left.differences] == ["/tmp/me"] and left.summary == "1 difference"
    assert detail(workspace, "shell-ended")["differences"] == [
        {"kind": "added", "name": "/tmp/me", "what": "0 B, mode 644"}
    ]
    assert have(workspace, dataclasses.replace(LOOK, command="exit 75")).exit_status == 75
    assert detail(workspace, "shell-ended")["exit_status"] == 75


def test_what_is_kept_of_many_differences_is_bounded(workspace: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operation, "_TOLD", 2)
    monkeypatch.setattr("simulated.shell.SimulatedShell.wait", _make_nine_files)
    assert len(have(workspace).differences) == 9
    told = detail(workspace, "shell-ended")
    assert len(told["differences"]) == 2 and told["count"] == 9


def _make_nine_files(shell: SimulatedShell) -> int:
    shell.files |= {f"/tmp/{number}": Seen(mode=0o100644) for number in range(9)}
    return 0


@pytest.mark.parametrize(
    ("asked", "kind", "said"),
    [
        (ShellRequest(why="x"), UsageError, "not a terminal"),
        (ShellRequest(why=" ", command="x"), UsageError, "without a reason"),
        (ShellRequest(why="x", command=" "), UsageError, "it is empty"),
        (ShellRequest(why="x", command="x", instance="guestbook-dev-7-1"), NotFound, "never had"),
        (ShellRequest(why="x", command="x", instance="guestbook-dev-2-1"), ProviderError, "it does not run"),
    ],
)
def test_what_is_refused_taints_nothing(
    workspace: Any, asked: ShellRequest, kind: type[InstarError], said: str
) -> None:
    with pytest.raises(kind, match=said):
        have(workspace, asked)
    assert kinds(workspace) == [] and not workspace.state.recordings.exists()


def test_without_a_shell_in_the_image(workspace: Any) -> None:
    workspace.runtime.change("guestbook-dev-1-1", has_shell=False)
    with pytest.raises(ProviderError) as caught:
        have(workspace)
    assert "--toolbox" in (caught.value.hint or "") and kinds(workspace) == []
    assert have(workspace, dataclasses.replace(LOOK, toolbox=True)).exit_status == 0
    assert detail(workspace, "shell")["toolbox"]


def test_nothing_to_look_at(workspace: Any) -> None:
    for one in workspace.ledger.instances(ENV):
        workspace.runtime.kill(one.id)
    with pytest.raises(NotFound, match="nothing of its active release runs"):
        have(workspace)


def test_nothing_is_tainted_where_nothing_can_be_recorded(workspace: Any) -> None:
    workspace.state.recordings.touch()
    with pytest.raises(HostError, match="no shell without a record"):
        have(workspace)
    assert kinds(workspace) == []


def test_a_recording_of_nothing_is_removed(workspace: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*words: Any, **more: Any) -> None:
        raise HostError("the disk is gone")

    monkeypatch.setattr(workspace.ledger, "taint", fails)
    with pytest.raises(HostError, match="the disk is gone"):
        have(workspace)
    assert list(workspace.state.recordings.iterdir()) == []


def test_an_instance_that_ends_meanwhile(workspace: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    instance = workspace.ledger.instances(ENV)[0]
    monkeypatch.setattr(
        "simulated.shell.SimulatedShell.wait", lambda self: workspace.runtime.destroy(instance, release(1)) or 137
    )
    left = have(workspace)
    assert left.differences is None and left.summary == "the instance has ended"
    assert detail(workspace, "shell-ended")["different"] == "the instance has ended"


def test_what_cannot_be_isolated(workspace: Any) -> None:
    state = workspace.ledger.get_environment(ENV)
    require_another(state, release(1))
    for of, said in ((release(exclusive=True), "an exclusive volume"), (release(port=None), "it has no port")):
        with pytest.raises(Refused, match=said) as caught:
            require_another(state, of)
        assert "leave --isolate away" in (caught.value.hint or "")
    workspace.ledger.begin_rollout(ENV, "deploy", 2)
    with pytest.raises(Refused, match="the deploy to release 2 is under way"):
        have(workspace, dataclasses.replace(LOOK, isolated=True))
    assert kinds(workspace) == []


class Several:
    """A provider whose engine has two members of each group, and keeps one that is set aside."""

    def __init__(self, provider: Any, group: str, began_at: datetime) -> None:
        self._provider = provider
        one = Member(
            name=f"{group}-a",
            group=group,
            wanted=2,
            own=True,
            serves=True,
            ready=True,
            tainted=False,
            began_at=began_at,
        )
        self.there = {one.name: one, f"{group}-b": dataclasses.replace(one, name=f"{group}-b")}
        self.marked: list[str] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._provider, name)

    @property
    def members(self) -> SimpleNamespace:
        return SimpleNamespace(
            members=lambda environment: tuple(self.there.values()),
            mark=lambda environment, member: self.marked.append(member.name),
            set_aside=lambda environment, member, at: self._set_aside(member),
        )

    def _set_aside(self, member: Member) -> None:
        self.there[member.name] = dataclasses.replace(member, own=False, serves=False)


@pytest.mark.parametrize("isolated", [False, True])
def test_of_a_group_one_member_alone_is_tainted(workspace: Any, isolated: bool) -> None:
    group = workspace.ledger.instances(ENV)[0]
    several = Several(workspace.provider("local"), group.id, workspace.ledger.now())
    workspace.provider = lambda name: several
    have(workspace, dataclasses.replace(LOOK, instance=f"{group.id}-a", isolated=isolated))
    found = workspace.ledger.instances(ENV)[0]
    (taint,) = found.tainted_members
    assert found.taint is None and several.marked == [taint.member] == [f"{group.id}-a"]
    assert (taint.due_at - taint.at).total_seconds() == (0 if isolated else 60)
    assert (taint.aside_at is not None) is isolated
    assert [one.name for one in several.there.values() if not one.serves] == ([taint.member] if isolated else [])
    assert detail(workspace, "shell")["member"] == taint.member

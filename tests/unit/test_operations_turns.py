"""Whose turn it is to act on an environment that somebody has: with real processes, which act, wait and are killed."""

from __future__ import annotations

import contextlib
import random
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from instar import locks
from instar.cancellation import Cancellation
from instar.errors import EnvironmentBusy
from instar.ledger import Ledger
from instar.model.environment import Settings
from instar.model.state import StateDirectory
from instar.operations.locks import environment_lock, give_way, hold_environment, take_turn
from instar.waiting import Deadline, until
from simulated.values import ENV

WORKSPACE = """
import fcntl, sys, time
from pathlib import Path
from types import SimpleNamespace
from instar.cancellation import Cancellation
from instar.errors import EnvironmentBusy
from instar.model.release import EnvironmentId
from instar.model.state import StateDirectory
from instar.operations.locks import give_way, hold_environment, take_turn

ENV = EnvironmentId(service="guestbook", name="dev")
root = Path(sys.argv[1])
ledger = SimpleNamespace(leases=None, find_environment=lambda environment: None, record=lambda *what: None)
workspace = SimpleNamespace(
    ledger=ledger, state=StateDirectory(root, root / "run"), report=lambda progress: None, cancellation=Cancellation()
)


def say(word):
    print(word, flush=True)


def act():
    with (root / "acts").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # an error where another does
        time.sleep(0.004)
"""
WAITS = f"""{WORKSPACE}
with hold_environment(workspace, ENV):
    say("acts")
    sys.stdin.readline()
    with give_way(workspace, ENV):
        say("waits")
        sys.stdin.readline()
    say("acts again")
    sys.stdin.readline()
"""
GUEST = f"""{WORKSPACE}
with take_turn(workspace, ENV):
    say("acts")
    sys.stdin.readline()
"""
OLDER = f"""{WORKSPACE}
from instar import locks

with locks.hold(Path(sys.argv[2]), "it"):
    say("acts")
    sys.stdin.readline()
"""
ROUNDS = f"""{WORKSPACE}
for _ in range(40):
    if sys.argv[2] == "guest":
        with take_turn(workspace, ENV):
            act()
        continue
    try:
        with hold_environment(workspace, ENV):
            for _ in range(4):
                act()
                with give_way(workspace, ENV):
                    time.sleep(0.02)
    except EnvironmentBusy:
        time.sleep(0.01)
"""


class Process:
    """A process that says where it is, and goes on when it is told to."""

    def __init__(self, script: str, home: Path, *words: str) -> None:
        argv = [sys.executable, "-c", script, str(home), *words]
        self._popen = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.pid = self._popen.pid

    def says(self) -> str:
        assert self._popen.stdout is not None
        return self._popen.stdout.readline().strip()

    def has_said(self, *, within_s: float) -> bool:
        assert self._popen.stdout is not None
        return bool(select.select([self._popen.stdout], [], [], within_s)[0])

    def go_on(self) -> None:
        assert self._popen.stdin is not None
        self._popen.stdin.write("\n")
        self._popen.stdin.flush()

    def end(self, number: signal.Signals = signal.SIGKILL) -> None:
        self._popen.send_signal(number)
        self._popen.wait()

    def status(self) -> int:
        return self._popen.wait(timeout=120)

    def close(self) -> None:
        self._popen.kill()
        self._popen.communicate()


@pytest.fixture
def workspace(tmp_path: Path) -> Iterator[Any]:
    state = StateDirectory(tmp_path, tmp_path / "run")
    said: list[str] = []
    with Ledger(state.ledger, actor="somebody") as ledger:
        ledger.save_settings(ENV, Settings())
        yield SimpleNamespace(
            ledger=ledger,
            state=state,
            said=said,
            report=lambda progress: said.append(progress.text),
            cancellation=Cancellation(),
        )


@contextlib.contextmanager
def process(workspace: Any, script: str, *words: str) -> Iterator[Process]:
    made = Process(script, workspace.state.root, *words)
    try:
        yield made
    finally:
        made.close()


@contextlib.contextmanager
def waiting(workspace: Any, until_it_says: str = "waits") -> Iterator[Process]:
    """Have a process that has the environment, and waits there, or still acts."""
    with process(workspace, WAITS) as holder:
        said = holder.says()
        while said != until_it_says:
            assert said
            holder.go_on()
            said = holder.says()
        yield holder


def test_who_waits_lets_others_act_and_acts_again_only_when_they_have(workspace: Any) -> None:
    with waiting(workspace, "acts") as holder:
        with pytest.raises(EnvironmentBusy), take_turn(workspace, ENV, patience_s=1.0):
            pass
        assert workspace.said == [f"for process {holder.pid}, which works there: 1 s at most"]
        holder.go_on()
        assert holder.says() == "waits"
        with pytest.raises(EnvironmentBusy), hold_environment(workspace, ENV):
            pass
        again = threading.Thread(target=lambda: workspace.said.append(holder.says()))
        with take_turn(workspace, ENV):
            holder.go_on()
            again.start()
            again.join(0.7)
            assert "acts again" not in workspace.said
        again.join(10)
        assert "acts again" in workspace.said
        with pytest.raises(EnvironmentBusy), take_turn(workspace, ENV, patience_s=1.0):
            pass


def test_who_asks_while_somebody_acts_gets_their_turn_as_soon_as_that_one_waits(workspace: Any) -> None:
    with waiting(workspace, "acts") as holder, process(workspace, GUEST) as guest:
        assert not guest.has_said(within_s=1)
        holder.go_on()
        assert (holder.says(), guest.says()) == ("waits", "acts")


def test_beside_an_older_instar_which_knows_of_no_turns_nobody_acts(workspace: Any) -> None:
    with process(workspace, OLDER, str(environment_lock(workspace, ENV))) as older:
        assert older.says() == "acts"
        with pytest.raises(EnvironmentBusy) as busy, take_turn(workspace, ENV):
            pass
        assert busy.value.pid == older.pid and workspace.said == []


def test_after_who_waited_was_killed_the_next_one_waits_for_who_acts_beside_it(workspace: Any) -> None:
    with waiting(workspace) as holder, process(workspace, GUEST) as guest:
        assert guest.says() == "acts"
        holder.end()
        with pytest.raises(EnvironmentBusy) as busy, hold_environment(workspace, ENV, patient=False):
            pass
        assert busy.value.pid == guest.pid
        with process(workspace, WAITS) as following:
            assert not following.has_said(within_s=0.7)
            guest.go_on()
            assert following.says() == "acts"


def test_take_over_ends_who_has_it_and_who_acts_beside_it(workspace: Any) -> None:
    with waiting(workspace) as holder, process(workspace, GUEST) as guest:
        assert guest.says() == "acts"
        with hold_environment(workspace, ENV, take_over=True):
            assert (holder.status(), guest.status()) == (-signal.SIGKILL, -signal.SIGKILL)


def test_who_is_interrupted_before_it_is_their_turn_again_does_nothing_more(workspace: Any) -> None:
    with hold_environment(workspace, ENV), contextlib.ExitStack() as opened:
        guest = opened.enter_context(process(workspace, GUEST))
        main = threading.main_thread().ident
        assert main is not None
        with pytest.raises(EnvironmentBusy, match="begins a command there") as busy, give_way(workspace, ENV):
            assert guest.says() == "acts"
            threading.Timer(1.0, signal.pthread_kill, (main, signal.SIGINT)).start()
        assert busy.value.pid == guest.pid
        assert workspace.said == [f"for process {guest.pid}, which begins a command"]


def test_whoever_is_killed_there_is_one_at_a_time_who_acts(workspace: Any) -> None:
    chance = random.Random(7)
    with contextlib.ExitStack() as opened:
        stay = [opened.enter_context(process(workspace, ROUNDS, who)) for who in ("guest", "guest", "holder")]
        for who in ("holder", "guest") * 5:
            killed = opened.enter_context(process(workspace, ROUNDS, who))
            until(lambda: False, Deadline.after(0.3 + chance.random() / 4), every_s=0.01)
            killed.end()
        assert [one.status() for one in stay] == [0, 0, 0]
    assert locks.find_holder(environment_lock(workspace, ENV)) is None

"""What a rollout tells while it goes on, and what it measured: the figures end up in the ledger and in ``--json``."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from instar.control.analysis import Verdict
from instar.control.roles import by_role, starts_before
from instar.control.snapshot import GroupView, Snapshot, alone, in_flight
from instar.control.steps import awaited, waits_for_somebody
from instar.model.progress import Progress, Report
from instar.model.release import BY_ITSELF, Ending, EnvironmentId
from instar.model.sizes import size_text
from instar.model.status import AwaitedRequests
from instar.model.volume import VolumeSnapshot

AGAIN_AFTER = timedelta(minutes=1)


@dataclass(kw_only=True)
class RolloutReport:
    """Follows one run of the loop. Times are of this process: of a run that was killed they are lost."""

    report: Report
    began: float = field(default_factory=time.monotonic)
    launch_reported: bool = False
    follow_reported: bool = False
    touched: bool = False  # what had the traffic was asked to share it, or to give it up
    shifted_at: float | None = None
    gap_since: float | None = None
    swapped: bool = False  # volumes got other data
    gap_of: tuple[str, ...] = ()  # the roles that have no traffic, where others have
    in_flight: int | None = 0  # None: nobody knows how many
    cut: int | None = 0
    measured: dict[str, Any] = field(default_factory=dict)
    snapshot: Snapshot | None = None  # the last that was seen
    waits_reported: set[tuple[int, bool]] = field(default_factory=set)
    went_back: str | None = None  # why the release that was watched was left again
    watch_reported: bool = False
    held_up: dict[str, str] = field(default_factory=dict)  # tasks' instances, and why they were said not to begin
    awaited_at: datetime | None = None  # when it was last said for good how many requests came

    def launching(self, snapshot: Snapshot) -> None:
        """Tell how many groups of the target are healthy, while it isn't all of them."""
        if snapshot.target and not self.launch_reported:
            self._launch(snapshot, "running")
        self.followed(snapshot)

    def launched(self, snapshot: Snapshot, *, moves: bool = True) -> None:
        """Tell for good how many are healthy: when traffic ``moves``, or all are before that."""
        if snapshot.target and not self.launch_reported and (moves or _all_healthy(snapshot, snapshot.target.number)):
            self.launch_reported = True
            self._launch(snapshot, "done", f" · {time.monotonic() - self.began:.2f} s")

    def replacing(self, count: int, why: str) -> None:
        """Groups get successors."""
        was = "was" if count == 1 else "were"
        reasons = {
            "ended": "that had ended",
            "unwell": "that no longer answered",
            "tainted": f"that {was} tainted",
            "drifted": f"that {was} no longer what was baked",
            "old": f"that {was} too old",
        }
        text = f"{count} instance{'s' * (count > 1)} {reasons.get(why, why)}"
        self.report(Progress(stage="replace", text=text))

    def more(self, count: int) -> None:
        """Groups are launched that take nobody's place."""
        self.report(Progress(stage="launch", text=f"{count} more instance{'s' * (count > 1)}"))

    def ending(self, snapshot: Snapshot, ended: Sequence[tuple[GroupView, Ending]]) -> None:
        """Instances are taken away: tell of those that had ended by themselves, and of a release that has to stop."""
        for group, ending in ended:
            if ending.reason in BY_ITSELF and group.instance.task is None and group.instance.ending is None:
                self.report(Progress(stage="ended", text=f"{group.instance.shown}: {ending.why}", kind="warning"))
        rollout, active = snapshot.environment.rollout, snapshot.active
        if rollout is None or active is None or snapshot.target is None or active.number == rollout.target:
            return
        stopped = [
            ending
            for group, ending in ended
            if group.release == active.number and ending.reason == "instar" and group.instance.ending is None
        ]
        if stopped and (alone(active) or alone(snapshot.target)):
            count = f"{len(stopped)} instance{'s' * (len(stopped) > 1)}"
            self.report(Progress(stage="stop", text=f"release {active.number} · {count} {stopped[0]}"))

    def task(self, name: str) -> None:
        self.report(Progress(stage="task", text=name, kind="running"))

    def task_ended(self, name: str, outcome: str) -> None:
        self.report(Progress(stage="task", text=f"{name} · {outcome}", kind="done" if outcome == "done" else "failed"))

    def keeping(self, volume: str) -> None:
        """A snapshot of a volume is about to be taken: what is copied was said before."""
        self.report(Progress(stage="snapshot", text=f"the volume '{volume}' is kept as it is", kind="running"))

    def kept(self, snapshot: VolumeSnapshot) -> None:
        size = f" · {size_text(snapshot.used_bytes)}" if snapshot.used_bytes is not None else ""
        when = "while instances had it: what they had not written yet is missing" if snapshot.running else "at rest"
        text = f"the volume '{snapshot.volume}' is kept as snapshot {snapshot.number}{size} · {when}"
        self.report(Progress(stage="snapshot", text=text, kind="warning" if snapshot.running else "done"))

    def still_kept(self, environment: EnvironmentId, numbers: Mapping[str, int]) -> None:
        """The rollout has failed before which volumes were kept."""
        names = " and ".join(f"'{name}' (snapshot {number})" for name, number in sorted(numbers.items()))
        back = ", ".join(f"instar volumes restore {environment} {name} {number}" for name, number in numbers.items())
        way = f"{back}, which stops what runs, and starts it again on that"
        if len(numbers) > 1:  # one by one, what starts in between would find some changed and some not
            kept = f"instar destroy {environment}, which keeps volumes"
            way = f"{kept}, {back}, and deploy the definition of the release before"
        text = f"what {names} held before it is kept; where its tasks have changed that: {way}"
        self.report(Progress(stage="data", text=text, kind="warning"))

    def restoring(self, volume: str, number: int) -> None:
        text = f"the volume '{volume}' gets what it held in snapshot {number}"
        self.report(Progress(stage="data", text=text, kind="running"))

    def restored(self, volume: str, number: int) -> None:
        self.swapped = True
        self.report(Progress(stage="data", text=f"the volume '{volume}' holds what it did in snapshot {number}"))

    def asking(self, text: str) -> None:
        self.report(Progress(stage="smoke", text=text, kind="running"))

    def smoke_checked(self, text: str) -> None:
        self.report(Progress(stage="smoke", text=text))

    def stepped(self, percent: int, seconds: float | None) -> None:
        """The candidate has its next share."""
        self.measured.setdefault("steps", []).append(percent)
        self.report(Progress(stage="shift", text=f"{percent} %{_moved_in(seconds)}"))

    def judged(self, verdict: Verdict, role: str | None = None, others: Sequence[tuple[str, Verdict]] = ()) -> None:
        """A step has its verdict. ``role``: whose that is, of several with traffic; ``others``: and theirs."""
        kind: Any = "done" if verdict.passed else "failed"
        figures = [_figures(one, name) for name, one in ((role, verdict), *others)]
        words = ("passed" if verdict.passed else "not passed", *figures, verdict.cause)
        self.report(Progress(stage="verdict", text=" · ".join(word for word in words if word), kind=kind))

    def settings_back(self, names: Sequence[str]) -> None:
        """The rollout has failed, and what it had changed of the environment is as it was."""
        self.report(Progress(stage="settings", text=f"restored: {', '.join(names)}", kind="warning"))

    def warn(self, text: str) -> None:
        self.report(Progress(stage="note", text=text, kind="warning"))

    def alarm(self, reason: str) -> None:
        self.report(Progress(stage="alarm", text=reason, kind="failed"))

    def going_back(self, release: int, reason: str) -> None:
        """What was watched did not stay well."""
        self.went_back = reason
        self.report(Progress(stage="back", text=f"{reason}: going back to release {release}", kind="failed"))

    def watching(self, snapshot: Snapshot) -> None:
        """Nothing is wrong with the release that is watched."""
        watched, active = snapshot.probation, snapshot.environment.active
        if watched is not None:
            text = f"release {active} is healthy so far; it is watched until {watched.until:%H:%M:%S} UTC"
            kind: Any = "running" if self.watch_reported else "done"
            self.watch_reported = True
            self.report(Progress(stage="watch", text=text, kind=kind))

    def undone(self, snapshot: Snapshot, reason: str) -> None:
        """The rollout was given up before its target had any traffic."""
        rollout, active = snapshot.environment.rollout, snapshot.environment.active
        runs = f"still runs release {active}" if active is not None else "runs nothing, as before"
        if rollout is not None:
            text = f"{reason}: release {rollout.target} removed; {snapshot.environment.id.name} {runs}"
            self.report(Progress(stage="undone", text=text, kind="warning"))

    def closed(self, roles: Sequence[str] = ()) -> None:
        """Nobody has the traffic from now on, or that of ``roles``."""
        self.touched, self.gap_since = True, self.gap_since or time.monotonic()
        self.gap_of = tuple(dict.fromkeys((*self.gap_of, *roles)))

    def shifting(self, snapshot: Snapshot, names: Collection[str]) -> None:
        """Groups are about to get traffic, whether or not the provider says that they have it."""
        rollout = snapshot.environment.rollout
        target = rollout.target if rollout is not None else None
        self.touched = self.touched or any(one.release == target for one in snapshot.groups if one.id in names)

    def shifted(self, seconds: float | None, unfinished: int | None) -> None:
        """All traffic has moved; ``unfinished`` requests are still with the release that lost it."""
        self.shifted_at = time.monotonic()
        self.in_flight = unfinished
        text = f"100 %{_moved_in(seconds)}"
        if self.gap_since is not None:
            gap_ms = round((self.shifted_at - self.gap_since) * 1000)
            self.measured["gap_ms"] = gap_ms
            self.gap_since = None
            of, its = (f" for {_roles(self.gap_of)}", "its volume") if self.gap_of else ("", "the volume")
            why = f"what {its} holds was replaced" if self.swapped else f"{its} is held by one release at a time"
            text = f"100 % · gap of {gap_ms} ms{of}: {why}"
        if seconds is not None:
            self.measured["switch_ms"] = round(seconds * 1000, 3)
        self.report(Progress(stage="shift", text=text))

    def waiting(self, snapshot: Snapshot) -> None:
        """Nothing to do but to wait; tell for what."""
        self._held_up(snapshot)
        rollout = snapshot.environment.rollout
        if rollout is None:
            return
        requests = awaited(snapshot)
        if requests is not None and requests.until is not None:
            self._await(snapshot, requests)
        elif waits_for_somebody(snapshot.environment) and snapshot.environment.active != rollout.target:
            if (rollout.stage.step, rollout.stage.paused) not in self.waits_reported:
                self.waits_reported.add((rollout.stage.step, rollout.stage.paused))
                text = f"paused; continue with: instar rollout resume {snapshot.environment.id} (or abort)"
                self.report(Progress(stage="wait", text=text))
        elif self.shifted_at is not None:
            others = (one.routed for one in snapshot.groups if one.release != snapshot.environment.active)
            left = in_flight(one for one in others if one is not None)
            text = "requests in flight" if left is None else f"{left} requests in flight"
            self.report(Progress(stage="drain", text=text, kind="running"))

    def withdrawn(self, cut: int | None) -> None:
        """Groups are in the traffic no more; ``cut`` requests were."""
        self.cut = None if self.cut is None or cut is None else self.cut + cut

    def finished(self, snapshot: Snapshot) -> None:
        """The rollout has ended well."""
        if self.shifted_at is None:
            return
        seconds = time.monotonic() - self.shifted_at
        known = self.in_flight is not None and self.cut is not None
        drained = max((self.in_flight or 0) - (self.cut or 0), 0) if known else None
        self.measured |= {"drained": drained, "cut": self.cut, "drain_ms": round(seconds * 1000)}
        rollout = snapshot.environment.rollout
        if rollout is not None and rollout.source is not None:
            finished = f"{drained} request{'s' * (drained != 1)} finished in {seconds:.1f} s, {self.cut} cut"
            stays = any(one.sessions is None and not snapshot.drained(one) for one in snapshot.of(snapshot.source))
            unknown = "stays, and finishes its requests" if stays else f"requests had {seconds:.1f} s to finish"
            text = finished if known else unknown
            self.report(Progress(stage="drain", text=f"release {rollout.source} · {text}"))

    def _held_up(self, snapshot: Snapshot) -> None:
        """Tell why a task that is waited for has not begun: on one line that changes, and once where there is none."""
        for group in snapshot.task_groups:
            why = group.observed.reason
            if group.state == "running" and group.observed.ready == 0 and why is not None:
                new = self.held_up.get(group.id) != why
                self.held_up[group.id] = why
                text = f"{group.instance.task} · {why}"
                self.report(Progress(stage="task", text=text, kind="warning" if new else "running"))

    def _await(self, snapshot: Snapshot, requests: AwaitedRequests) -> None:
        """Tell how many requests came: on one line that changes, and off a terminal once a minute."""
        to = f" to '{requests.role}'" if requests.role else ""
        text = f"{requests.requests} of {requests.wanted} requests{to}, until {requests.until:%H:%M:%S} UTC"
        text += f" · {requests.trouble}" if requests.trouble else ""
        again = self.awaited_at is None or snapshot.now >= self.awaited_at + AGAIN_AFTER
        if requests.late and again:
            self.awaited_at = snapshot.now
            self.report(Progress(stage="wait", text=text))
        else:
            self.report(Progress(stage="wait", text=text, kind="running"))

    def _launch(self, snapshot: Snapshot, kind: Any, tail: str = "") -> None:
        target = snapshot.target
        assert target is not None
        healthy, wanted = _healthy(snapshot, target.number)
        text = f"release {target.number} · {healthy} of {wanted} healthy{tail}"
        self.report(Progress(stage="launch", text=text, kind=kind))

    def followed(self, snapshot: Snapshot) -> None:
        """Tell how many groups of the roles without traffic are healthy, which start when it has moved."""
        target = snapshot.target
        if target is None or snapshot.environment.active != target.number or self.follow_reported:
            return
        others = [one for one in by_role(snapshot)[1:] if not starts_before(one, one.releases[target.number])]
        wanted = sum(_wanted(one, target.number) for one in others)
        if wanted:
            healthy = sum(_answering(one, target.number) for one in others)
            self.follow_reported = healthy >= wanted
            kind: Any = "done" if self.follow_reported else "running"
            roles = ", ".join(one.releases[target.number].role for one in others if _wanted(one, target.number))
            self.report(
                Progress(
                    stage="launch", text=f"release {target.number} · {roles} · {healthy} of {wanted} healthy", kind=kind
                )
            )


def _healthy(snapshot: Snapshot, release: int) -> tuple[int, int]:
    """Return how many are healthy, and how many shall be, of what starts before the traffic moves."""
    first, *others = by_role(snapshot)
    parts = [first, *(one for one in others if starts_before(one, one.releases[release]))]
    return sum(_answering(one, release) for one in parts), sum(_wanted(one, release) for one in parts)


def _all_healthy(snapshot: Snapshot, release: int) -> bool:
    healthy, wanted = _healthy(snapshot, release)
    return healthy >= wanted


def _answering(snapshot: Snapshot, release: int) -> int:
    return sum(  # an autoscaler may have it have more than are wanted
        min(group.answering, group.instance.members) or (group.instance.members if group.weight else 0)
        for group in snapshot.groups
        if group.release == release
    )


def _wanted(snapshot: Snapshot, release: int) -> int:
    return sum(snapshot.layout(snapshot.releases[release]))


def _roles(names: Sequence[str]) -> str:
    return " and ".join(f"'{name}'" for name in names)


def _figures(verdict: Verdict, role: str | None) -> str:
    figures = str(verdict) if verdict.candidate.requests else "no requests came"
    return figures if role is None else f"{role}: {figures}"


def _moved_in(seconds: float | None) -> str:
    return "" if seconds is None else f" · moved in {seconds * 1000:.1f} ms"

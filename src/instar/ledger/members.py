"""Members of groups that are to be replaced, each by its group's engine, until nothing of them is left."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from datetime import timedelta

from instar.ledger.events import Events
from instar.ledger.instances import Instances
from instar.ledger.rows import instance_value, time_text
from instar.ledger.session import Row, Session
from instar.model.codec import to_json
from instar.model.digest import Digest
from instar.model.instance_happenings import MemberRemoved, MemberSetAside, MemberTainted, OfInstance
from instar.model.release import EnvironmentId, MemberTaint, TaintKind

_SET = "UPDATE instances SET tainted_members = :members WHERE id = :id"


class Members:
    """What is to become of single members of groups."""

    def __init__(self, session: Session, events: Events, instances: Instances) -> None:
        self._session = session
        self._events = events
        self._instances = instances

    def taint_member(
        self,
        instance_id: str,
        member: str,
        kind: TaintKind,
        why: str,
        *,
        after_ms: int = 0,
        recording: str | None = None,
        command: str | None = None,
    ) -> MemberTaint:
        """Write that a member of a group is to be replaced in ``after_ms``; nothing else of the group is.

        Of several taints the first says why, and the earliest when. ``recording`` and ``command`` of a shell go into
        the event. Raises NotFound for a group that isn't there any more.
        """
        with self._events.transaction():
            row = self._instances.live_row(instance_id)
            group, now = instance_value(row), self._events.clock.now()
            due_at, known = now + timedelta(milliseconds=after_ms), group.member_taint(member)
            wanted = MemberTaint(member=member, kind=kind, why=why, actor=self._events.actor, at=now, due_at=due_at)
            if known is not None:
                wanted = replace(known, due_at=min(known.due_at, due_at))
            others = {one.member: one for one in group.tainted_members}
            self._write(instance_id, ({**others, member: wanted}).values())
            tainted = MemberTainted(
                instance=instance_id,
                member=member,
                taint=kind,
                why=why,
                due_at=time_text(wanted.due_at),
                recording=recording,
                command=command,
            )
            self._record(tainted, row)
            return wanted

    def set_member_aside(self, instance_id: str, member: str) -> None:
        """Write that a tainted member is no part of its group any more. Once: the first time stays."""
        with self._events.transaction():
            row = self._instances.live_row(instance_id)
            group, now = instance_value(row), self._events.clock.now()
            known = group.member_taint(member)
            if known is not None and known.aside_at is None:
                aside = replace(known, aside_at=now)
                self._write(instance_id, [aside if one is known else one for one in group.tainted_members])
                self._record(MemberSetAside(instance=instance_id, member=member), row)

    def remove_member(self, instance_id: str, member: str, why: str) -> None:
        """Write that nothing is left of a tainted member. Does nothing where that is known."""
        with self._events.transaction():
            row = self._instances.live_row(instance_id)
            group = instance_value(row)
            if group.member_taint(member) is not None:
                self._write(instance_id, [one for one in group.tainted_members if one.member != member])
                self._record(MemberRemoved(instance=instance_id, member=member, why=why), row)

    def _write(self, instance_id: str, members: Iterable[MemberTaint]) -> None:
        self._session.write(_SET, id=instance_id, members=json.dumps([to_json(one) for one in members]))

    def _record(self, what: OfInstance, row: Row) -> None:
        environment: EnvironmentId = instance_value(row).environment
        self._events.record(what, environment, row["release"], Digest(row["image"]))

"""The tables of an environment, from when it was made to its removal, made again from its events alone, and held
against what they say now.

Begins with the event that made the environment, or with its checkpoint. What had ended before a checkpoint is not in
it, and not provable. Pure, but for reading.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import Any, Final

from instar.ledger.session import Engine, Row
from instar.ledger.tables import Tables, maintenance_columns, read_tables, stage_columns, text_digest
from instar.model.codec import canonical, from_json, parse
from instar.model.events import read
from instar.model.release import Maintenance, Stage
from instar.model.roles import UNNAMED_ROLE
from instar.model.rollout_happenings import StageChanged
from instar.model.stages import stage_after

_ENDS: Final = {"rollouts": "ended_at", "instances": "removed_at", "tasks": "ended_at"}


class Replayed:
    """What events have said of one environment so far; None of ``tables`` before the first that counts."""

    def __init__(self, place: str) -> None:
        self.place = place
        self.tables: Tables | None = None
        self.since: str | None = None  # when its first event was
        self.seq = 0
        self.is_checkpoint = False

    def take(self, event: Row) -> None:
        kind, detail = event["kind"], parse(event["detail"])
        if kind == "environment":
            self._begin(event, _made(event, detail), is_checkpoint=False)
        elif kind == "checkpoint" and self.tables is None:
            self._begin(event, copy.deepcopy(detail["tables"]), is_checkpoint=True)
        elif self.tables is not None and kind in _CHANGES:
            _CHANGES[kind](self.tables, event, detail)

    def unproven_stages(self) -> int:
        """Return of how many rollouts nothing tells where they were."""
        return sum(1 for row in (self.tables or {}).get("rollouts", {}).values() if "stage" not in row)

    def differences(self, engine: Engine, row_id: int) -> Iterator[str]:
        """Yield what the tables say of the environment whose row has that id otherwise than the events."""
        actual = read_tables(engine, row_id)
        for table, expected in (self.tables or {}).items():
            for key in sorted({*expected, *actual[table]}):
                found = actual[table].get(key)
                if key in expected:
                    yield from self._changed(table, key, expected[key], found)
                elif found is not None and not self._is_older(table, found):
                    yield f"no event tells of {_name(table, key)} of {self.place}"

    def _begin(self, event: Row, tables: Tables, *, is_checkpoint: bool) -> None:
        self.tables, self.seq, self.since, self.is_checkpoint = tables, event["seq"], event["at"], is_checkpoint

    def _changed(
        self, table: str, key: str, expected: Mapping[str, Any], found: Mapping[str, Any] | None
    ) -> Iterator[str]:
        if found is None:
            yield f"{_name(table, key)} of {self.place} is gone"
            return
        for column, value in expected.items():
            if column in found and not _same(found[column], value):
                yield f"{_name(table, key)} of {self.place} has another '{column}' than its events say"

    def _is_older(self, table: str, row: Mapping[str, Any]) -> bool:
        """Tell whether a row had ended before the checkpoint, which is then not to tell of it."""
        if not self.is_checkpoint or self.since is None:
            return False
        ended = row.get(_ENDS[table]) if table in _ENDS else row.get("created_at")
        return isinstance(ended, str) and ended <= self.since


def _name(table: str, key: str) -> str:
    return "the row" if table == "environments" else f"{table.removesuffix('s')} {key}"


def _same(found: Any, expected: Any) -> bool:
    """Compare two values: of JSON, what they hold; times in it have two forms."""
    if isinstance(found, dict) and isinstance(expected, dict):
        return found.keys() == expected.keys() and all(_same(found[name], expected[name]) for name in found)
    if isinstance(found, list) and isinstance(expected, list):
        return len(found) == len(expected) and all(map(_same, found, expected))
    if isinstance(found, str) and isinstance(expected, str) and found != expected:
        return _is_same_time(found, expected)
    return bool(found == expected)


def _is_same_time(one: str, other: str) -> bool:
    try:
        return datetime.fromisoformat(one) == datetime.fromisoformat(other)
    except (ValueError, TypeError):
        return False


def _made(event: Row, detail: Mapping[str, Any]) -> Tables:
    begun = {
        "active": None,
        "destroying": 0,
        "created_at": event["at"],
        "removed_at": None,
        "alarm": None,
        "alarm_holds": 1,
        "counted_since": None,
        "project": None,
        "machine": None,
        "names": None,
        "maintenance": maintenance_columns(Maintenance()),
    }
    settings = {"value": _digest(detail["settings"]), "created_at": event["at"]}
    return {
        "environments": {"": begun},
        "settings": {"1": settings},
        **{table: {} for table in ("releases", "rollouts", "instances", "tasks")},
    }


def _digest(settings: Any) -> str:
    return text_digest(canonical(settings).decode())


def _settings(tables: Tables, event: Row, detail: Mapping[str, Any]) -> None:
    version = 1 + max(int(number) for number in tables["settings"])
    tables["settings"][str(version)] = {"value": _digest(detail["new"]), "created_at": event["at"]}


def _release(tables: Tables, event: Row, detail: Mapping[str, Any]) -> None:
    tables["releases"][str(event["release"])] = {
        "number": event["release"],
        "image": event["image"],
        "configuration_digest": detail["configuration"],
        "created_at": event["at"],
        "ran_well": 0,
        "last_active_at": None,
        "pinned": 0,
        "origin": detail.get("origin"),
    }


def _shift(tables: Tables, event: Row, detail: Mapping[str, Any]) -> None:
    tables["environments"][""]["active"] = event["release"]
    for number in (detail["from"], event["release"]):
        if str(number) in tables["releases"]:
            tables["releases"][str(number)]["last_active_at"] = event["at"]


def _pinned(tables: Tables, event: Row, detail: Mapping[str, Any]) -> None:
    tables["releases"][str(event["release"])]["pinned"] = int(event["kind"] == "pinned")


def _rollout(tables: Tables, event: Row, detail: Mapping[str, Any]) -> None:
    tables["rollouts"][str(detail["rollout"])] = {
        "kind": detail["kind"],
        "source": detail["from"],
        "target": event["release"],
        "actor": event["actor"],
        "started_at": event["at"],
        "state": "running",
        "ended_at": None,
        "detail": {},
        **({"stage": {**stage_columns(Stage()), **detail["stage"]}} if "stage" in detail else {}),
    }


def _stage(tables: Tables, event: Row, detail: Mapping[str, Any]) -> None:
    """An older Instar's rollout does not tell what its stage began with: then it is not proven."""
    row, what = tables["rollouts"][str(detail["rollout"])], read(event["kind"], detail)
    if "stage" not in row or not isinstance(what, StageChanged):
        return
    stage = from_json(Stage, {**row["stage"], "settings_before": None})
    after = stage_columns(stage_after(stage, what, datetime.fromisoformat(event["at"])))
    row["stage"] = {**after, "settings_before": row["stage"]["settings_before"]}


def _rollout_ended(tables: Tables, event: Row, detail: Mapping[str, Any]) -> None:
    state = event["kind"].removeprefix("rollout-")
    measured = {name: value for name, value in detail.items() if name != "rollout"}
    tables["rollouts"][str(detail["rollout"])] |= {"state": state, "ended_at": event["at"], "detail": measured}
    if state == "done":
        tables["releases"][str(event["release"])]["ran_well"] = 1


def _launch(tables: Tables, event: Row, detail: Mapping[str, Any]) -> None:
    for name in detail["instances"]:  # an older Instar wrote their addresses, by their names
        nothing = dict.fromkeys(("started_at", "removed_at", "taint", "ending"))
        tables["instances"][name] = {
            **nothing,
            "ended_at": None,
            "drifted_at": None,
            "tainted_members": None,
            "made": 0,
            "release": event["release"],
            "role": detail.get("role", UNNAMED_ROLE),
            "created_at": event["at"],
            "task": detail.get("task"),
            "replacing": detail.get("replacing"),
            "members": detail.get("members", {}).get(name, 1),
            "command": detail.get("command"),
        }
        if "task" in detail:
            begun = {"release": event["release"], "name": detail["task"], "began_at": event["at"]}
            tables["tasks"][name] = {**begun, "ended_at": None, "outcome": None}


def _created(tables: Tables, event: Row, detail: Mapping[str, Any]) -> None:
    tables["instances"][detail["instance"]] |= {"made": 1, "started_at": None}


def _started(tables: Tables, event: Row, detail: Mapping[str, Any]) -> None:
    tables["instances"][detail["instance"]]["started_at"] = event["at"]


def _taint(tables: Tables, event: Row, detail: Mapping[str, Any]) -> None:
    """Of several the first says why; the event says from when on the instance is to be replaced by now."""
    row = tables["instances"][detail["instance"]]
    first = {"kind": detail["taint"], "why": detail["why"], "actor": event["actor"], "at": event["at"]}
    row["taint"] = {**(row["taint"] or first), "due_at": detail["due_at"], "isolated": detail["isolated"]}
    if detail["taint"] == "drift":
        row["drifted_at"] = row.get("drifted_at") or event["at"]


def _member_taint(tables: Tables, event: Row, detail: Mapping[str, Any]) -> None:
    row, member = tables["instances"][detail["instance"]], detail["member"]
    known = {one["member"]: one for one in row.get("tainted_members") or ()}
    first = {"kind": detail["taint"], "why": detail["why"], "actor": event["actor"], "at": event["at"]}
    one = known.get(member, {"member": member, **first, "aside_at": None})
    row["tainted_members"] = [*({**known, member: {**one, "due_at": detail["due_at"]}}).values()]


def _member_aside(tables: Tables, event: Row, detail: Mapping[str, Any]) -> None:
    for one in tables["instances"][detail["instance"]].get("tainted_members") or ():
        if one["member"] == detail["member"]:
            one["aside_at"] = event["at"]


def _member_removed(tables: Tables, event: Row, detail: Mapping[str, Any]) -> None:
    row = tables["instances"].get(detail["instance"])
    if row is not None and row.get("tainted_members"):
        row["tainted_members"] = [one for one in row["tainted_members"] if one["member"] != detail["member"]]


def _ended(tables: Tables, event: Row, detail: Mapping[str, Any]) -> None:
    told = {name: value for name, value in detail.items() if name != "instance"}
    tables["instances"][detail["instance"]] |= {"ending": told, "ended_at": event["at"]}


def _destroyed(tables: Tables, event: Row, detail: Mapping[str, Any]) -> None:
    tables["instances"][detail["instance"]]["removed_at"] = event["at"]


def _task(tables: Tables, event: Row, detail: Mapping[str, Any]) -> None:
    for row in tables["tasks"].values():
        if (row["release"], row["name"]) == (event["release"], detail["task"]):
            row |= {"outcome": detail["outcome"], "ended_at": event["at"]}


def _of_the_environment(change: Callable[[Row, Mapping[str, Any]], Mapping[str, Any]]) -> _Change:
    def apply(tables: Tables, event: Row, detail: Mapping[str, Any]) -> None:
        tables["environments"][""] |= change(event, detail)

    return apply


_Change = Callable[[Tables, Row, Mapping[str, Any]], None]
_CHANGES: Final[Mapping[str, _Change]] = {
    "settings": _settings,
    "release": _release,
    "shift": _shift,
    "pinned": _pinned,
    "unpinned": _pinned,
    "rollout": _rollout,
    **dict.fromkeys(("smoke", "step", "verdict", "paused", "resumed", "abort"), _stage),
    **dict.fromkeys(("data-kept", "data-begun", "data-restored"), _stage),
    "rollout-done": _rollout_ended,
    "rollout-failed": _rollout_ended,
    "launch": _launch,
    "created": _created,
    "started": _started,
    "taint": _taint,
    "member-taint": _member_taint,
    "member-aside": _member_aside,
    "member-removed": _member_removed,
    "ended": _ended,
    "stopping": _ended,
    "destroyed": _destroyed,
    "task": _task,
    "alarm": _of_the_environment(
        lambda event, detail: {"alarm": detail["reason"], "alarm_holds": int(detail["holds"])}
    ),
    "alarm-over": _of_the_environment(
        lambda event, detail: {"alarm": None, "alarm_holds": 1, "counted_since": event["at"]}
    ),
    "project": _of_the_environment(lambda event, detail: {"project": detail["project"]}),
    "name-adopted": _of_the_environment(lambda event, detail: {"project": detail["project"]}),
    "machine": _of_the_environment(lambda event, detail: {"machine": detail["machine"]}),
    "names": _of_the_environment(
        lambda event, detail: {"names": {"held": detail["held"], "expected": detail["expected"]}}
    ),
    "maintenance": _of_the_environment(
        lambda event, detail: {"maintenance": {"on": detail["on"], "page": detail.get("page"), "since": event["at"]}}
    ),
    "destroying": _of_the_environment(lambda event, detail: {"destroying": 1}),
    "removed": _of_the_environment(lambda event, detail: {"active": None, "removed_at": event["at"]}),
}

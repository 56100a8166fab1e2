"""An environment's route, or Service, that somebody else has written to: whose it is now, and how it is Instar's again.

A rollout never forces anything: it names who wrote. What a hand wrote (kubectl edit, patch, set) the agent takes back.
Who *applies* an object means to have it so for ever, and would write again: nothing is taken from one who does.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from instar.errors import Refused, RouterError
from instar.providers.kubernetes.comparison import other_entries

Object = Mapping[str, Any]
_SHOWN: Final = 3
BACK: Final = (
    "instar drift shows what is different, and instar agent --once takes back what a hand wrote; a tool that applies "
    "it has to let it go"
)


def require_nobody_else(found: Object, kind: str) -> None:
    """Raise Refused where somebody else has written to what an object says, and a rollout would have to force it."""
    told = [
        f"'{entry.get('manager')}' wrote {listed(paths)} of it at {entry.get('time')}"
        for entry in other_entries(found)
        if (paths := [path for path in written_paths(entry) if path[0] == "spec"])
    ]
    if told:
        metadata = found.get("metadata") or {}
        raise Refused(
            f"cannot roll out by the {kind} '{metadata.get('namespace')}/{metadata.get('name')}': {'; '.join(told)}",
            hint=f"it was left as it is: {BACK}",
        )


def require_hands(found: Object, kind: str) -> None:
    """Raise RouterError where somebody else applies an object, and would write again what is taken from them."""
    appliers = sorted({str(one.get("manager")) for one in other_entries(found) if one.get("operation") == "Apply"})
    if appliers:
        metadata = found.get("metadata") or {}
        name = metadata.get("name")
        shown = f"kubectl get {kind.lower()} {name} -n {metadata.get('namespace')} -o yaml --show-managed-fields"
        raise RouterError(
            f"'{appliers[0]}' applies the {kind} '{name}' too, and is not fought with",
            hint=f"take it out of what is applied there; what it has of it: {shown}",
        )


def without_others(made: Object, found: Object) -> Object:
    """Return what makes an object that has all that ``made`` says (by force) have nothing else of other writers."""
    changes: dict[str, Any] = {}
    for entry in other_entries(found):
        for path in written_paths(entry):
            if _at(made, path) is None:
                _set(changes, path, None)
    others = list(other_entries(found))
    kept = [one for one in (found.get("metadata") or {}).get("managedFields") or () if one not in others]
    metadata = {**changes.get("metadata", {}), "managedFields": kept}
    metadata["resourceVersion"] = (found.get("metadata") or {}).get("resourceVersion")
    return {**changes, "metadata": metadata}


def written_paths(entry: Object) -> Iterator[tuple[str, ...]]:
    """Yield the fields that an entry of ``managedFields`` has, as deep as they are whole: ("spec", "rules")."""
    yield from _paths(entry.get("fieldsV1") or {}, ())


def _paths(fields: Mapping[str, Any], above: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    for key, inner in fields.items():
        if not key.startswith("f:"):
            continue
        path = (*above, key.removeprefix("f:"))
        deeper = isinstance(inner, Mapping) and any(one.startswith("f:") for one in inner)
        if deeper and len(path) < _SHOWN:
            yield from _paths(inner, path)
        else:
            yield path


def listed(paths: Sequence[tuple[str, ...]]) -> str:
    """Return fields as they are shown: the first ones, and how many more."""
    shown = ["/".join(path) for path in paths]
    more = f" and {len(shown) - _SHOWN} more" if len(shown) > _SHOWN else ""
    return ", ".join(shown[:_SHOWN]) + more


def _at(made: Object, path: tuple[str, ...]) -> Any:
    value: Any = made
    for key in path:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def _set(changes: dict[str, Any], path: tuple[str, ...], value: Any) -> None:
    inner = changes
    for key in path[:-1]:
        inner = inner.setdefault(key, {})
    inner[path[-1]] = value

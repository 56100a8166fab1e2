"""What a cluster's API, or a pod behind it, answers, in bounds: so many bytes, within so long, of the form that objects
have at their top.

Whoever answers may be somebody else than was meant, and a pod is whoever is in it.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from instar.errors import ProviderError
from instar.frozen import dataclass
from instar.waiting import Deadline

Object = Mapping[str, Any]
_PARTS: Final = ("metadata", "spec", "status")
_MARKS: Final = ("labels", "annotations")
_HAPPENS: Final = ("ADDED", "MODIFIED", "DELETED")
_MOST_OF_EVENT: Final = 16 << 20


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """How much an answer may be, and by when it has to be there."""

    most_bytes: int
    within_s: float

    def all_of(self, parts: Iterable[bytes], what: str) -> bytes:
        """Return a whole answer. Raises ProviderError for more, and for one that does not end."""
        deadline, found, size = Deadline.after(self.within_s), [], 0
        for part in parts:
            found.append(part)
            size += len(part)
            if size > self.most_bytes:
                raise ProviderError(f"cannot {what}: the cluster answers more than {self.most_bytes >> 20} MiB at once")
            if deadline.is_over:
                raise ProviderError(f"cannot {what}: the cluster's answer has no end within {self.within_s:g} s")
        return b"".join(found)

    def beginning(self, parts: Iterable[bytes]) -> bytes:
        """Return the beginning of an answer. Raises TimeoutError where it does not come in time."""
        deadline, found = Deadline.after(self.within_s), b""
        for part in parts:
            found += part
            if len(found) >= self.most_bytes:
                break
            if deadline.is_over:
                raise TimeoutError(f"it has no end within {self.within_s:g} s")
        return found[: self.most_bytes]


class Printed(io.BytesIO):
    """What a command prints. Raises ProviderError on writing for more than it may."""

    def __init__(self, most_bytes: int, what: str) -> None:
        super().__init__()
        self._most_bytes = most_bytes
        self._what = what

    def write(self, data: Any) -> int:
        if self.tell() + len(data) > self._most_bytes:
            raise ProviderError(f"cannot {self._what}: it prints more than {self._most_bytes >> 20} MiB")
        return super().write(data)


def whole(found: Object, what: str) -> Object:
    """Return an object. Raises ProviderError for what has no name, or other things where an object has names and
    values."""
    metadata: Any = found.get("metadata")
    well = isinstance(metadata, Mapping) and isinstance(metadata.get("name"), str)
    well = well and all(isinstance(found.get(part) or {}, Mapping) for part in _PARTS)
    if not well or not all(_are_texts(metadata.get(mark) or {}) for mark in _MARKS):
        raise ProviderError(f"cannot {what}: the cluster answers with something that is no object of that kind")
    return found


def items(page: Object, what: str) -> Sequence[Object]:
    """Return the objects of a part of a list. Raises ProviderError."""
    found = page.get("items") or ()
    if not isinstance(found, list | tuple) or not all(isinstance(one, Mapping) for one in found):
        raise ProviderError(f"cannot {what}: the cluster answers with something that is no list of objects")
    return [whole(one, what) for one in found]


def events(parts: Iterable[bytes], deadline: Deadline) -> Iterator[tuple[str, Object]]:
    """Yield what a watch says: what happened to an object, and the object. It ends at the first line that says neither
    (an error, say), and with ``deadline``."""
    left = b""
    for part in parts:
        *lines, left = (left + part).split(b"\n")
        for line in lines:
            event = _event(line)
            if event is None:
                return
            yield event
        if deadline.is_over or len(left) > _MOST_OF_EVENT:
            return


def version_of(page: Object) -> str:
    """Return which version of all that there is a list shows, "" where it does not say."""
    metadata = page.get("metadata")
    found = metadata.get("resourceVersion") if isinstance(metadata, Mapping) else None
    return found if isinstance(found, str) else ""


def continued(page: Object) -> str | None:
    """Return by what the next part of a list is asked for; None: there is none."""
    metadata = page.get("metadata")
    found = metadata.get("continue") if isinstance(metadata, Mapping) else None
    return str(found) if found else None


def _event(line: bytes) -> tuple[str, Object] | None:
    try:
        event = json.loads(line)
        if event["type"] in _HAPPENS and isinstance(event["object"], Mapping):
            return str(event["type"]), whole(event["object"], "watch")
    except (ValueError, RecursionError, TypeError, KeyError, ProviderError):
        pass
    return None


def _are_texts(found: object) -> bool:
    return isinstance(found, Mapping) and all(isinstance(one, str) for pair in found.items() for one in pair)

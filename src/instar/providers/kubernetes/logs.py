"""What instances printed: asked of the cluster while their pods are there, kept on this machine after that.

A line is ``TIME STREAM@POD TEXT``. The cluster does not say which of the two streams a line came by.
"""

from __future__ import annotations

import contextlib
import heapq
import re
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from instar import durable
from instar.errors import InstarError, ProviderError
from instar.providers.kubernetes.api import Api, Object
from instar.providers.kubernetes.kinds import POD
from instar.providers.kubernetes.names import GROUP
from instar.providers.kubernetes.observation import is_name_of
from instar.providers.kubernetes.settings import LABEL
from instar.threads import at_once

_KEPT_LINES: Final = 2_000
_LIMIT_BYTES: Final = 8 << 20
_LOOK_S: Final = 1.0
_AT_ONCE: Final = 8
STREAM: Final = "stdout"


class Logs:
    """Kept in a folder, a file a group."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def lines(self, api: Api | None, namespace: str, group: str, last: int | None) -> list[str]:
        """Return the lines of a group's pods in the order of their times, those of pods that are gone too while kept;
        ``api`` None: only what is kept."""
        kept = self._kept(group)
        found = kept if api is None else [*kept, *_read(api, namespace, group, last)]
        once = sorted(dict.fromkeys(found), key=lambda line: line.partition(" ")[0])
        return once if last is None else once[max(0, len(once) - last) :]

    def follow(self, api: Api, namespace: str, group: str, last: int | None) -> Iterator[str]:
        """Yield lines as they come, for as long as the group has pods."""
        told: set[str] = set()
        recent = last
        while True:
            found = self.lines(api, namespace, group, recent)
            yield from (line for line in found if line not in told)
            told = {*list(told)[-_KEPT_LINES:], *found}
            if not _pods(api, namespace, group):
                return
            recent = _KEPT_LINES
            time.sleep(_LOOK_S)

    def keep(self, api: Api, namespace: str, group: str) -> None:
        """Keep what a group has printed, before its pods go. What cannot be read just now is not waited for."""
        with contextlib.suppress(InstarError):
            self._write(group, self.lines(api, namespace, group, _KEPT_LINES))

    def keep_of(self, api: Api, namespace: str, group: str, pod: str) -> None:
        """Keep what a pod has printed that was of a group, with what the group has."""
        with contextlib.suppress(InstarError):
            lines = [*self._kept(group), *_of(api, namespace, pod, _KEPT_LINES)]
            self._write(group, sorted(dict.fromkeys(lines), key=lambda line: line.partition(" ")[0])[-_KEPT_LINES:])

    def _write(self, group: str, lines: Sequence[str]) -> None:
        if lines:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            durable.write(self._file(group), "".join(f"{line}\n" for line in lines).encode(), lasting=False)

    def has(self, group: str) -> bool:
        return self._file(group).exists()

    def forget(self, groups: Sequence[str]) -> None:
        for group in groups:
            self._file(group).unlink(missing_ok=True)

    def _kept(self, group: str) -> list[str]:
        try:
            return durable.read(self._file(group), limit_bytes=_LIMIT_BYTES).decode("utf-8", "replace").splitlines()
        except FileNotFoundError:
            return []

    def _file(self, group: str) -> Path:
        if not re.fullmatch(LABEL, group):
            raise ProviderError(f"cannot keep what {group[:80]!r} printed: no group is called so")
        return self._folder / f"{group}.log"


def _pods(api: Api, namespace: str, group: str) -> list[Object]:
    """Return the pods of a group: one of somebody else's with its label prints nothing of it."""
    found = api.list(POD, namespace, {GROUP: group})
    return [one for one in found if is_name_of(str(one["metadata"]["name"]), group)]


def _read(api: Api, namespace: str, group: str, last: int | None) -> Iterator[str]:
    def lines(pod: Object) -> list[str]:
        return _of(api, namespace, str(pod["metadata"]["name"]), last, restarted=_was_begun_anew(pod))

    return heapq.merge(*at_once(lines, _pods(api, namespace, group), at_most=_AT_ONCE))


def _was_begun_anew(pod: Object) -> bool:
    return any(one.get("restartCount") for one in (pod.get("status") or {}).get("containerStatuses") or ())


def _of(api: Api, namespace: str, pod: str, last: int | None, *, restarted: bool = True) -> list[str]:
    """Return a pod's lines: of its container as it is now, and of the one before where that was begun anew."""
    found: list[str] = []
    for previous in ("true", "false") if restarted else ("false",):
        params = {"timestamps": "true", "previous": previous, "limitBytes": str(_LIMIT_BYTES)}
        if last is not None:
            params["tailLines"] = str(last)
        try:
            data = api.text(POD.path(namespace, pod, "log"), f"read what '{pod}' printed", params, absent=True)
        except InstarError as error:
            if error.retry_after_s is not None:
                raise
            continue  # it has not begun yet, or there was none before
        for line in (data or b"").decode("utf-8", "replace").splitlines():
            at, _, text = line.partition(" ")
            found.append(f"{at} {STREAM}@{pod} {text}")
    return found

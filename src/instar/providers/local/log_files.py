"""Logs that this machine keeps in files: of instances, and of routers, which ``router/access_writer.py`` writes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from instar import durable
from instar.errors import RouterError
from instar.model.log_stream import LogStream
from instar.model.release import EnvironmentId
from instar.model.state import StateDirectory
from instar.providers.local import logs
from instar.providers.local.proxy import Proxy, environment_of
from instar.router import access_writer, config


class LocalLogFiles:
    """Implements :class:`instar.providers.facets.LogFiles`."""

    def __init__(self, state: StateDirectory, state_id: str) -> None:
        self._state = state
        self._id = state_id

    def streams(self) -> tuple[LogStream, ...]:
        printed = (path for path in self._state.logs.glob("*.log"))
        asked = (path for path in self._state.routers.glob(f"*/*/{access_writer.LOG}"))
        return (
            *(LogStream(kind="instance", name=path.stem, files=logs.newest_first(path)) for path in printed),
            *(
                LogStream(kind="access", name=str(environment_of(path.parent)), files=logs.newest_first(path))
                for path in asked
            ),
        )

    def has_access_log(self, environment: EnvironmentId) -> bool:
        return self._proxy(environment).files.access_log.exists()

    def access_lines(
        self, environment: EnvironmentId, *, last: int | None = None, follow: bool = False
    ) -> Iterator[str]:
        log = self._proxy(environment).files.access_log
        return logs.follow(log, last, log.parent.exists) if follow else logs.read(log, last)

    def requests_lost(self, environment: EnvironmentId) -> Mapping[str, int]:
        proxy = self._proxy(environment)
        found = {"writer": _unwritten(proxy), "haproxy": _dropped(proxy)}
        return {who: lost for who, lost in found.items() if lost is not None}

    def _proxy(self, environment: EnvironmentId) -> Proxy:
        return Proxy(self._state, self._id, environment)


def _unwritten(proxy: Proxy) -> int | None:
    """Return how many lines the writers have counted that they could not write, since there is a log; None where that
    can't be read."""
    try:
        return int(durable.read_text(proxy.files.directory / access_writer.LOST))
    except FileNotFoundError:
        return 0
    except (OSError, ValueError):
        return None


def _dropped(proxy: Proxy) -> int | None:
    """Return how many HAProxy had no room for in the pipe, and those that it followed; None where it does not say."""
    text = proxy.files.read()
    if text is None or not config.read_plan(text).access_log:
        return 0
    try:
        return proxy.counters().unlogged
    except (RouterError, ValueError):
        return None

"""The shipping of logs, as the machine's own file has it: begun by the agent, looked at by ``doctor``."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Final

from instar.ledger import Ledger
from instar.model.component import Component
from instar.model.log_stream import LogStream
from instar.model.machine import MachineSettings, ShipSettings
from instar.operations.workspace import Workspace
from instar.providers.facets import LogFiles
from instar.shipping.progress import Shipped, kept
from instar.shipping.records import Owner
from instar.shipping.shipper import Happening, Shipper
from instar.shipping.sinks import Undelivered, sink_of, words

_AGAIN_S: Final = 10.0  # from one look at which environments there are to the next
_REMEMBERED: Final = 10_000  # instances that the ledger has no more
_KINDS: Final = {"all": ("instance", "access"), "instances": ("instance",), "access": ("access",)}


class _Streams:
    """The logs of all providers that keep some here."""

    def __init__(self, workspace: Workspace, what: str) -> None:
        self._workspace, self._kinds = workspace, _KINDS[what]
        self._kept: Sequence[LogFiles] = ()
        self._until = 0.0

    def __call__(self) -> Sequence[LogStream]:
        if time.monotonic() >= self._until:
            states, _ = self._workspace.ledger.readable_environments()
            providers = map(self._workspace.provider, sorted({state.settings.provider for state in states}))
            self._kept = [one.log_files for one in providers if one.log_files is not None]
            self._until = time.monotonic() + _AGAIN_S
        return [stream for one in self._kept for stream in one.streams() if stream.kind in self._kinds]


class _Owners:
    """Whose instances are, by the ledger: those that were there, and those that come. One that it does not know is
    asked for again after a while; one that it knew stays known, of those that are gone ``_REMEMBERED`` at the most."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._known: dict[str, Owner] = {}
        self._unknown: dict[str, float] = {}  # until when

    def __call__(self, instance: str) -> Owner | None:
        if instance not in self._known and time.monotonic() >= self._unknown.get(instance, 0.0):
            self._look()
            if instance not in self._known:
                self._unknown[instance] = time.monotonic() + _AGAIN_S
        return self._known.get(instance)

    def _look(self) -> None:
        there = dict(self._all())
        gone = [one for one in self._known.items() if one[0] not in there]
        self._known = {**dict(gone[-_REMEMBERED:]), **there}
        now = time.monotonic()
        self._unknown = {name: until for name, until in self._unknown.items() if until > now}

    def _all(self) -> Iterator[tuple[str, Owner]]:
        states, _ = self._ledger.readable_environments()
        for state in states:
            roles = self._ledger.instance_roles(state.id)
            for name, release in self._ledger.instance_releases(state.id):
                of = state.id
                role = roles.get(name) or None
                yield name, Owner(service=of.service, environment=of.name, release=release, role=role)


def shipper(
    workspace: Workspace, told: Callable[[Happening, str], None], heard: Callable[[Shipped], None]
) -> Shipper | None:
    """Return what ships logs, not yet begun; None where the machine's file has them go nowhere."""
    settings = _settings(workspace.machine_settings)
    sink = sink_of(settings)
    if sink is None:
        return None
    streams, owners = _Streams(workspace, settings.what), _Owners(workspace.ledger)
    return Shipper(sink, workspace.state.shipped, streams, owners, told=told, heard=heard)


def as_component(workspace: Workspace) -> Iterator[Component]:
    """Yield how the shipping of logs does, where logs are shipped."""
    settings = _settings(workspace.machine_settings)
    sink = sink_of(settings)
    if sink is None:
        return
    shipped, found, get = kept(workspace.state.shipped), None, ""
    try:
        sink.check()
        found = f"to {words(settings)}: {_how_far(shipped)}"
    except Undelivered as error:
        get = f"{error}: {_how_far(shipped)}"
    if shipped.cause is not None and found is not None:
        found, get = None, f"{shipped.cause}: {_how_far(shipped)}"
    yield Component(name="logs.ship", purpose="ships logs", found=found, get=get, required=False, instead="fails")


def _how_far(shipped: Shipped) -> str:
    at = (
        "none yet"
        if shipped.at is None
        else f"the last {datetime.fromisoformat(shipped.at).astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
    )
    lost = f", at least {shipped.lost_bytes:,} bytes lost" if shipped.lost_bytes else ""
    return f"{shipped.lines:,} lines so far, {at}; {shipped.behind_bytes:,} bytes wait{lost}"


def _settings(settings: MachineSettings | None) -> ShipSettings:
    return (settings or MachineSettings()).logs.ship

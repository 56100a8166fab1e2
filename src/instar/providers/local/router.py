"""The local provider's router: one HAProxy per environment, driven over its socket, its file the truth after a restart.

Every change is the same four steps: read what the slots hold from the file, work out what they should hold, write the
file, make HAProxy's slots so (for a target that leaves, the last two the other way round). A step that was never taken,
because Instar was killed, is taken by the next call for the place. Calls that change an environment wait for each
other.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Final

from instar import locks
from instar.errors import RouterError, RouterUnreachable
from instar.model.codec import from_json, to_json
from instar.model.drift import Finding
from instar.model.release import EnvironmentId, Served
from instar.model.state import StateDirectory
from instar.providers.local import doors, maintenance, previews
from instar.providers.local.proxy import Proxy, describe, environment_of, running, server_of
from instar.providers.local.survey import printable
from instar.providers.router_plan import RouterPlan
from instar.providers.router_state import Counters, RoutedTarget, RouterState, Target
from instar.router import config, listener, slots
from instar.router.edge.files import remove_door
from instar.router.maintenance import USUAL_PAGE
from instar.router.plan import FORM, RouterFilePlan
from instar.router.previews import chosen, told
from instar.router.slots import Live, Server, Slots
from instar.waiting import Deadline, until

_LOCK_WAIT_S: Final = 30.0
_ATTACH_S: Final = 5.0
_UP_S: Final = 1.0
_POLL_S: Final = 0.005


class LocalRouter:
    """Implements :class:`instar.providers.machine_router.Router`."""

    def __init__(self, state: StateDirectory, state_id: str) -> None:
        self._state = state
        self._id = state_id

    def check(self, plan: RouterPlan) -> None:
        proxy = self._proxy(plan.environment)
        own = {one.pid for one in (*proxy.haproxies(), *proxy.holders())}
        wanted = _inner(plan)
        proxy.render(wanted, ())
        for address in wanted.addresses:
            listener.require_free(address, own, describe)

    def ensure(
        self,
        plan: RouterPlan,
        *,
        door: bool = False,
        inside: tuple[str, ...] = (),
        beside: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        with self._changing(plan.environment) as proxy:
            text = proxy.files.read()
            wanted = _inner(plan, inside, beside)
            wanted = replace(wanted, door=door or wanted.door)
            held = slots.padded(_held(proxy, text), wanted.slots)
            if text is not None and proxy.exists():
                wanted = wanted.after(config.read_plan(text))
            new = proxy.render(wanted, held)
            previews.write_file(proxy, wanted, held)  # HAProxy does not start without
            proxy.write_scripts(wanted)
            maintenance.write_files(proxy, wanted)
            if text is None or config.frame(text) != config.frame(new) or not proxy.current():
                proxy.replace(wanted, held)
            elif text != new:
                proxy.files.write(new)
            proxy.converge(held)
            previews.show(proxy, wanted, previews.left(proxy, wanted, held))
            maintenance.converge(proxy)

    def attach(self, environment: EnvironmentId, targets: Sequence[Target]) -> None:
        servers = [server_of(target) for target in targets]
        with self._changing(environment) as proxy:
            text = self._read(proxy)
            plan, before = replace(config.read_plan(text), form=FORM), config.read_slots(text)
            held = slots.attached(before, servers)
            new = proxy.render(plan, held)
            if config.frame(text) != config.frame(new):  # for more slots, or an older Instar started it
                maintenance.write_files(proxy, plan)
                proxy.replace(plan, held)
            elif text != new:
                proxy.files.write(new)
            try:
                proxy.converge(held)
                _await_proven(proxy, held, [server.name for server in servers])
            except RouterError:
                given_back = [server.name for server in servers if slots.find(before, server.name) is None]
                self._release(proxy, plan, held, given_back)
                raise

    def route(self, environment: EnvironmentId, weights: Mapping[str, int]) -> float:
        with self._changing(environment) as proxy:
            if not weights and (proxy.files.read() is None or not proxy.exists()):
                self._silence(proxy)
                return 0.0
            before = config.read_slots(self._read(proxy))
            held = slots.weighted(before, weights)
            _require_up(proxy, held)
            if held != before:
                self._fill(proxy, held)
            return proxy.converge(held)

    def preview(
        self,
        environment: EnvironmentId,
        targets: Mapping[int, str],
        beside: Mapping[int, Sequence[str]] = MappingProxyType({}),
    ) -> None:
        named = {one: (*filter(None, [targets.get(one)]), *beside.get(one, ())) for one in {*targets, *beside}}
        with self._changing(environment) as proxy:
            text = proxy.files.read()
            if text is not None:
                plan = config.read_plan(text)
                previews.show(proxy, plan, chosen(config.read_slots(text), named, plan.previewed_doors))

    def detach(self, environment: EnvironmentId, names: Sequence[str]) -> int:
        with self._changing(environment) as proxy:
            text = proxy.files.read()
            if text is None:
                return 0
            return self._release(proxy, config.read_plan(text), config.read_slots(text), names)

    def observe(self, environment: EnvironmentId) -> RouterState:
        proxy = self._proxy(environment)
        text = proxy.files.read()
        if text is None:
            return _without_file(proxy)
        held, wanted = config.read_slots(text), config.read_plan(text)
        record = proxy.files.record()
        try:
            live, statistics, counted = doors.looked(proxy, wanted)
            previewed = previews.shown(proxy, wanted)
        except RouterUnreachable:
            unseen = tuple(_routed(server, None, 0, Served()) for _, server in slots.held(held))
            return RouterState(running=record is not None, targets=unseen)
        sessions = doors.sessions(statistics)
        left = proxy.leftover(
            proxy.retired(record), [one for _, server in slots.held(held) for one in server.addresses]
        )
        targets = tuple(
            _routed(
                server,
                live[server.door][index],
                sessions.get(index, 0) + sum(left[one] for one in server.addresses),
                counted[server.door].get(index, Served()),
            )
            for index, server in slots.held(held)
            if server.door in live and index < len(live[server.door])
        )
        up = frozenset(one.target.name for one in targets if one.up)
        plan = _outer(wanted, environment) if record else None
        of_first, beside = told(held, previewed)
        return RouterState(
            running=True,
            plan=plan,
            targets=targets,
            previewed=of_first,
            previewed_beside=beside if wanted.alike else None,  # of an older form: by no other door
            inside=wanted.inside,
            inside_beside={one.key: one.inside[0] for one in wanted.doors if one.inside},
            unanswered=up.intersection(doors.unanswered(held, live)),
        )

    def inspect(self, environment: EnvironmentId) -> tuple[Finding, ...]:
        from instar.providers.local.inspection import routing

        with self._changing(environment) as proxy:
            return tuple(routing.differences(proxy))

    def restore(
        self,
        plan: RouterPlan,
        targets: Sequence[Target],
        *,
        inside: tuple[str, ...] = (),
        beside: Mapping[str, str] = MappingProxyType({}),
    ) -> bool:
        from instar.providers.local.inspection import routing

        with self._changing(plan.environment) as proxy:
            if not proxy.exists():
                return False
            wanted, held, text = _inner(plan, inside, beside), routing.restored(proxy, targets), _readable(proxy)
            with contextlib.suppress(RouterError):
                before = config.read_plan(text or "")
                wanted = replace(wanted.after(before), form=before.form)
            new = proxy.render(wanted, held)
            proxy.write_scripts(wanted)
            maintenance.write_files(proxy, wanted)
            if text is None or config.frame(text) != config.frame(new) or routing.must_be_replaced(proxy, text, held):
                previews.write_file(proxy, wanted, held)
                proxy.replace(wanted, held)
            elif text != new:
                proxy.files.write(new)
            proxy.converge(held)
            previews.show(proxy, wanted, previews.left(proxy, wanted, held))
            maintenance.converge(proxy)
            return True

    def maintenance(self, environment: EnvironmentId) -> bool:
        return maintenance.is_on(self._proxy(environment))

    def maintenance_page(self, environment: EnvironmentId) -> str | None:
        return maintenance.page(self._proxy(environment))

    def set_maintenance(self, environment: EnvironmentId, *, on: bool, page: str | None) -> None:
        with self._changing(environment) as proxy:
            maintenance.switch(proxy, self._read(proxy), on=on, page=USUAL_PAGE if page is None else page)

    def counters(self, environment: EnvironmentId) -> Counters:
        proxy = self._proxy(environment)
        try:
            return proxy.counters() if proxy.files.config.exists() else Counters(requests=0, failed=0)
        except RouterUnreachable:
            return Counters(requests=0, failed=0)

    def remove(self, environment: EnvironmentId) -> None:
        with self._changing(environment) as proxy:
            proxy.end()
            proxy.files.remove()
            remove_door(self._state, environment)

    def clear_orphans(self, known: Callable[[], Sequence[EnvironmentId]]) -> tuple[str, ...]:
        found = {environment_of(path) for path in self._state.routers.glob("*/*") if path.is_dir()}
        found |= running(self._state, self._id)
        orphans = sorted(found - set(known()), key=str)
        for environment in orphans:
            self.remove(environment)
        return tuple(str(environment) for environment in orphans)

    def _proxy(self, environment: EnvironmentId) -> Proxy:
        return Proxy(self._state, self._id, environment)

    @contextlib.contextmanager
    def _changing(self, environment: EnvironmentId) -> Iterator[Proxy]:
        proxy = self._proxy(environment)
        path = self._state.locks / f"router-{environment.service}.{environment.name}"
        with locks.hold(path, f"the router of {environment}", wait_s=_LOCK_WAIT_S):
            yield proxy

    def _read(self, proxy: Proxy) -> str:
        text = proxy.files.read()
        if text is None:
            raise RouterError(
                f"cannot route for '{proxy.files.environment}': it has no router", hint="deploying to it starts one"
            )
        return text

    def _fill(self, proxy: Proxy, held: Slots) -> None:
        proxy.files.write(config.refilled(self._read(proxy), held))

    def _silence(self, proxy: Proxy) -> None:
        """Take the weights from the file of a router that does not run."""
        text = proxy.files.read()
        if text is not None:
            self._fill(proxy, slots.weighted(config.read_slots(text), {}))

    def _release(self, proxy: Proxy, plan: RouterFilePlan, held: Slots, names: Sequence[str]) -> int:
        """Take servers from HAProxy and then from the file; return how many sessions that cut."""
        after = slots.without(held, names)
        previews.show(proxy, plan, previews.left(proxy, plan, after))
        cut = _cut(proxy, held, after, previewed=plan.preview is not None) if proxy.exists() else 0
        if after != held:
            self._fill(proxy, after)
        proxy.files.tidy()
        if proxy.exists():
            proxy.converge(after)  # an HAProxy that died in between has read the file as it was before
        return cut


def _without_file(proxy: Proxy) -> RouterState:
    """Return what an HAProxy does whose file is lost; without a plan, it is opened anew."""
    targets = [_routed(server, None, 0, Served()) for _, server in slots.held(_held(proxy, None))]
    return RouterState(running=bool(targets), targets=tuple(targets))


def _readable(proxy: Proxy) -> str | None:
    """Return the file in force; None where it is not there, or can't be read."""
    with contextlib.suppress(RouterError):
        return proxy.files.read()
    return None


def _held(proxy: Proxy, text: str | None) -> Slots:
    """Return what the slots hold; where the file is lost under an HAProxy that serves, what that one has."""
    if text is not None:
        return config.read_slots(text)
    with contextlib.suppress(RouterUnreachable):
        return slots.seen(proxy.all_live()) if proxy.exists() else ()
    return ()


def _cut(proxy: Proxy, held: Slots, after: Slots, *, previewed: bool) -> int:
    """Free the slots that ``held`` has and ``after`` hasn't; return how many sessions they had, previews apart."""
    gone = {index: server.addresses for index, server in slots.held(held) if after[index] is None}
    sessions = doors.sessions(proxy.statistics())
    proxy.converge(after)
    record, addresses = proxy.files.record(), tuple(one for each in gone.values() for one in each)
    in_retired = proxy.cut(proxy.retired(record), addresses)
    if previewed and record:
        proxy.cut((record.haproxy,), addresses)  # they are in no slot, and counted as nobody's
    return sum(sessions.get(index, 0) for index in gone) + in_retired


def _await_proven(proxy: Proxy, held: Slots, names: Sequence[str]) -> None:
    """Return when HAProxy's checks of all ``names`` have passed, by every door that they have. Raises RouterError after
    five seconds."""
    keys = proxy.doors()
    wanted = [
        (door, index, server)
        for door in keys
        for index, server in slots.held(slots.seen_from(door, held))
        if server.name in names
    ]
    missing = list(wanted)

    def proven() -> bool:
        live = proxy.all_live(keys)
        missing[:] = [
            (door, i, one)
            for door, i, one in wanted
            if not (live[door][i].proven and live[door][i].address == one.address)
        ]
        return not missing

    if until(proven, Deadline.after(_ATTACH_S), every_s=_POLL_S):
        return
    door, index, server = missing[0]
    row = proxy.statistics()[slots.backend(door), f"{slots.letter(door)}{index + 1}"]
    said = " ".join(row[name] for name in ("check_desc", "check_code", "last_chk") if row[name] not in ("", "0"))
    said = printable(said) or "no answer yet"
    raise RouterError(
        f"cannot attach '{server.name}': the router's check of {server.address} does not pass: {said}",
        hint="the service must answer on all its addresses, not only on the loopback one",
    )


def _require_up(proxy: Proxy, held: Slots) -> None:
    """Refuse to move the traffic from servers that are well to servers of which none is, of any role."""
    roles = {server.door for _, server in slots.held(held)}

    def lost() -> list[Server]:
        live = proxy.all_live(sorted(roles))
        return [one for door, rows in live.items() for one in _lost(door, rows, held)]

    if not until(lambda: not lost(), Deadline.after(_UP_S), every_s=_POLL_S):
        names = ", ".join(server.name for server in lost())
        raise RouterError(f"cannot route to {names}: the router's checks fail; the traffic stays where it is")


def _lost(door: str, live: Sequence[Live], held: Slots) -> list[Server]:
    """Return those that would get the traffic of a role, where none of them is up, and who has it is."""
    mine = [(live[index], server) for index, server in slots.held(held) if server.door == door]
    wanted = [(seen, server) for seen, server in mine if server.weight]
    served_now = any(seen.up and seen.share for seen, server in mine if not server.weight)
    return [server for _, server in wanted] if served_now and not any(seen.up for seen, _ in wanted) else []


def _routed(server: Server, live: Live | None, sessions: int, counted: Served) -> RoutedTarget:
    where = server.address
    target = Target(name=server.name, address=where.host, port=where.port, door=server.door, ports=server.ports)
    if live is None:
        return RoutedTarget(target=target, weight=server.weight, sessions=0, up=False)
    if live.address != server.address or live.maintenance:
        return RoutedTarget(target=target, weight=0, sessions=sessions, up=False)
    return RoutedTarget(target=target, weight=live.share, sessions=sessions, up=live.up, served=counted)


def _inner(
    plan: RouterPlan, inside: tuple[str, ...] = (), beside: Mapping[str, str] = MappingProxyType({})
) -> RouterFilePlan:
    """Return the plan of its file. One whose names have all gone to another environment, and that has no address, keeps
    its door, where nobody comes until it has names again."""
    door = bool(plan.names.sites or plan.expected or not (plan.listen or inside))
    made = from_json(RouterFilePlan, to_json(plan))
    doors = tuple(replace(one, inside=(beside[one.key],)) if one.key in beside else one for one in made.doors)
    return replace(made, form=FORM, door=door, inside=inside, doors=doors)


def _outer(plan: RouterFilePlan, environment: EnvironmentId) -> RouterPlan:
    return from_json(RouterPlan, {**to_json(plan), "environment": to_json(environment)})

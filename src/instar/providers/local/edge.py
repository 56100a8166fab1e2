"""The machine's edge: one HAProxy for all environments that are reached by name, driven as a router is.

Every change is the same three steps: work out from the files what is to be, write the files, make HAProxy's maps and
certificates so. A step that was never taken, because Instar was killed, is taken by the next call. The edge begins with
the first environment that has names, and ends with the last.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from instar import locks
from instar.errors import RouterError
from instar.model.drift import Finding
from instar.model.machine import EdgeSettings
from instar.model.release import EnvironmentId
from instar.model.state import StateDirectory
from instar.providers.edge import EdgeCertificate
from instar.providers.local import shown_certificates
from instar.providers.local.held_haproxy import HeldHaproxy
from instar.providers.local.names import Names
from instar.providers.local.proxy import describe
from instar.providers.router_plan import RouterPlan
from instar.router import listener
from instar.router.address import Address
from instar.router.components import confinement_possible, haproxy_owner
from instar.router.edge import answers, certificates, config, maps, names, tickets
from instar.router.edge.files import EdgeFiles
from instar.router.files import HolderRecord

_LOCK_WAIT_S: Final = 30.0
_TRIES: Final = 3


class LocalEdge:
    """Implements :class:`instar.providers.facets.Edge`, and what a provider of one machine needs of it."""

    def __init__(self, state: StateDirectory, state_id: str, settings: EdgeSettings) -> None:
        self._state = state
        self._settings = settings
        self.files = EdgeFiles(state)
        self.haproxy = HeldHaproxy(self.files, state_id, Names(state, state_id).edge_group)

    # -- names -----------------------------------------------------------------------------------------------------

    def check(self) -> None:
        """Raise RouterError when its addresses cannot be had: who has them is named."""
        own = {one.pid for one in (*self.haproxy.haproxies(), *self.haproxy.holders())}
        for address in self._plan(names.NONE, None).addresses:
            try:
                listener.require_free(address, own, describe)
            except RouterError as error:
                where = "where names are reached is said by 'edge' in the machine's own file (docs/machine.md)"
                raise RouterError(error.message, hint=f"{error.hint}; {where}" if error.hint else where) from error

    def ensure(self, plan: RouterPlan) -> bool:
        """Pass requests for the plan's names to its environment, and no others; return whether some are passed to it
        still that another expects. No request is lost."""
        with self._changing():
            environment = str(plan.environment)
            before = self._environments()
            if not (plan.names.sites or plan.expected) and environment not in before:
                return False
            after = names.settled(before, environment, plan.names, plan.expected)
            self._settle(after, plan)
            return environment in after and bool(after[environment].leaving.sites)

    def passed(self, environment: EnvironmentId) -> names.Passed | None:
        """Return what is passed to an environment; None for nothing, and where no edge runs as it should."""
        found = self._environments().get(str(environment))
        return None if found is None or self.files.record() is None or not self._listens_as_configured() else found

    def _listens_as_configured(self) -> bool:
        """Tell whether it was started for what the machine's file says now."""
        with contextlib.suppress(RouterError):
            plan = config.read_plan(self.files.read() or "")
            return plan == self._with_settings(plan)
        return False

    def _with_settings(self, plan: config.EdgePlan) -> config.EdgePlan:
        """Return the plan with what the machine's file says."""
        told = self._settings
        http, https = told.http_addresses, told.https_addresses
        return replace(plan, http=http, https=https, accept_proxy=told.accept_proxy)

    def remove(self, environment: EnvironmentId) -> None:
        """Pass nothing to an environment any more."""
        with self._changing():
            before = self._environments()
            if str(environment) in before:
                self._settle(names.without(before, str(environment)))

    def clear_orphans(self, known: Callable[[], Sequence[EnvironmentId]]) -> tuple[str, ...]:
        """Pass nothing to environments that are none of ``known()``; return what of it went."""
        if not self.files.directory.exists() and not self.haproxy.exists():
            return ()
        with self._changing():
            before = self._environments()
            there = {str(one) for one in known()}
            after = {name: one for name, one in before.items() if name in there}
            if after != before or not after or self.is_of_an_older_form:
                self._settle(after)
            else:
                self._rotate_tickets()
        return tuple(f"names of {name}" for name in before if name not in there)

    # -- what it is ------------------------------------------------------------------------------------------------

    def inspect(self) -> tuple[Finding, ...]:
        """Return what is not as it was made."""
        from instar.providers.local.inspection import edge

        with self._changing():
            return tuple(edge.differences(self))

    def restore(self, plan: RouterPlan) -> bool:
        """Make it as it was made again, without losing a request, with what ``plan`` passes to its environment. Return
        False where none runs."""
        from instar.providers.local.inspection import edge

        with self._changing():
            if not self.haproxy.exists():
                return False
            before: names.Environments = names.NONE
            with contextlib.suppress(RouterError):  # of what can't be read, each environment brings its own part again
                before = self._environments()
            after = names.settled(before, str(plan.environment), plan.names, plan.expected)
            if not self.files.read():
                self.files.write(config.render(self._plan(after, None, plan), confined=self._confined))
            self._settle(after, plan)
            if any(edge.differences(self)):
                text = self.rendered(self.files.read() or "")
                self._replace(config.read_plan(text), text)
            return True

    def rendered(self, text: str) -> str:
        """Return the file as it would be written now, where ``text`` is in force."""
        return config.render(self._plan(self._environments(), text), confined=self._confined)

    def rendered_list(self) -> str:
        """Return the list of certificates as it would be written now."""
        return certificates.render(self._authorities(self._environments()))

    @property
    def is_of_an_older_form(self) -> bool:
        """Whether an older Instar wrote its files, which are written anew when leftovers are cleared away next."""
        with contextlib.suppress(RouterError):
            return config.read_plan(self.files.read() or "").form < config.FORM
        return False

    @property
    def takes_no_session_up(self) -> bool:
        return config.read_plan(self.files.read() or "").clients

    # -- certificates and answers ----------------------------------------------------------------------------------

    def serve(self, certificate: EdgeCertificate) -> None:
        pem = shown_certificates.checked(certificate)
        with self._changing():
            self.files.make()
            for name in certificate.names:
                shown_certificates.keep(self.files, name, pem)
            environments = self._environments()
            authorities = self._authorities(environments)
            self._write(self.files.list, certificates.render(authorities))
            if self.haproxy.exists():
                self._show(certificate.names, pem, authorities)
                self._open(environments)

    def withdraw(self, names: Sequence[str]) -> None:
        with self._changing():
            gone = [name for name in names if self.files.certificate(name).exists()]
            for name in gone:
                self.files.certificate(name).unlink(missing_ok=True)
            environments = self._environments()
            if self.files.directory.exists():
                self._write(self.files.list, certificates.render(self._authorities(environments)))
            if self.haproxy.exists():
                self._open(environments)
                shown_certificates.hide(self.haproxy, names)

    def _show(self, names: Sequence[str], pem: str, authorities: Mapping[str, str | None]) -> None:
        """Have HAProxy show a certificate. For a name that asks clients for theirs and had none, it is started anew: it
        reads an authority's file only then."""
        listed = certificates.listed(self.haproxy.ask(certificates.SHOW)[0])
        if any(authorities.get(name) and name not in listed for name in names):
            text = self.rendered(self.files.read() or "")
            self._replace(config.read_plan(text), text)
        else:
            shown_certificates.show(self.haproxy, names, pem, authorities)

    def _open(self, environments: names.Environments) -> None:
        """Have the map as the certificates that there are allow it."""
        if environments:
            certified = self.files.certified()
            self._write(self.files.names, names.render(environments, certified))
            self._converge(names.MAP, names.entries(environments, certified))

    def served(self) -> Mapping[str, str]:
        return shown_certificates.fingerprints(self.files, self.haproxy) if self.haproxy.exists() else {}

    def answer_challenges(self, thumbprint: str | None) -> None:
        self._answer("thumbprint", thumbprint)

    def answer_nonce(self, nonce: str | None) -> None:
        self._answer("nonce", nonce)

    def _answer(self, kind: answers.Kind, value: str | None) -> None:
        with self._changing():
            before = self.files.read(self.files.answers) or ""
            text = answers.changed(before, kind, value)
            if text != before:
                self.files.make()
                self._write(self.files.answers, text)
            if self.haproxy.exists():
                self._converge(answers.ANSWERS, answers.read(text))

    def _rotate_tickets(self) -> None:
        """Change the keys of TLS sessions, when it is time."""
        text = self.files.read(self.files.tickets)
        if text is None or not tickets.usable(text):
            return
        if time.time() - self.files.tickets.stat().st_mtime < tickets.ROTATED_AFTER_S:
            return
        text = tickets.rotated(text)
        self._write(self.files.tickets, text)
        if not self.takes_no_session_up:
            self.haproxy.ask(tickets.command(text))

    # -- how it comes to be as wanted ------------------------------------------------------------------------------

    def _settle(self, environments: names.Environments, router: RouterPlan | None = None) -> None:
        if not environments:
            self.haproxy.end()
            self.files.remove()
            return
        authorities = self._authorities(environments)
        self._prepare(environments, authorities)
        text = self.files.read()
        new = config.render(self._plan(environments, text, router), confined=self._confined)
        listed = certificates.render(authorities)
        is_listed = self._write(self.files.list, listed)
        certified = self.files.certified()
        self._write(self.files.names, names.render(environments, certified))
        if text is None or config.frame(text) != config.frame(new) or not is_listed or not self.haproxy.current():
            self._replace(config.read_plan(new), new)
        elif text != new:
            self.files.write(new)
        self._converge(names.MAP, names.entries(environments, certified))
        self.files.unlink({one.slot for one in environments.values()})

    def _prepare(self, environments: names.Environments, authorities: Mapping[str, str | None]) -> None:
        """Have all files that HAProxy reads when it starts."""
        self.files.make()
        os.chown(self.files.root, -1, haproxy_owner()[1])
        for name, one in environments.items():
            service, _, environment = name.partition("/")
            self.files.link(one.slot, EnvironmentId(service=service, name=environment))
        for pem in set(names.authorities(environments).values()):
            self._write(self.files.directory / certificates.authority_file(pem), pem)
        if self.files.read(self.files.answers) is None:
            self._write(self.files.answers, "")
        if not tickets.usable(self.files.read(self.files.tickets)):
            self._write(self.files.tickets, tickets.new())

    def _replace(self, plan: config.EdgePlan, text: str) -> None:
        record = self.files.record()
        with self._listening(plan, record) as sockets:
            listening = dict(zip(config.variables(plan), sockets, strict=True))
            self.haproxy.put(text, listening, record, {config.ROOT: str(self.files.root)})

    @contextlib.contextmanager
    def _listening(self, plan: config.EdgePlan, record: HolderRecord | None) -> Iterator[list[socket.socket]]:
        """Yield the listening sockets of the plan's addresses: those that are open now, and new ones."""
        with contextlib.ExitStack() as stack:
            found: dict[Address, socket.socket] = {}
            for one in (record.process,) if record else self.haproxy.haproxies():
                for address, shared in listener.taken_from(one.pid).items():
                    stack.enter_context(shared)
                    found.setdefault(address, shared)
            for address in plan.addresses:
                if address not in found:
                    found[address] = stack.enter_context(listener.opened(address, found, describe))
                listener.prepare(found[address])
            yield [found[address] for address in plan.addresses]

    def _converge(self, name: str, wanted: Mapping[str, str]) -> None:
        todo: Sequence[str] = ()
        for _ in range(_TRIES):
            todo = maps.commands(name, wanted, maps.shown(self.haproxy.ask(maps.show(name))[0]))
            if not todo:
                return
            self.haproxy.ask(*todo)
        raise RouterError(f"cannot change the edge: it does not keep what it is told: {todo[0]!r}")

    def _plan(
        self, environments: names.Environments, text: str | None, router: RouterPlan | None = None
    ) -> config.EdgePlan:
        """Return the plan, with what ``router`` needs: what it has room for never gets less while it runs."""
        plan = self._with_settings(config.EdgePlan(http=(), https=(), form=config.FORM))
        if router is not None:
            times_ms = (router.request_timeout_ms, router.stream_timeout_ms, router.wait_ms)
            plan = plan.with_room(router.headers, config.silent_ms(*times_ms))
        with contextlib.suppress(RouterError):
            before = config.read_plan(text or "")
            plan = replace(plan.with_room(before.headers, before.silent_ms), slots=before.slots)
        needed = max((one.slot for one in environments.values()), default=0)
        slots = plan.slots
        while slots < needed:
            slots *= 2
        return replace(plan, slots=slots, clients=bool(names.authorities(environments)))

    def _environments(self) -> names.Environments:
        text = self.files.read(self.files.names)
        return names.NONE if text is None else names.read(text)

    def _authorities(self, environments: names.Environments) -> Mapping[str, str | None]:
        """Return, of each name that has a certificate, the file of what its clients' must be signed by."""
        files = {name: certificates.authority_file(pem) for name, pem in names.authorities(environments).items()}
        return {name: files.get(name) for name in self.files.certified()}

    def _write(self, path: Path, text: str) -> bool:
        """Have ``text`` in a file; return whether it was there already."""

        if self.files.read(path) == text:
            return True
        self.files.write(text, path)
        return False

    @property
    def _confined(self) -> bool:
        return os.geteuid() == 0 and confinement_possible()

    @contextlib.contextmanager
    def _changing(self) -> Iterator[None]:
        with locks.hold(self._state.locks / "edge", "the edge", wait_s=_LOCK_WAIT_S):
            yield

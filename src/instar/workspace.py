"""The one place where concrete parts are put together."""

from __future__ import annotations

import contextlib
import functools
import os
import pwd
import sys
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from instar import durable
from instar.cancellation import Cancellation
from instar.entry_points import find_provider, provider_names
from instar.errors import EnvironmentBusy, HostError, InstarError, LedgerDamaged, NotRoot, ProviderMissing, UsageError
from instar.model.progress import Progress, Report
from instar.model.state import MACHINE_FILE_VARIABLE, ROOTS_STATE, StateDirectory, machine_file
from instar.operations import state_directory

if TYPE_CHECKING:
    from instar.fetch.cache import Cache
    from instar.host.filesystems.layers import LayerImages
    from instar.ledger import Ledger
    from instar.model.component import Component
    from instar.model.environment import Settings
    from instar.model.lease import HeldLease
    from instar.model.machine import MachineSettings
    from instar.model.release import EnvironmentId, Instance
    from instar.providers.base import Provider
    from instar.providers.package import ProviderPackage
    from instar.registry.registries import Registries
    from instar.store import Store
    from instar.store.hashed_files import HashedFiles


class MachineWorkspace:
    """The parts of one state directory. Each is imported and made when it is first asked for."""

    def __init__(self, environ: Mapping[str, str], report: Report, *, cancellation: Cancellation | None = None) -> None:
        self.state = StateDirectory.from_environment(environ, of_root=os.geteuid() == 0)
        self.report = report
        self.cancellation = cancellation or Cancellation()
        self.environ = environ
        self.actor = environ.get("SUDO_USER") or _user_name()
        self._providers: dict[str, Provider] = {}

    @functools.cached_property
    def _shared_ledger(self) -> str | None:
        return ledger_address(self.environ, self.machine_settings.ledger if self.machine_settings else None)

    def named_ledger(self) -> str | None:
        from instar.definition.machine import load_machine

        settings = load_machine(self.environ)
        return ledger_address(self.environ, settings.ledger if settings else None)

    @functools.cached_property
    def ledger(self) -> Ledger:
        from instar.ledger import Ledger

        self._require_own_state()
        if self._shared_ledger is not None:
            from instar.definition.kept import require_kept

            return Ledger(self._shared_ledger, actor=self.actor, check=require_kept)
        self._require_not_lost()
        self._require_nobody_on_an_older_one()
        return Ledger(self.state.ledger, actor=self.actor)

    @property
    def has_ledger(self) -> bool:
        return self._shared_ledger is not None or self.state.ledger.exists()

    @property
    def is_ledger_lost(self) -> bool:
        return self._shared_ledger is None and self.state.id_file.exists() and not self.state.ledger.exists()

    def begin_ledger_anew(self) -> None:
        from instar.ledger import Ledger

        self._require_own_state()
        self.ledger = Ledger(self.state.ledger, actor=self.actor)

    def remove_state(self, *, keep: Collection[str]) -> tuple[Path, ...]:
        from instar.host.filesystems import trees
        from instar.host.kernel import mounts

        own = [name for name in (*self.state.own_names, *provider_names()) if name not in keep]
        for path in (*durable.leftovers(self.state.root), self.state.run, *(self.state.root / name for name in own)):
            mounts.unmount_all(path)
            trees.remove(path)
        with contextlib.suppress(OSError):
            self.state.readers_socket.unlink(missing_ok=True)
            self.state.readers_socket.parent.rmdir()  # unless another state directory has readers
        stays = tuple(sorted(self.state.root.iterdir()))
        if not stays:
            self.state.root.rmdir()
        return stays

    def _require_not_lost(self) -> None:
        """Raise LedgerDamaged where the machine had a ledger of its own, or a shared one, and has neither now."""
        if not self.is_ledger_lost:
            return
        from instar.operations.ledger import last_shared

        _, address = last_shared(self.state)
        again = f"this machine worked by {address}: name it again, in the machine's file or INSTAR_LEDGER"
        back = again if address else "put it back from a copy"
        raise LedgerDamaged(
            f"cannot find the ledger '{self.state.ledger}': what runs here would be taken for leftovers",
            hint=f"{back}; or, to begin anew, stop what runs and remove '{self.state.id_file}'",
        )

    def look_at_ledger(self) -> int | None:
        """Return the number of the ledger's schema, None where there is none yet; change nothing. Raises what a command
        would get that wants it."""
        from instar.ledger import look

        if os.geteuid() == 0 and (self.state.id_file.exists() or self.state.ledger.exists()):
            state_directory.require_roots(self.state.root)
        self._require_no_restore()
        if self._shared_ledger is not None:
            return look(self._shared_ledger)
        self._require_not_lost()
        return look(self.state.ledger) if self.state.ledger.exists() else None

    def _ledger_component(self) -> Component:
        """Return the ledger as ``doctor`` lists it: one that a command would not get is missing."""
        from instar.model.component import Component

        listed = functools.partial(Component, name="ledger", purpose="holds what is decided and done")
        try:
            found = self.look_at_ledger()
        except InstarError as error:
            return listed(found=None, get=": ".join(filter(None, (error.message, error.hint))))
        none = "none yet" if self.other_state is None else "none of your own; root's takes sudo"
        return listed(found=none if found is None else f"schema {found}", get="")

    def _require_nobody_on_an_older_one(self) -> None:
        """Before the ledger gets the schema of this version: a command of the version before would be refused by it in
        the middle of what it does. Raises EnvironmentBusy."""
        from instar.ledger.sqlite import is_behind

        if not is_behind(self.state.ledger):
            return
        from instar import locks

        for lock in sorted(self.state.locks.glob("*--*")):
            pid = locks.find_holder(lock)
            if pid not in (None, os.getpid()):
                environment = lock.name.replace("--", "/", 1)
                raise EnvironmentBusy(
                    f"cannot use the ledger yet: process {pid} works on '{environment}' with the version before",
                    pid=pid,
                    hint="wait until it has finished, or end it, then ask again; what runs goes on meanwhile",
                )
        agent = locks.find_holder(self.state.locks / "agent")
        if agent not in (None, os.getpid()):
            text = f"process {agent} is an agent of the version before, and does nothing from now on: restart it"
            self.report(Progress(stage="upgrade", text=text, kind="warning"))

    @functools.cached_property
    def machine_settings(self) -> MachineSettings | None:
        """Return what the machine's own file says, None where there is none. Raises MachineFileError, HostError."""
        if not self.environ.get(MACHINE_FILE_VARIABLE) and durable.is_missing(machine_file(self.environ)):
            return None  # to import what reads it would take longer than to find that there is nothing to read
        from instar.definition.machine import load_machine

        return load_machine(self.environ)

    def _require_own_state(self) -> None:
        """Make the state directory of a user without root, theirs alone. Raises NotRoot where it is somebody else's;
        HostError, to root, where anybody else could have written what is in it."""
        folder = self.state.root
        if os.geteuid() == 0:
            state_directory.require_roots(folder)
            self._require_no_restore()
            return
        if durable.is_missing(folder):
            state_directory.close(self.state)
        if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
            raise NotRoot(
                f"cannot use the state directory '{folder}': it belongs to root, or to another user",
                hint="ask again with sudo",
            )
        self._require_no_restore()

    def _require_no_restore(self) -> None:
        """Raise Refused while a restore is under way here, or was killed: what is there may be half of it."""
        if durable.is_missing(self.state.restore):
            return
        from instar.operations.restore import half_done

        raise half_done(self.state)

    def make_state(self) -> None:
        """Make the state directory, with nothing in it, where there is none. Raises NotRoot, HostError."""
        if os.geteuid() == 0:
            state_directory.require_roots(self.state.root)
        state_directory.close(self.state)

    @property
    def other_state(self) -> str | None:
        """Say, to a user whose environments are looked at, that root has some of its own here; None where it hasn't."""
        if os.geteuid() == 0 or self.environ.get("INSTAR_HOME") or not ROOTS_STATE.is_dir():
            return None
        return f"only your own environments ('{self.state.root}') are asked for: those of root need sudo"

    @functools.cached_property
    def store(self) -> Store:
        from instar.store import Store

        self._require_own_state()
        return Store(self.state.store)

    @functools.cached_property
    def cache(self) -> Cache:
        from instar.fetch.cache import Cache

        return Cache(self.state.cache)

    @functools.cached_property
    def registries(self) -> Registries:
        from instar.registry.registries import Registries

        settings = self.machine_settings.registries if self.machine_settings else {}
        return Registries(settings, self.environ, self.cancellation, self.report)

    @functools.cached_property
    def hashed_files(self) -> HashedFiles:
        from instar.store.hashed_files import HashedFiles

        return HashedFiles(self.state.sealed)

    @functools.cached_property
    def layers(self) -> LayerImages:
        from instar.host.filesystems.layers import LayerImages

        return LayerImages(self.store, self.state.layers, self.state.mounts, self.hashed_files)

    @functools.cached_property
    def machine(self) -> str:
        """Which this is, for those who share a ledger."""
        from instar.operations.machine_name import machine_name

        return machine_name(self.state)

    def machine_of(self, provider: str) -> str | None:
        return self.machine if self.provider_package(provider).traits.of_one_machine else None

    def provider(self, name: str) -> Provider:
        """Return the provider called ``name``. Raises ProviderMissing when there is none."""
        if name not in self._providers:
            package = self.provider_package(name)
            if package.traits.needs_root and os.geteuid() != 0:
                raise NotRoot(
                    f"cannot use the provider '{name}': it makes mounts, namespaces and cgroups, which takes root",
                    hint="ask again with sudo",
                )
            self.ledger  # noqa: B018  a mark without a ledger is taken for a lost ledger
            if self.find_state_id() is not None or not self._is_anything_made():
                self.state_id  # noqa: B018  from then on a ledger that is missing is taken for lost
            self._providers[name] = package.open(self)
        return self._providers[name]

    def provider_records(self, provider: str) -> Sequence[tuple[Instance, Mapping[str, Any]]]:
        return self.ledger.provider_records(provider, self.machine)

    def environments(self) -> Mapping[EnvironmentId, Settings]:
        states, _ = self.ledger.readable_environments()
        return {state.id: state.settings for state in states}

    def left_settings(self, environment: EnvironmentId) -> Settings | None:
        state = self.ledger.find_environment(environment)
        return None if state is None else state.left_settings

    def ledger_name(self) -> str:
        from instar.model.held import holder_of

        return holder_of(self.ledger.identity())

    def signing_key(self, *, make: bool = False) -> bytes | None:
        return self.ledger.signing_key() if make else self.ledger.find_signing_key()

    def held_lease(self, environment: EnvironmentId) -> HeldLease | None:
        leases = self.ledger.leases
        return None if leases is None else leases.held(environment)

    def provider_package(self, name: str) -> ProviderPackage:
        """Return what is known of a provider before it is opened. Raises ProviderMissing when there is none."""
        found: ProviderPackage | None = find_provider(name)
        if found is None:
            known = ", ".join(f"'{one}'" for one in provider_names()) or "none"
            raise ProviderMissing(
                f"cannot find provider '{name}': installed here: {known}",
                hint=f"install its package again beside Instar, into {sys.prefix}: docs/providers.md",
            )
        return found

    def _components_of(self, name: str) -> tuple[Component, ...]:
        """Return what a provider needs; of a package that is of no use, that it isn't."""
        from instar.model.component import Component

        try:
            return self.provider_package(name).components()
        except ProviderMissing as error:
            use, get = f"runs what names 'provider: {name}'", " → ".join(filter(None, (error.message, error.hint)))
            return (Component(name=f"provider {name}", purpose=use, found=None, get=get),)

    def components(self) -> tuple[Component, ...]:
        """Return every component that some room or provider stands on."""
        from instar.certificates.components import components as certificates
        from instar.definition.machine import as_component
        from instar.fetch.components import components as fetch

        own = as_component(machine_file(self.environ), self.machine_settings)
        provided = (one for name in provider_names() for one in self._components_of(name))
        return (*provided, *fetch(), *certificates(), own, self._ledger_component())

    def warnings(self) -> tuple[str, ...]:
        """Return what on this machine will get in the way of instances. Makes nothing."""
        found: list[str] = []
        for name in provider_names():
            with contextlib.suppress(ProviderMissing):  # told among the components
                found += self.provider_package(name).warnings(self)
        return tuple(found)

    def find_state_id(self) -> str | None:
        return state_directory.find_id(self.state.id_file)

    @functools.cached_property
    def state_id(self) -> str:
        """Six hexadecimal digits, made once, that mark everything global to this host as this state directory's."""
        state_directory.close(self.state)
        found = state_directory.find_id(self.state.id_file)
        if found is None:
            self._require_nothing_made()
        return found or state_directory.write_id(self.state.id_file)

    def _require_nothing_made(self) -> None:
        """Raise HostError where there is no id, and something was made with one: another would not know it for its
        own, and make a second bridge on the same network."""
        if self._is_anything_made():
            raise HostError(
                f"cannot find '{self.state.id_file}': what runs here carries the six digits in it",
                hint="what runs goes on; put the file back from a copy, or write them into it: "
                + state_directory.SHOW_ID,
            )

    def _is_anything_made(self) -> bool:
        return self.state.network.exists() or (self.state.ledger.exists() and bool(self.ledger.instances()))


def ledger_address(environ: Mapping[str, str], configured: str | None) -> str | None:
    """Return where the ledger is that this machine shares with others, None where it has one of its own.

    ``configured`` is what the machine's file says. Raises UsageError for what is no address of a database.
    """
    address = environ.get("INSTAR_LEDGER") or configured
    if address is not None and not address.startswith(("postgresql://", "postgres://")):
        raise UsageError(
            "cannot use the ledger that INSTAR_LEDGER, or the machine's file, names: it is no PostgreSQL database",
            hint="postgresql://USER@HOST/DATABASE; without any, the ledger is a file of this machine",
        )
    return address


def _user_name() -> str:
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())

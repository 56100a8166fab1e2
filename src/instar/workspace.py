"""The one place where concrete parts are put together."""

from __future__ import annotations

import functools
import os
import pwd
import secrets
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from instar.errors import HostError, LedgerDamaged, UsageError
from instar.model.progress import Report
from instar.model.state import StateDirectory

if TYPE_CHECKING:
    from instar.fetch.cache import Cache
    from instar.host.layers import LayerImages
    from instar.ledger import Ledger
    from instar.model.component import Component
    from instar.providers.base import Provider
    from instar.store import Store


class Workspace:
    """The parts of one state directory. Each is imported and made when it is first asked for."""

    def __init__(self, environ: Mapping[str, str], report: Report) -> None:
        self.state = StateDirectory.from_environment(environ)
        self.report = report
        self.actor = environ.get("SUDO_USER") or _user_name()
        self._providers: dict[str, Provider] = {}

    @functools.cached_property
    def ledger(self) -> Ledger:
        from instar.ledger import Ledger

        if self.state.id_file.exists() and not self.state.ledger.exists():
            raise LedgerDamaged(
                f"cannot find the ledger '{self.state.ledger}': what runs here would be taken for leftovers",
                hint=f"put it back from a copy; or, to begin anew, stop what runs and remove '{self.state.id_file}'",
            )
        return Ledger(self.state.ledger, actor=self.actor)

    @functools.cached_property
    def store(self) -> Store:
        from instar.store import Store

        return Store(self.state.store)

    @functools.cached_property
    def cache(self) -> Cache:
        from instar.fetch.cache import Cache

        return Cache(self.state.cache)

    @functools.cached_property
    def layers(self) -> LayerImages:
        from instar.host.layers import LayerImages

        return LayerImages(self.store, self.state.layers, self.state.mounts)

    def provider(self, name: str) -> Provider:
        """Return the provider called ``name``. Raises UsageError when there is none."""
        if name != "local":
            raise UsageError(f"cannot find provider '{name}': this version has 'local'")
        if name not in self._providers:
            self._providers[name] = self._local()
        return self._providers[name]

    def _local(self) -> Provider:
        from instar.providers.base import Provider
        from instar.providers.local import LocalRouter, LocalRuntime

        self.ledger  # noqa: B018  a mark without a ledger is taken for a lost ledger
        mark = self.state_id
        return Provider(runtime=LocalRuntime(self.state, mark, self.layers), router=LocalRouter(self.state, mark))

    def components(self) -> tuple[Component, ...]:
        """Return every component that some room stands on."""
        from instar.fetch.components import components as fetch
        from instar.providers.local.components import components as local
        from instar.router.components import components as router

        return (*local(), *router(), *fetch())

    @functools.cached_property
    def state_id(self) -> str:
        """Six hexadecimal digits, made once, that mark everything global to this host as this state directory's."""
        path = self.state.id_file
        _close(self.state)
        try:
            return path.read_text().strip()
        except FileNotFoundError:
            return _write_id(path)


def _close(state: StateDirectory) -> None:
    """Make the state directory, and let nobody else in: what images and volumes hold can be reached through it."""
    for folder in (state.root, state.run):
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            if stat.S_IMODE(folder.stat().st_mode) != 0o700:
                folder.chmod(0o700)
        except OSError as error:
            raise HostError(f"cannot write to state directory '{folder}': {error.strerror}") from error


def _write_id(path: Path) -> str:
    mark = secrets.token_hex(3)
    try:
        temporary = path.with_name(f".id.{os.getpid()}")
        temporary.write_text(mark + "\n")
        try:
            os.link(temporary, path)
        except FileExistsError:
            return path.read_text().strip()
        finally:
            temporary.unlink()
    except OSError as error:
        raise HostError(f"cannot write to state directory '{path.parent}': {error.strerror}") from error
    return mark


def _user_name() -> str:
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())

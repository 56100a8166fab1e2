"""The registries that this machine knows: how each is reached, and which mirrors it has.

What a verb does there is imported with its first use: a push pays for nothing else.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from instar.cancellation import Cancellation
from instar.errors import FetchError, ImageNotFound
from instar.model.digest import Digest
from instar.model.machine import RegistrySettings
from instar.model.progress import Progress, Report
from instar.model.reference import Reference, Repository
from instar.model.transfer import Transfer
from instar.registry.client import Client
from instar.registry.transport import Patience, Transport

if TYPE_CHECKING:
    from instar.registry.looking import Looked
    from instar.registry.tags import Tags
    from instar.store import Store


class Registries:
    """By the machine's file (``settings``), with the proxies and the credentials of ``environ``."""

    def __init__(
        self,
        settings: Mapping[str, RegistrySettings],
        environ: Mapping[str, str],
        cancellation: Cancellation,
        report: Report,
        patience: Patience | None = None,
    ) -> None:
        self._environ = environ
        self._cancellation = cancellation
        self._report = report
        self._transport = Transport(settings, patience or Patience(), environ)

    def push(self, store: Store, digest: Digest, to: Repository, *, tags: Sequence[str] = ()) -> Transfer:
        """Bring an image of the store to a repository, to the byte; see :meth:`instar.registry.push.Push.run`."""
        from instar.registry.push import Push

        target = self._client(to, actions="pull,push")
        return Push(digest, target, store, self._cancellation, self._report, tags=tags).run()

    def pull(self, store: Store, what: Reference, *, every_platform: bool = False) -> Transfer:
        """Bring an image to the store; see :class:`instar.registry.pull.Pull`."""
        from instar.registry.pull import Pull

        sources = self._sources(what.repository)
        return Pull(what, sources, store, self._cancellation, self._report, every_platform=every_platform).run()

    def look(self, what: Repository, wanted: Digest | str, architecture: str) -> Looked:
        """Ask what image a digest or a tag is, for this architecture, without its layers; see :func:`looking.look`.

        Of several sources the first that has an answer is believed: a mirror may be all that this machine can reach.
        """
        from instar.registry.looking import look

        *mirrors, own = self._sources(what)
        for one in mirrors:
            try:
                return look(one, wanted, architecture)
            except (FetchError, ImageNotFound) as error:
                text = f"the mirror '{one.repository}' is of no use: {error.message}"
                self._report(Progress(stage="note", text=text, kind="warning"))
        return look(own, wanted, architecture)

    def has(self, what: Reference) -> bool:
        """Ask whether a registry, or a mirror of it, has an image; a mirror that fails is passed over, as by a pull.

        Raises SourceUnreachable, FetchError.
        """
        *mirrors, own = self._sources(what.repository)
        for one in mirrors:
            with contextlib.suppress(FetchError):
                if one.has_manifest(what.digest):
                    return True
        return own.has_manifest(what.digest)

    def tags(self, repository: Repository, *, actions: str = "pull") -> Tags:
        """Return the tags of a repository, to look at (``pull``), to put (``push``) and to ``delete``."""
        from instar.registry.tags import Tags

        return Tags(self._client(repository, actions=actions))

    def _sources(self, repository: Repository) -> list[Client]:
        """Return whom to ask for what is in a repository: its mirrors, and the registry itself."""
        mirrored = []
        for mirror in self._transport.settings(repository.host).mirrors:
            host, _, path = mirror.partition("/")
            mirrored.append(Repository(host=host, path=f"{path}/{repository.path}" if path else repository.path))
        return [self._client(one, actions="pull") for one in (*mirrored, repository)]

    def _client(self, repository: Repository, *, actions: str) -> Client:
        return Client(repository, self._transport, self._cancellation, actions=actions, environ=self._environ)

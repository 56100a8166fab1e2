"""A connection pool to a cluster's API server, one a context, with the kubeconfig's credentials.

Those that a program says are asked for again when they are over, or refused.
"""

from __future__ import annotations

import contextlib
import tempfile
import threading
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from instar.errors import ProviderError
from instar.providers.kubernetes.credentials import Credential, ask_plugin

if TYPE_CHECKING:
    import httpx2

    from instar.providers.kubernetes.kubeconfig import Access

TIMEOUT_S: Final = 15.0


class Connection:
    """To the server that ``access`` leads to. May be used by several threads."""

    def __init__(self, access: Access, environ: Mapping[str, str]) -> None:
        self.shown = access.shown
        self._access = access
        self._config = access.config
        self._environ = environ
        self._guard = threading.Lock()
        self._client: httpx2.Client | None = None
        self._credential: Credential | None = None

    def client(self) -> httpx2.Client:
        """Return what calls are made by, with credentials that hold. Raises ProviderError where there are none."""
        with self._guard:
            if self._credential is not None and not self._credential.holds(datetime.now(UTC)):
                self._close()
            if self._client is None:
                self._client = self._connect()
            return self._client

    def forget_credential(self) -> bool:
        """Ask for another one by the next call; return whether that makes sense."""
        with self._guard:
            asked = self._credential is not None
            self._close()
            return asked

    @property
    def said_by(self) -> tuple[str, datetime | None] | None:
        """The program that says the credentials, and until when they hold; None of those of the kubeconfig itself."""
        user, credential = self._config.user, self._credential
        if user is None or user.exec is None or credential is None:
            return None
        return user.exec.command, credential.until

    def _close(self) -> None:
        """What other threads still ask by the old connections goes on: they are closed when nobody has them."""
        self._client = self._credential = None

    def _connect(self) -> httpx2.Client:
        from lightkube.config import client_adapter
        from lightkube.config.models import User
        from lightkube.core.exceptions import ConfigError

        from instar.providers.kubernetes.client import Client

        config, user = self._config, self._config.user or User()
        is_asked = bool(user.exec) and not (user.token or user.token_file)
        headers = list(self._access.acting_as)
        try:
            context = client_adapter.verify_cluster(config.cluster, user, config.abs_file)
            auth = None if is_asked else client_adapter.user_auth(user)
        except (OSError, ValueError, ConfigError) as error:
            raise ProviderError(
                f"cannot use the credentials of context '{config.context_name}': {error}",
                hint="get the kubeconfig anew from whoever runs the cluster",
            ) from error
        if is_asked:
            credential = self._credential = ask_plugin(config, self._environ)
            if credential.certificate is not None and credential.key is not None:
                with _as_file(credential.certificate + "\n" + credential.key) as file:
                    context.load_cert_chain(file)
            if credential.token is not None:
                headers.append(("Authorization", f"Bearer {credential.token}"))
        return Client(
            base_url=config.cluster.server,
            verify=context,
            auth=auth,
            headers=headers,
            timeout=TIMEOUT_S,
            proxy=self._access.proxy,
            event_hooks={"request": [self._name_server]},
        )

    def _name_server(self, request: httpx2.Request) -> None:
        """Ask for the certificate of the name that the kubeconfig says, where that is not the address."""
        if self._access.server_name is not None:
            request.extensions = {**request.extensions, "sni_hostname": self._access.server_name}


@contextlib.contextmanager
def _as_file(text: str) -> Iterator[str]:
    """Have a text in a file that nobody else can read, for as long as the block lasts: OpenSSL reads keys from one."""
    with tempfile.NamedTemporaryFile("w", suffix=".pem") as file:
        file.write(text)
        file.flush()
        yield file.name

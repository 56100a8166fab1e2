"""What a program that a kubeconfig names says by which credentials to ask: a token, or a client's certificate.

Source: client.authentication.k8s.io/v1 and v1beta1, ExecCredential. They hold until the time that they say, or until
the cluster does not take them any more.
"""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Mapping
from dataclasses import field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from instar import process
from instar.errors import CommandFailed, ComponentMissing, ProviderError
from instar.frozen import dataclass

if TYPE_CHECKING:
    from lightkube import SingleConfig

_GROUP: Final = "client.authentication.k8s.io/"
_VERSIONS: Final = tuple(f"{_GROUP}{version}" for version in ("v1", "v1beta1", "v1alpha1"))
_EARLY: Final = timedelta(seconds=30)  # they are renewed before they are over: clocks differ
_TIMEOUT_S: Final = 60
_MOST_BYTES: Final = 1 << 20


@dataclass(frozen=True, kw_only=True, slots=True)
class Credential:
    """``until`` None: as long as the cluster takes it. Of ``token`` and ``certificate`` (PEM) one is there at least."""

    token: str | None = field(default=None, repr=False)
    certificate: str | None = None
    key: str | None = field(default=None, repr=False)
    until: datetime | None = None

    def holds(self, now: datetime) -> bool:
        return self.until is None or now < self.until - _EARLY


def ask_plugin(config: SingleConfig, environ: Mapping[str, str]) -> Credential:
    """Run the program that ``config`` names. Raises ComponentMissing where it is not on this machine, ProviderError
    where it fails, or says what is no credential."""
    user = config.user
    assert user is not None
    plugin = user.exec
    assert plugin is not None
    if plugin.apiVersion not in _VERSIONS:
        raise ProviderError(
            f"cannot ask for credentials: context '{config.context_name}' wants them by '{plugin.apiVersion}'",
            hint=f"Instar speaks {', '.join(_VERSIONS)}: get the kubeconfig anew by a newer tool of that cloud",
        )
    command = _command(config, plugin.command)
    extra = {var.name: var.value for var in plugin.env or ()}
    asked = {**environ, **extra, "KUBERNETES_EXEC_INFO": json.dumps(_request(config, plugin.apiVersion))}
    if asked.get("KUBECONFIG"):
        asked["KUBECONFIG"] = os.pathsep.join(map(os.path.abspath, asked["KUBECONFIG"].split(os.pathsep)))
    try:
        done = process.run(
            [command, *(plugin.args or ())],
            env=asked,
            timeout_s=_TIMEOUT_S,
            alone=True,
            most_bytes=_MOST_BYTES,
            cwd=process.ANYWHERE,  # with the caller's umask: it may keep tokens in files
        )
    except ComponentMissing as error:
        raise ComponentMissing(
            f"cannot ask for credentials: '{plugin.command}', which the kubeconfig names, is not on this machine",
            hint=plugin.installHint or "install it, or get a kubeconfig with a token",
        ) from error
    except CommandFailed as error:
        raise ProviderError(
            f"cannot get credentials: '{plugin.command}' failed: {error.output.strip()[-300:] or _reason(error)}",
            hint="run it by hand; it may want you to log in",
        ) from error
    return read_credential(done.stdout, plugin.apiVersion, plugin.command)


def read_credential(data: bytes, version: str, command: str) -> Credential:
    """Return what a plugin said. Raises ProviderError for what is no credential of ``version``."""
    try:
        found: Any = _json(data)
        if found["apiVersion"] != version or found["kind"] != "ExecCredential":
            raise ValueError(f"it is a {found.get('kind')} of {found.get('apiVersion')}, not an ExecCredential")
        status = found["status"]
        made = Credential(
            token=_text(status, "token"),
            certificate=_text(status, "clientCertificateData"),
            key=_text(status, "clientKeyData"),
            until=_moment(_text(status, "expirationTimestamp")),
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        cause = str(error) if isinstance(error, ValueError) else f"'{error}' is missing or no text"
        raise ProviderError(
            f"cannot use what '{command}' says as credentials: {cause[:200]}",
            hint="run it by hand, and see what it says",
        ) from error
    if (made.token is None and made.certificate is None) or (made.certificate is None) != (made.key is None):
        raise ProviderError(
            f"cannot use what '{command}' says as credentials: there is neither a token nor a certificate with its key"
        )
    return made


def _reason(error: CommandFailed) -> str:
    return error.message.partition(": ")[2] or error.message


def _json(data: bytes) -> Any:
    try:
        return json.loads(data)
    except ValueError as error:
        raise ValueError("it says nothing" if not data.strip() else "it is not JSON") from error


def _command(config: SingleConfig, word: str) -> str:
    """Return the program, as client-go finds it: a path is from the kubeconfig's folder, and a name is looked for in no
    folder of PATH that is from wherever somebody is."""
    if "/" in word and not word.startswith("/") and config.fname is not None:
        return str((config.fname.parent / word).resolve())
    if "/" in word:
        return word
    for folder in os.get_exec_path():
        if Path(folder).is_absolute() and os.access(file := Path(folder) / word, os.X_OK):
            return str(file)
    return word


def _request(config: SingleConfig, version: str) -> Mapping[str, Any]:
    """Return what the plugin is told: which cluster, and that nobody sits at a terminal."""
    cluster: dict[str, Any] = {"server": config.cluster.server}
    authority = config.cluster.certificate_auth_data
    if authority is None and config.cluster.certificate_auth is not None:
        file = Path(config.abs_file(config.cluster.certificate_auth))
        authority = base64.b64encode(file.read_bytes()).decode() if file.is_file() else None
    if authority is not None:
        cluster["certificate-authority-data"] = authority
    if config.cluster.insecure:
        cluster["insecure-skip-tls-verify"] = True
    return {"apiVersion": version, "kind": "ExecCredential", "spec": {"interactive": False, "cluster": cluster}}


def _text(status: Mapping[str, Any], name: str) -> str | None:
    found = status.get(name)
    if found is not None and not isinstance(found, str):
        raise ValueError(f"its {name} is no text")
    return found or None


def _moment(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text).astimezone(UTC)

"""Values of secrets: kept on this machine as files, and encrypted in a ledger that several share.

They are put into a shared ledger in the transaction that writes the release which they are of, and are taken from there
by whoever makes an instance of that release on another machine, by the ledger's key (``secret_key.py``).
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Mapping
from pathlib import Path

from instar import durable
from instar.errors import HostError, Refused
from instar.ledger import Ledger
from instar.ledger.secrets import SecretName
from instar.model.digest import Digest
from instar.model.environment import Environment
from instar.model.keyed import keyed_digest
from instar.model.machine import MachineSettings
from instar.model.release import EnvironmentId, Release
from instar.operations.encryption import decrypt, encrypt
from instar.operations.secret_key import require_key
from instar.operations.secret_sources import Sources
from instar.operations.secrets import find_key, keep_secrets, keep_value, look_at_secrets, secret_files
from instar.operations.workspace import Workspace

_ANEW = "deploy makes a new release with the present one"


def digests_of(workspace: Workspace, folder: Path, environment: Environment, *, service: str) -> Mapping[str, Digest]:
    """Return the digests of an environment's secrets as they are now. Nothing is kept of them."""
    if not environment.secrets:
        return {}
    require_key(workspace, make=False)
    return look_at_secrets(workspace.state, folder, environment, _sources(workspace, service))


def keep_values(workspace: Workspace, folder: Path, environment: Environment, *, service: str) -> Mapping[str, Digest]:
    """Keep them on this machine, and return their digests. The ledger gets them with the release."""
    if not environment.secrets:
        return {}
    require_key(workspace, make=True)
    return keep_secrets(workspace.state, folder, environment, _sources(workspace, service))


def _sources(workspace: Workspace, service: str) -> Sources:
    settings = workspace.machine_settings or MachineSettings()
    return Sources(
        service=service, named=settings.secrets, environ=workspace.environ, identities=settings.age.identities
    )


def encrypted_values(
    workspace: Workspace, ledger: Ledger, environment: EnvironmentId, digests: Mapping[str, Digest]
) -> Mapping[SecretName, str]:
    """Return the values that this machine has of those, as a shared ledger keeps them; none for another ledger."""
    key = find_key(workspace.state) if digests and ledger.shared else None
    if key is None:
        return {}
    return encrypted(ledger, environment, digests, key, functools.partial(_kept_value, workspace, key))


def kept_values(workspace: Workspace, key: bytes) -> Mapping[Digest, bytes]:
    """Return all values that this machine has."""
    digests = [Digest.from_hex(path.name) for path in secret_files(workspace.state)]
    return {digest: value for digest in digests if (value := _kept_value(workspace, key, digest)) is not None}


def encrypted(
    ledger: Ledger,
    environment: EnvironmentId,
    digests: Mapping[str, Digest],
    key: bytes,
    find: Callable[[Digest], bytes | None],
) -> Mapping[SecretName, str]:
    """Return the values that ``find`` finds of those, as a shared ledger keeps them."""
    secrets = [SecretName(environment, name, digest) for name, digest in digests.items()]
    values = {one: value for one in secrets if (value := find(one.digest)) is not None}
    return {one: encrypt(key, value, _bound_to(ledger, one)) for one, value in values.items()}


def require_values(workspace: Workspace, release: Release) -> None:
    """Have the values of ``release``'s secrets on this machine. Raises Refused where they cannot be had."""
    bring_values(workspace, release)
    for name, digest in release.configuration.secrets.items():
        if not workspace.state.secret(digest).exists():
            raise Refused(
                f"cannot go to release {release.number}: its secret '{name}' was removed when it was no longer needed",
                hint=f"{_ANEW}; keep.releases says how many are kept",
            )


def bring_values(workspace: Workspace, release: Release) -> None:
    """Take those values of ``release``'s secrets from the ledger that this machine lacks, and that are there.

    What a ledger lacks that was shared before it kept values, is put in. Raises Refused where they cannot be read.
    """
    digests = release.configuration.secrets
    if not digests:
        return
    state = workspace.state
    if not workspace.ledger.shared and all(state.secret(digest).exists() for digest in digests.values()):
        return  # what is damaged of them, the provider says
    key = find_key(state)
    lacking = [name for name, digest in digests.items() if key is None or _kept_value(workspace, key, digest) is None]
    for name in lacking:
        _take_from_ledger(workspace, release, SecretName(release.environment, name, digests[name]))
    if len(lacking) < len(digests) and workspace.ledger.shared:
        _complete_ledger(workspace, release)


def _take_from_ledger(workspace: Workspace, release: Release, secret: SecretName) -> None:
    text = workspace.ledger.find_secret(secret)
    if text is None:
        return
    require_key(workspace, make=False)
    key = find_key(workspace.state)
    try:
        value = decrypt(key or b"", text, _bound_to(workspace.ledger, secret))
    except ValueError as error:
        raise _unreadable(release, secret, str(error)) from error
    if key is None or keyed_digest(key, value) != secret.digest:
        raise _unreadable(release, secret, "it is not the one that the release was made with")
    try:
        keep_value(workspace.state, secret.digest, value)
    except OSError as error:
        raise HostError(f"cannot write to '{workspace.state.secrets}': {error.strerror}") from error


def _complete_ledger(workspace: Workspace, release: Release) -> None:
    digests = {
        name: digest
        for name, digest in release.configuration.secrets.items()
        if workspace.ledger.find_secret(SecretName(release.environment, name, digest)) is None
    }
    values = encrypted_values(workspace, workspace.ledger, release.environment, digests)
    if values:
        workspace.ledger.put_secrets(values)


def _unreadable(release: Release, secret: SecretName, cause: str) -> Refused:
    return Refused(
        f"cannot go to release {release.number}: the ledger's value of its secret '{secret.name}' is damaged: {cause}",
        hint=f"put the ledger back as it was, or: {_ANEW}",
    )


def _kept_value(workspace: Workspace, key: bytes, digest: Digest) -> bytes | None:
    """Return a value that this machine has; None where it has none, or it is not what it was."""
    try:
        value = durable.read(workspace.state.secret(digest))
    except OSError:
        return None
    return value if keyed_digest(key, value) == digest else None


def _bound_to(ledger: Ledger, secret: SecretName) -> bytes:
    return json.dumps([ledger.identity(), str(secret.environment), secret.name, secret.digest]).encode()

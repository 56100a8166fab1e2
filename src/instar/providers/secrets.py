"""A release's secrets as this machine keeps them: each is given to an instance only if it is the release's own."""

from __future__ import annotations

from instar import durable
from instar.errors import ProviderError
from instar.model.digest import Digest
from instar.model.keyed import keyed_digest
from instar.model.state import StateDirectory


def secret_value(state: StateDirectory, name: str, digest: Digest) -> bytes:
    """Return a secret, if it is the one that the release was made with. Raises ProviderError."""
    source, hint = state.secret(digest), "deploy makes a new release with the present one"
    try:
        content, key = durable.read(source), durable.read(state.secret_key)
    except OSError as error:
        what = "its digest cannot be checked" if error.filename == str(state.secret_key) else "it cannot be read"
        raise ProviderError(
            f"the secret '{name}' of this release is not given to an instance: {what}: {error.strerror}",
            hint=f"'{error.filename}' must be there; {hint}",
        ) from error
    if keyed_digest(key, content) != digest:
        raise ProviderError(
            f"the secret '{name}' of this release is damaged: '{source}' is not what the release was made with",
            hint=f"put it back as it was, or: {hint}",
        )
    return content

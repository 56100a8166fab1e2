"""What is attached to an image in a registry: signatures, bills of materials (store/attachments.py).

A registry lists them itself, or who pushes one keeps a list of them under the tag ``sha256-HEX``.
Source: OCI distribution-spec 1.1, "Listing Referrers", "Pushing Manifests with Subject", "Referrers Tag Schema".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from instar.errors import FetchError
from instar.model.digest import Digest
from instar.registry.client import ACCEPT, MANIFEST_LIMIT_BYTES, Client
from instar.registry.transport import whole
from instar.store.attachments import entries, list_json, listed
from instar.store.index import attachments_tag

_UNKNOWN: Final = (400, 404, 405)  # what registries answer that list none
_TRIES: Final = 5

Entry = Mapping[str, Any]


def referrers(client: Client, subject: Digest) -> tuple[Digest, ...]:
    """Return the attachments of an image. Raises SourceUnreachable, FetchError."""
    found = client.persistently(lambda: _listed(client, f"referrers/{subject}"))
    if found is None:
        found = _tagged(client, subject)
    try:
        return tuple(dict.fromkeys(Digest(str(one.get("digest"))) for one in found))
    except ValueError as error:
        raise FetchError(
            f"cannot use '{client.repository}': its list of attachments names what is no digest"
        ) from error


def put_referrers(client: Client, subject: Digest, manifests: Sequence[bytes]) -> None:
    """Attach manifests, whose parts are there, to an image that is. Raises SourceUnreachable, FetchError."""
    unlisted = [data for data in manifests if client.put_manifest(Digest.of(data), data) != subject]
    if not unlisted:
        return
    for _ in range(_TRIES):  # another one may write the list at the same time
        known = {str(one.get("digest")): one for one in _tagged(client, subject)}
        missing = [data for data in unlisted if Digest.of(data) not in known]
        if not missing:
            return
        client.put_manifest(attachments_tag(subject), list_json([*known.values(), *map(listed, missing)]))
    raise FetchError(f"cannot use '{client.repository}': its list of attachments is never what was written")


def _tagged(client: Client, subject: Digest) -> tuple[Entry, ...]:
    return client.persistently(lambda: _listed(client, f"manifests/{attachments_tag(subject)}")) or ()


def _listed(client: Client, path: str) -> tuple[Entry, ...] | None:
    """Return what a list says; None where there is none."""
    with client.asking("GET", path, headers=ACCEPT, ok=(200, *_UNKNOWN)) as response:
        if response.status != 200:
            return None
        data = whole(response, client.repository.host, client.patience, MANIFEST_LIMIT_BYTES)
    try:
        return entries(data)
    except ValueError as error:
        raise FetchError(f"cannot use '{client.repository}': its list of attachments is none") from error

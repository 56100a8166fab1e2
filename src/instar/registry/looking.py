"""What image a name in a registry stands for on this machine: its manifest and its configuration, no layer of it."""

from __future__ import annotations

from instar.errors import FetchError, HashMismatch
from instar.frozen import dataclass
from instar.model.digest import Digest
from instar.registry.client import Client
from instar.store.manifest import Descriptor, descriptors
from instar.store.platforms import is_index, own


@dataclass(frozen=True, kw_only=True, slots=True)
class Looked:
    """A manifest and a configuration, to the byte; ``index`` is the list of platforms that the manifest is of."""

    manifest: bytes
    config: bytes
    index: Digest | None


def look(client: Client, wanted: Digest | str, architecture: str) -> Looked:
    """Ask for the image of a digest or a tag; of several platforms, the one of ``architecture``.

    Raises ImageNotFound, HashMismatch, SourceUnreachable, Cancelled; FetchError for what is no image that runs here.
    """
    data = client.manifest(wanted) if isinstance(wanted, Digest) else client.tagged(wanted)
    index = None
    shown = f"{client.repository}{'@' if isinstance(wanted, Digest) else ':'}{wanted}"
    try:
        if is_index(data):
            index = Digest.of(data)
            data = client.manifest(own(data, f"linux/{architecture}").digest)
        config, *_ = descriptors(data)
    except ValueError as error:
        raise FetchError(f"cannot use '{shown}': {error}") from error
    return Looked(manifest=data, config=client.persistently(lambda: _blob(client, config)), index=index)


def _blob(client: Client, one: Descriptor) -> bytes:
    with client.blob(one.digest, one.size_bytes, 0) as (_, chunks):
        data, left = bytearray(), one.size_bytes
        for chunk in chunks:
            left -= len(chunk)
            if left < 0:
                break
            data += chunk
    if Digest.of(bytes(data)) != one.digest:
        raise HashMismatch(f"cannot pull '{one.digest.short}' of '{client.repository}': other bytes came")
    return bytes(data)

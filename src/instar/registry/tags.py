"""The tags of a repository: which there are, what each names, and how one is taken away.

Source: OCI distribution-spec 1.1, "Listing Tags", "Deleting tags", "Deleting Manifests". Many registries delete no tag,
but a manifest with all its tags, and some nothing at all unless told so by whoever runs them.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from typing import Final

from instar.errors import FetchError, ImageNotFound, SourceUnreachable
from instar.model.codec import parse
from instar.model.digest import Digest
from instar.registry.client import ACCEPT, DIGEST_HEADER, Client
from instar.registry.transport import whole
from instar.store.manifest import INDEX_TYPES
from instar.store.platforms import is_index

_PAGE: Final = 1_000
_PAGES_LIMIT: Final = 200
_PAGE_LIMIT_BYTES: Final = 4 << 20
_NEXT: Final = re.compile(r'<([^<>]{1,4000})>\s*;\s*rel="?next"?')
_DEEPEST: Final = 4  # indexes of indexes
_NO_TAGS_ARE_DELETED: Final = (400, 405)


class Undeletable(Exception):
    """A tag stays; what it says is why. Never leaves this room's callers."""


class Tags:
    """Those of ``client``'s repository."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._deletes_tags = True
        self._indexes: dict[Digest, frozenset[Digest]] = {}

    def names(self) -> tuple[str, ...]:
        """Return all tags, in the registry's order; none of a repository that is not there. Raises FetchError."""
        found: dict[str, None] = {}
        path = f"tags/list?n={_PAGE}"
        for _ in range(_PAGES_LIMIT):
            tags, following = self._client.persistently(lambda at=path: self._page(at))  # type: ignore[misc]
            new = [one for one in tags if one not in found]
            found.update(dict.fromkeys(new))
            if following is None or not new:
                return tuple(found)
            path = following
        raise FetchError(f"cannot list the tags of '{self._client.repository}': there is no end of them")

    def _page(self, path: str) -> tuple[list[str], str | None]:
        repository = self._client.repository
        with self._client.asking("GET", path) as response:
            if response.status == 404:
                return [], None
            data = whole(response, repository.host, self._client.patience, _PAGE_LIMIT_BYTES)
            following = _NEXT.search(response.headers.get("Link", ""))
        try:
            tags = parse(data)["tags"] or []
        except (ValueError, KeyError, TypeError) as error:
            raise FetchError(f"cannot list the tags of '{repository}': what it answers is no list") from error
        if not isinstance(tags, list) or not all(isinstance(one, str) for one in tags):
            raise FetchError(f"cannot list the tags of '{repository}': what it answers is no list")
        _, query, words = following[1].partition("?") if following else ("", "", "")
        return tags, f"tags/list?{words}" if query else None

    def has(self, digest: Digest) -> bool:
        """Ask whether an image is there."""
        return self._client.has_manifest(digest)

    def put(self, tag: str, digest: Digest) -> None:
        """Give an image that is there a tag. Raises ImageNotFound, SourceUnreachable, FetchError."""
        self._client.put_manifest(tag, self._client.manifest(digest))

    def find_digest(self, tag: str) -> Digest | None:
        """Return what a tag names; None where it names nothing any more, or the registry does not say."""
        return self._client.persistently(lambda: self._digest(tag))

    def _digest(self, tag: str) -> Digest | None:
        with self._client.asking("HEAD", f"manifests/{tag}", headers=ACCEPT) as response:
            try:
                return Digest(response.headers.get(DIGEST_HEADER, "")) if response.status == 200 else None
            except ValueError:
                return None

    def remove(self, tag: str, digest: Digest, ours: Collection[str]) -> None:
        """Take a tag away; where the registry deletes no tags, the manifest ``digest`` with all its tags, if these are
        ``ours`` and no index that has another one stands on it.

        Raises Undeletable where it stays, FetchError, SourceUnreachable.
        """
        if self._deletes_tags:
            self._deletes_tags = self._client.persistently(lambda: self._deleted(tag))
            if self._deletes_tags:
                return
        self._require_alone(digest, ours)
        if not self._client.persistently(lambda: self._deleted(digest)):
            raise FetchError(
                f"cannot remove '{tag}' from '{self._client.repository}': the registry deletes nothing",
                hint="who runs it may allow it (of docker-registry: storage.delete.enabled)",
            )

    def _require_alone(self, digest: Digest, ours: Collection[str]) -> None:
        """Raise Undeletable where another tag is, or may be, on a manifest or on an index that stands on it."""
        tagged = {name: self.find_digest(name) for name in self.names() if name not in ours}
        others = [name for name, named in tagged.items() if named == digest]
        if others:
            raise Undeletable(f"the registry deletes no single tag, and the image is also called {_some(others)}")
        whole = [name for name, named in tagged.items() if named is not None and digest in self._below(named)]
        if whole:
            raise Undeletable(f"the registry deletes no single tag, and the image is a part of {_some(whole)}")
        unsaid = [name for name, named in tagged.items() if named is None]
        if unsaid:
            raise Undeletable(f"the registry deletes no single tag, and the image may be what '{unsaid[0]:.80}' names")

    def _below(self, digest: Digest, depth: int = 0) -> frozenset[Digest]:
        """Return what an index stands on, nothing of what is none. Raises SourceUnreachable, FetchError."""
        if digest not in self._indexes:
            try:
                data = self._client.manifest(digest)
                entries = parse(data)["manifests"] if is_index(data) and depth < _DEEPEST else []
                found = {Digest(str(one["digest"])): one.get("mediaType") for one in entries}
            except SourceUnreachable:
                raise
            except (FetchError, ImageNotFound, ValueError, KeyError, TypeError, AttributeError):  # what nobody can pull
                found = {}
            inner = (self._below(one, depth + 1) for one, kind in found.items() if kind in INDEX_TYPES)
            self._indexes[digest] = frozenset(found).union(*inner)
        return self._indexes[digest]

    def _deleted(self, name: str) -> bool:
        """Ask for a deletion; tell whether such are made. What is not there is deleted."""
        with self._client.asking(
            "DELETE", f"manifests/{name}", ok=(200, 202, 204, 404, *_NO_TAGS_ARE_DELETED)
        ) as found:
            return found.status not in _NO_TAGS_ARE_DELETED


def _some(names: Sequence[str]) -> str:
    return ", ".join(sorted(names)[:3])

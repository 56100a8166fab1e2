"""The store → a registry: the blobs of an image that it has not got, several at once, and the manifest last.

The manifest goes to the byte: the digest is the same everywhere. What the registry has is asked first, so that a push
which was cut off or killed goes on with what is missing; of a large blob, where the registry says how far it came.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Final

from instar.cancellation import Cancellation
from instar.errors import FetchError, PartsUnknown, SourceUnreachable
from instar.model.digest import Digest
from instar.model.progress import Report
from instar.model.transfer import Transfer
from instar.registry.client import Client, leave
from instar.registry.referrers import put_referrers
from instar.registry.workers import Meter, Workers
from instar.store import Store, attachments, platforms
from instar.store.manifest import Descriptor, descriptors

CHUNK_BYTES: Final = 32 << 20  # what is sent in one request; a blob of no more is sent whole
_PIECE_BYTES: Final = 1 << 18
_CAME: Final = re.compile(r"(?:bytes=)?0-(\d{1,18})")


class Push:
    """One push of a stored image to the repository of ``target``, where it gets ``tags`` besides its digest."""

    def __init__(
        self,
        digest: Digest,
        target: Client,
        store: Store,
        cancellation: Cancellation,
        report: Report,
        *,
        tags: Sequence[str] = (),
        chunk_bytes: int = CHUNK_BYTES,
    ) -> None:
        self._digest = digest
        self._target = target
        self._store = store
        self._cancellation = cancellation
        self._report = report
        self._tags = tuple(tags)
        self._chunk_bytes = chunk_bytes
        self._below: dict[Digest, bytes] = {}  # the manifests of an index
        self._meter = Meter(0)

    def run(self) -> Transfer:
        """Returning means that the registry has said that it has all of the image.

        Raises BlobDamaged, SourceUnreachable, FetchError, Cancelled.
        """
        began = time.monotonic()
        data = self._store.manifest(self._digest)
        try:
            parts = self._parts(data)
        except ValueError as error:
            raise FetchError(f"cannot push '{self._digest.short}': {error}") from error
        self._meter = Meter(sum(one.size_bytes for one in parts))
        self._deliver(parts, lambda: self._enter(data))
        done, attached = self._meter, self._attach()
        return Transfer(
            repository=self._target.repository,
            digest=self._digest,
            blobs=len(parts),
            size_bytes=done.total_bytes,
            moved=done.moved,
            moved_bytes=done.moved_bytes,
            seconds=time.monotonic() - began,
            tags=self._tags,
            attachments=attached,
        )

    def _attach(self) -> int:
        """Bring what is attached to the image; return how much."""
        manifests = self._store.attachments(self._digest)
        if not manifests:
            return 0
        pieces = {one.digest: one for data in manifests for one in attachments.parts(data, self._digest)}
        self._meter = Meter(sum(one.size_bytes for one in pieces.values()))
        self._deliver(pieces.values(), lambda: put_referrers(self._target, self._digest, manifests))
        return len(manifests)

    def _deliver(self, parts: Collection[Descriptor], enter: Callable[[], None]) -> None:
        """Have the parts in the registry, and then what names them; anew where it does not know a part by then: one
        that another push was bringing at that moment is half there, one that nothing named may have been removed."""
        largest_first = sorted(parts, key=lambda one: -one.size_bytes)
        tries = self._target.tries()
        while True:
            Workers(self._bring, largest_first, self._meter).run(self._cancellation, self._show)
            try:
                return enter()
            except PartsUnknown as error:
                tries.after(_lost(error))
                self._meter.begin_anew()

    def _parts(self, data: bytes) -> Collection[Descriptor]:
        """Return what an image points at; of an index, what its manifests do. Raises ValueError, FetchError where not
        all of them are here."""
        if not platforms.is_index(data):
            return descriptors(data)
        found: dict[Digest, Descriptor] = {}
        for one in platforms.platforms(data):
            if not self._store.holds_blob(one.digest, one.size_bytes):
                raise FetchError(
                    f"cannot push '{self._digest.short}': the part of it for {one.name} is not here",
                    hint="pull it for every platform from where it is: instar pull --all-platforms NAME@DIGEST",
                )
            below = self._store.manifest(one.digest)
            found.update({part.digest: part for part in platforms.parts(one, below)})
            self._below[one.digest] = below
        return found.values()

    def _show(self) -> None:
        self._report(self._meter.progress("push"))

    def _enter(self, data: bytes) -> None:
        """Give the registry the manifest, under its digest and as its tags, after those that it names. What is there
        is asked afterwards."""
        for digest, below in self._below.items():
            self._target.put_manifest(digest, below)
        for name in (self._digest, *self._tags):
            self._target.put_manifest(name, data)
        if not self._target.has_manifest(self._digest, len(data)):
            raise FetchError(
                f"cannot push to '{self._target.repository}': it took the manifest, and does not have it under its "
                f"digest {self._digest}"
            )

    def _bring(self, one: Descriptor) -> None:
        """Have one blob in the registry."""
        if self._target.has_blob(one.digest, one.size_bytes):
            self._meter.add(one.size_bytes, moved=False)
            return
        self._store.verify(one.digest)
        tries = self._target.tries()
        while True:
            upload = _Upload(one, self._target, self._store, self._meter, self._chunk_bytes)
            try:
                upload.run()
                break
            except SourceUnreachable as error:
                self._meter.add(-upload.sent_bytes, moved=False)
                tries.after(error)
                if self._target.has_blob(one.digest, one.size_bytes):  # only the answer was lost
                    self._meter.add(one.size_bytes, moved=False)
                    break
        self._meter.count()


def _lost(error: PartsUnknown) -> PartsUnknown:
    """Say what it means that a registry does not know a part, after all parts are there by its own word."""
    return PartsUnknown(
        f"{error.message}: it does not know a part that it has taken, or said that it has",
        hint="ask whoever runs it, since parts may be lost there, or removed and remembered; or push elsewhere",
    )


class _Upload:
    """One upload of a blob, which a registry knows by an address that each of its answers tells anew.

    Source: OCI distribution-spec 1.1, "Pushing blobs".
    """

    def __init__(self, one: Descriptor, target: Client, store: Store, meter: Meter, chunk_bytes: int) -> None:
        self._one = one
        self._target = target
        self._store = store
        self._meter = meter
        self._chunk_bytes = chunk_bytes
        self._url = ""
        self.sent_bytes = 0

    def run(self) -> None:
        """Raises SourceUnreachable, after which it is begun anew; FetchError."""
        self._begin()
        if self._one.size_bytes > self._chunk_bytes:
            self._send_chunks()
            self._close(self._one.size_bytes)
        else:
            self._close(0)

    def _begin(self) -> None:
        with self._target.asking("POST", "blobs/uploads/", body=b"", ok=(202,)) as response:
            least = response.headers.get("OCI-Chunk-Min-Length", "")
            if re.fullmatch(r"[0-9]{1,18}", least):
                self._chunk_bytes = max(self._chunk_bytes, int(least))
            asked = f"{self._target.root}/v2/{self._target.repository.path}/blobs/uploads/"
            self._url = self._target.resolved(asked, response.headers.get("Location", ""))

    def _send_chunks(self) -> None:
        size_bytes, tries, offset = self._one.size_bytes, self._target.tries(), 0
        while offset < size_bytes:
            end = min(offset + self._chunk_bytes, size_bytes)
            try:
                self._send("PATCH", self._url, offset, end, (202, 204))
                offset = end
            except SourceUnreachable as error:
                tries.after(error)
                came = self._came(end)
                tries.came(came - offset)
                offset = came

    def _came(self, at_most: int) -> int:
        """Return how much the registry has of it. Raises SourceUnreachable where it does not know the upload."""
        response = self._target.once("GET", self._url, headers={})
        response.close()
        found = _CAME.fullmatch(response.headers.get("Range", ""))
        if response.status != 204 or not found or int(found[1]) >= at_most:
            raise SourceUnreachable(
                f"cannot push to '{self._target.repository}': the upload that broke off is not known"
            )
        self._url = self._target.resolved(self._url, response.headers.get("Location", self._url))
        return int(found[1]) + 1 if int(found[1]) else 0  # "0-0" is said of nothing

    def _close(self, start: int) -> None:
        url = f"{self._url}{'&' if '?' in self._url else '?'}digest={self._one.digest}"
        self._send("PUT", url, start, self._one.size_bytes, (201,))

    def _send(self, method: str, url: str, start: int, end: int, ok: tuple[int, ...]) -> None:
        """Send the bytes of the blob from ``start`` to ``end``, and take the address that is told for what is next."""
        headers = {"Content-Type": "application/octet-stream", "Content-Length": str(end - start)}
        if method == "PATCH":
            headers["Content-Range"] = f"{start}-{end - 1}"
        body = (lambda: self._pieces(start, end)) if end > start else (lambda: b"")
        response = self._target.once(method, url, headers=headers, body=body)
        try:
            if response.status in (404, 416):  # it does not know the upload any more
                raise SourceUnreachable(f"cannot push to '{self._target.repository}': it answers {response.status}")
            if response.status not in ok:
                raise self._target.refusal(response)
            if method == "PATCH":
                self._url = self._target.resolved(url, response.headers.get("Location", url))
        finally:
            leave(response)

    def _pieces(self, offset: int, end: int) -> Iterator[bytes]:
        """Yield what is sent; asked for anew, after a registry wanted to know who sends it, it is not counted twice."""
        self._meter.add(offset - self.sent_bytes, moved=False)
        self.sent_bytes = offset
        descriptor = os.open(self._store.path(self._one.digest), os.O_RDONLY | os.O_CLOEXEC)
        try:
            while offset < end and (piece := os.pread(descriptor, min(_PIECE_BYTES, end - offset), offset)):
                yield piece
                offset += len(piece)
                self.sent_bytes += len(piece)
                self._meter.add(len(piece))
        finally:
            os.close(descriptor)

"""A registry → the store: the blobs of an image that are not there, several at once, and the image last.

What comes is hashed on its way into a part (``store/parts.py``), which a later attempt goes on with; it becomes a blob
when all of it is there and has the digest. Killed at any moment, a pull leaves parts and blobs that nobody names.

Mirrors are asked first. One that has not got what is wanted, or has other bytes, is not asked again.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Sequence
from typing import TypeVar

from instar.cancellation import Cancellation
from instar.errors import FetchError, HashMismatch, ImageNotFound, InstarError, SourceUnreachable, StoreError
from instar.model.digest import Digest
from instar.model.progress import Progress, Report
from instar.model.reference import Reference
from instar.model.transfer import Transfer
from instar.registry.client import Client
from instar.registry.referrers import referrers
from instar.registry.workers import Meter, Workers
from instar.store import Store, attachments, platforms
from instar.store.manifest import Descriptor, descriptors
from instar.store.parts import Part

R = TypeVar("R")
_ANOTHERS_PART_S = 0.2


class Pull:
    """One pull of the image ``what`` from the first of ``sources`` that has it; the last is the registry itself.

    Of an image for several platforms comes what is for this machine's, or for ``every_platform``.
    """

    def __init__(
        self,
        what: Reference,
        sources: Sequence[Client],
        store: Store,
        cancellation: Cancellation,
        report: Report,
        *,
        every_platform: bool = False,
    ) -> None:
        self._what = what
        self._sources = list(sources)
        self._store = store
        self._cancellation = cancellation
        self._report = report
        self._every_platform = every_platform
        self._below: list[bytes] = []  # the manifests of an index
        self._meter = Meter(0)
        self._guard = threading.Lock()

    def run(self) -> Transfer:
        """Have the image in the store at the end, whatever of it was there before.

        Raises ImageNotFound, HashMismatch, SourceUnreachable, FetchError, StoreError, Cancelled.
        """
        began = time.monotonic()
        data = self._manifest(self._what.digest)
        try:
            parts = self._parts(data)
        except ValueError as error:
            raise FetchError(f"cannot pull '{self._what}': {error}") from error
        self._store.require_room(parts, f"pull '{self._what}'")
        self._meter = Meter(sum(one.size_bytes for one in parts))
        largest_first = sorted(parts, key=lambda one: -one.size_bytes)
        Workers(self._fetch, largest_first, self._meter).run(self._cancellation, self._show)
        self._enter(data)
        done, attached = self._meter, self._attach()
        return Transfer(
            repository=self._what.repository,
            digest=self._what.digest,
            blobs=len(parts),
            size_bytes=done.total_bytes,
            moved=done.moved,
            moved_bytes=done.moved_bytes,
            seconds=time.monotonic() - began,
            attachments=attached,
        )

    def _attach(self) -> int:
        """Bring what is attached to the image; return how much. What cannot be had of it is told, and left out."""
        subject, whole = self._what.digest, list[bytes]()
        try:
            for digest in self._from_any(lambda source: referrers(source, subject)):
                data = self._from_any(lambda source, which=digest: source.manifest(which))  # type: ignore[misc]
                pieces = attachments.parts(data, subject)
                self._store.require_room(pieces, f"pull '{digest.short}'")
                self._meter = Meter(sum(one.size_bytes for one in pieces))
                Workers(self._fetch, pieces, self._meter).run(self._cancellation, self._show)
                whole.append(data)
        except (FetchError, StoreError, ValueError) as error:
            text = f"not all that is attached to the image is here: {getattr(error, 'message', error)}"
            self._report(Progress(stage="note", text=text, kind="warning"))
        self._store.attach(subject, whole)
        return len(whole)

    def _manifest(self, digest: Digest) -> bytes:
        return self._from_any(lambda source: source.manifest(digest))

    def _parts(self, data: bytes) -> Collection[Descriptor]:
        """Return what an image points at; of an index, what its manifests do that are wanted. Raises ValueError."""
        if not platforms.is_index(data):
            return descriptors(data)
        own = platforms.own(data, self._store.platform)
        found: dict[Digest, Descriptor] = {}
        for one in platforms.platforms(data) if self._every_platform else (own,):
            below = self._manifest(one.digest)
            found.update({part.digest: part for part in platforms.parts(one, below)})
            self._below.append(below)
        return found.values()

    def _enter(self, data: bytes) -> None:
        for below in self._below:
            self._store.add_blob([below])
        try:
            self._store.add_manifest(data)
        except ValueError as error:
            raise FetchError(f"cannot pull '{self._what}': {error}") from error

    def _show(self) -> None:
        self._report(self._meter.progress("pull"))

    def _from_any(self, ask: Callable[[Client], R]) -> R:
        """Return what the first source answers that has an answer."""
        while True:
            source, *others = self._sources
            try:
                return ask(source)
            except (FetchError, ImageNotFound) as error:
                if not others:
                    raise
                self._give_up(source, error)

    def _give_up(self, source: Client, error: InstarError) -> None:
        with self._guard:
            if source not in self._sources:
                return
            self._sources.remove(source)
            text = f"the mirror '{source.repository}' is of no use: {error.message}"
            self._report(Progress(stage="note", text=text, kind="warning"))

    def _fetch(self, one: Descriptor) -> None:
        """Have one blob in the store: nobody is asked for one that is there with its own bytes."""
        if self._store.holds_sound(one.digest, one.size_bytes):
            self._meter.add(one.size_bytes, moved=False)
            return
        while True:
            with self._store.part(one.digest, one.size_bytes) as part:
                if self._store.holds_blob(one.digest, one.size_bytes):  # another pull was quicker
                    if part is not None:
                        part.drop()
                    self._meter.add(one.size_bytes, moved=False)
                    return
                if part is not None:
                    self._meter.add(part.have_bytes, moved=False)
                    self._fill(one, part)
                    return
            self._cancellation.pause(_ANOTHERS_PART_S)
            self._meter.add(0)

    def _fill(self, one: Descriptor, part: Part) -> None:
        try:
            self._from_any(lambda source: _Filling(source, one, part, self._meter).run())
        except InstarError:
            if not part.have_bytes:
                part.drop()
            raise
        self._meter.count()


class _Filling:
    """Adds to a part until it is the blob that it is a part of."""

    def __init__(self, source: Client, one: Descriptor, part: Part, meter: Meter) -> None:
        self._source = source
        self._one = one
        self._part = part
        self._meter = meter

    def run(self) -> None:
        """Raises HashMismatch when the bytes are others, and were not put together of what came at several times, or
        were read anew since."""
        part, tries, joined, again = self._part, self._source.tries(), self._part.have_bytes > 0, False
        while not part.store():
            before = part.have_bytes
            try:
                self._go_on()
            except SourceUnreachable as error:
                tries.came(part.have_bytes - before)
                tries.after(error)
                joined = part.have_bytes > 0
            except HashMismatch:
                self._restart()
                if again or not joined:
                    raise
                joined, again = False, True

    def _go_on(self) -> None:
        part, size_bytes = self._part, self._one.size_bytes
        if part.have_bytes == size_bytes:
            raise self._mismatch(f"{part.found()} came")
        with self._source.blob(self._one.digest, size_bytes, part.have_bytes) as (start, chunks):
            if start != part.have_bytes:
                self._restart()
            for chunk in chunks:
                if part.have_bytes + len(chunk) > size_bytes:
                    raise self._mismatch(f"it is more than {size_bytes:,} bytes")
                part.write(chunk)
                self._meter.add(len(chunk))
        if part.have_bytes < size_bytes:
            raise SourceUnreachable(
                f"cannot pull '{self._one.digest.short}' of '{self._source.repository}': it broke off after "
                f"{part.have_bytes:,} of {size_bytes:,} bytes"
            )

    def _mismatch(self, cause: str) -> HashMismatch:
        return HashMismatch(f"cannot pull '{self._one.digest.short}' of '{self._source.repository}': {cause}")

    def _restart(self) -> None:
        self._meter.add(-self._part.have_bytes, moved=False)
        self._part.restart()

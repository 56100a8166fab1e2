"""What a registry may get wrong, by chance or on purpose: a clear error, and nothing half-made in the store."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from registry_kit import HASTY, Door, at, of_blobs, parts, small_disk

from instar.errors import Cancelled, FetchError, HashMismatch, ImageNotFound, SourceUnreachable, StoreError
from instar.model.digest import Digest
from instar.model.image import Image
from instar.model.machine import RegistrySettings
from instar.store import Store
from instar.store.manifest import INDEX_TYPE
from lying_registry import Handler, LyingRegistry, digest_of, serving

pytestmark = pytest.mark.root


def of_manifests(lie: Callable[[Handler, str, bytes], None]) -> Callable[[Handler], bool]:
    def told(handler: Handler) -> bool:
        digest = handler.path.rpartition("/")[2]
        if handler.command != "GET" or "/manifests/" not in handler.path:
            return False
        lie(handler, digest, handler.registry.manifests.get(digest, b""))
        return True

    return told


def flipped(data: bytes, at: int = 1_000) -> bytes:
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def endless(handler: Handler, data: bytes) -> None:
    handler.send_response(200)
    handler.send_header("Transfer-Encoding", "chunked")
    handler.end_headers()
    for _ in range(2_000):
        handler.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")


def of_length(text: str) -> Callable[[Handler], bool]:
    def told(handler: Handler, digest: str, data: bytes) -> None:
        handler.reply(200, flipped(data), Content_Length=text)
        handler.close_connection = True

    return of_blobs(told)


def require_nothing(store: Store) -> None:
    """Of an image that could not be pulled there is at most what is whole, and the part that is gone on with."""
    assert store.digests() == ()
    for path in (store.root / "blobs/sha256").iterdir():
        store.verify(Digest.from_hex(path.name))


LIES = {
    "other bytes of a blob": of_blobs(lambda handler, digest, data: handler.reply(200, flipped(data))),
    "a shorter blob": of_blobs(lambda handler, digest, data: handler.reply(200, data[:-1])),
    "a longer blob": of_blobs(lambda handler, digest, data: handler.reply(200, data + b"x")),
    "a blob without an end": of_blobs(lambda handler, digest, data: endless(handler, data[: 1 << 16])),
    "a length that is no number": of_length("\u00b2"),
    "a length of thousands of digits": of_length("9" * 5_000),
    "another blob's digest": of_blobs(
        lambda handler, digest, data: handler.reply(200, data, Docker_Content_Digest=digest_of(b"other"))
    ),
    "other bytes of a manifest": of_manifests(
        lambda handler, digest, data: handler.reply(200, data.replace(b"layers", b"layer5"))
    ),
    "a manifest that is not JSON": of_manifests(lambda handler, digest, data: handler.reply(200, b"<html>")),
    "a manifest without an end": of_manifests(lambda handler, digest, data: endless(handler, bytes(1 << 16))),
    "a manifest of another type": of_manifests(
        lambda handler, digest, data: handler.reply(200, data, Content_Type=INDEX_TYPE)
    ),
    "a manifest of no type": of_manifests(lambda handler, digest, data: handler.reply(200, data, Content_Type="")),
}


@pytest.mark.parametrize("name", LIES)
def test_a_lie_is_a_permanent_error(name: str, registry: LyingRegistry, other: Store, image: Image) -> None:
    registry.lie = LIES[name]
    with pytest.raises(FetchError) as caught:
        Door().registries.pull(other, at(registry.host, image))
    assert caught.value.retry_after_s is None
    assert registry.host in caught.value.message
    require_nothing(other)
    assert image.layers[1].digest.hex not in parts(other)

    registry.lie = lambda handler: False
    Door().registries.pull(other, at(registry.host, image))
    assert other.image(image.digest) == image and not parts(other)


@pytest.mark.parametrize("name", LIES)
def test_a_mirror_that_lies_is_passed_over(name: str, registry: LyingRegistry, other: Store, image: Image) -> None:
    with serving(LyingRegistry()) as mirror:
        mirror.blobs, mirror.manifests, mirror.lie = registry.blobs, registry.manifests, LIES[name]
        door = Door({registry.host: RegistrySettings(mirrors=(mirror.host,))})
        door.registries.pull(other, at(registry.host, image))
    assert other.image(image.digest) == image and not parts(other)
    assert len(door.warnings()) == 1 and mirror.host in door.warnings()[0]


def test_a_mirror_is_asked_for_what_its_registry_cannot_tell(registry: LyingRegistry, image: Image) -> None:
    with serving(LyingRegistry()) as past:
        host = past.host
    what = at(host, image)
    settings = {host: RegistrySettings(mirrors=(registry.host,))}
    assert Door(settings, patience=HASTY).registries.has(what)
    away = {registry.host: RegistrySettings(mirrors=(host,))}
    assert Door(away, patience=HASTY).registries.has(at(registry.host, image))
    with pytest.raises(SourceUnreachable):
        Door(patience=HASTY).registries.has(what)


def manifest_of(registry: LyingRegistry, image: Image, **changed: object) -> Digest:
    """Have another manifest in the registry; return its digest."""
    data = json.dumps({**json.loads(registry.manifests[image.digest]), **changed}).encode()
    registry.manifests[digest_of(data)] = data
    return Digest(digest_of(data))


def layers(registry: LyingRegistry, image: Image, **changed: object) -> list[dict[str, object]]:
    first, *rest = json.loads(registry.manifests[image.digest])["layers"]
    return [{**first, **changed}, *rest]


MANIFESTS: dict[str, Callable[[LyingRegistry, Image], dict[str, object]]] = {
    "no layers": lambda registry, image: {"layers": []},
    "layers that are none": lambda registry, image: {"layers": "all"},
    "a layer without a digest": lambda registry, image: {"layers": [{"size": 1, "mediaType": "x"}]},
    "a layer of another kind of digest": lambda registry, image: {"layers": layers(registry, image, digest="md5:1")},
    "a layer of a negative size": lambda registry, image: {"layers": layers(registry, image, size=-1)},
    "a layer of an endless size": lambda registry, image: {"layers": layers(registry, image, size=1 << 60)},
    "a layer of an unknown type": lambda registry, image: {"layers": layers(registry, image, mediaType="text/html")},
    "fewer layers than the configuration": lambda registry, image: {"layers": layers(registry, image)[:1]},
    "a huge configuration": lambda registry, image: {
        "config": {**json.loads(registry.manifests[image.digest])["config"], "size": 1 << 30}
    },
    "schema 1": lambda registry, image: {"schemaVersion": 1},
}


@pytest.mark.parametrize("name", MANIFESTS)
def test_a_manifest_that_is_no_images(name: str, registry: LyingRegistry, other: Store, image: Image) -> None:
    digest = manifest_of(registry, image, **MANIFESTS[name](registry, image))
    with pytest.raises(FetchError) as caught:
        Door().registries.pull(other, at(registry.host, digest))
    assert caught.value.retry_after_s is None and str(digest) in caught.value.message
    require_nothing(other)


def test_bytes_that_change_between_two_requests(registry: LyingRegistry, other: Store, image: Image) -> None:
    """The half that came is not the half of what comes later: all of it is read anew, once."""
    seen = 0

    def changing(handler: Handler, digest: str, data: bytes) -> None:
        nonlocal seen
        seen += 1
        if seen == 1:
            handler.wfile.write(handler.begin_blob(flipped(data))[: 1 << 20])
            handler.cut()
        else:
            handler.wfile.write(handler.begin_blob(data))

    registry.lie = of_blobs(changing)
    Door().registries.pull(other, at(registry.host, image))
    assert other.image(image.digest) == image and seen == 3
    for layer in image.layers:
        other.verify(layer.digest)


def test_a_connection_that_is_cut_again_and_again(registry: LyingRegistry, other: Store, image: Image) -> None:
    starts = []

    def cutting(handler: Handler, digest: str, data: bytes) -> None:
        starts.append(handler.span().start)
        handler.wfile.write(handler.begin_blob(data)[:300_000])
        handler.cut()

    registry.lie = of_blobs(cutting)
    Door().registries.pull(other, at(registry.host, image))
    assert other.image(image.digest) == image
    assert len(starts) > 8 and starts == sorted(set(starts))  # each went on, more often than one tries in vain


def test_a_registry_that_gives_no_parts(registry: LyingRegistry, other: Store, image: Image) -> None:
    cut = []

    def all_or_nothing(handler: Handler, digest: str, data: bytes) -> None:
        cut.append(handler.span().start)
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(data)))
        handler.end_headers()
        handler.wfile.write(data if len(cut) > 1 else data[: 1 << 20])
        if len(cut) == 1:
            handler.cut()

    registry.lie = of_blobs(all_or_nothing)
    Door().registries.pull(other, at(registry.host, image))
    assert other.image(image.digest) == image and len(cut) == 2 and cut[1] > 0


def test_parts_that_are_others_than_were_asked_for(registry: LyingRegistry, other: Store, image: Image) -> None:
    def wrong(handler: Handler, digest: str, data: bytes) -> None:
        if handler.span().partial:
            handler.reply(206, data[5:], Content_Range=f"bytes 5-{len(data) - 1}/{len(data)}")
        else:
            handler.wfile.write(handler.begin_blob(data)[: 1 << 20])
            handler.cut()

    registry.lie = of_blobs(wrong)
    with pytest.raises(HashMismatch):
        Door().registries.pull(other, at(registry.host, image))
    require_nothing(other)
    assert image.layers[1].digest.hex not in parts(other)


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_a_registry_that_says_not_now(status: int, registry: LyingRegistry, other: Store, image: Image) -> None:
    left = [2]

    def busy(handler: Handler) -> bool:
        if left[0] == 0:
            return False
        left[0] -= 1
        handler.reply(status, b"{}", Retry_After=0)
        return True

    registry.lie = busy
    Door().registries.pull(other, at(registry.host, image))
    assert other.image(image.digest) == image

    registry.lie = lambda handler: handler.reply(status, b"") is None
    with pytest.raises(SourceUnreachable) as caught:
        Door().registries.pull(Store(other.root.with_name("third")), at(registry.host, image))
    assert caught.value.retry_after_s is not None and str(status) in caught.value.message


def test_a_registry_that_wants_to_be_left_alone_is(registry: LyingRegistry, other: Store, image: Image) -> None:
    registry.lie = lambda handler: handler.reply(429, b"", Retry_After=3_600) is None
    with pytest.raises(SourceUnreachable) as caught:
        Door().registries.pull(other, at(registry.host, image))
    assert caught.value.retry_after_s == 3_600 and len(registry.asked) == 1
    assert (caught.value.hint or "").startswith("try again in 3,600 s")


@pytest.mark.parametrize("status", [400, 401, 403, 404, 418])
def test_a_registry_that_says_no(status: int, registry: LyingRegistry, other: Store, image: Image) -> None:
    body = b'{"errors": [{"code": "DENIED", "message": "tell-nobody"}]}'
    registry.lie = lambda handler: handler.reply(status, body) is None
    for work in (
        lambda: Door().registries.pull(other, at(registry.host, image)),
        lambda: Door().registries.push(
            Store(other.root.with_name("store")), image.digest, at(registry.host, image).repository
        ),
    ):
        with pytest.raises((FetchError, ImageNotFound)) as caught:
            work()
        assert caught.value.retry_after_s is None
        assert "tell-nobody" not in f"{caught.value.message} {caught.value.hint}"
    require_nothing(other)


def silent(handler: Handler) -> bool:
    handler.registry.released.wait(60)
    handler.cut()
    return True


def gone(handler: Handler) -> bool:
    handler.cut()
    return True


def no_http(handler: Handler) -> bool:
    handler.wfile.write(b"SSH-2.0-OpenSSH_9.2p1\r\n")
    handler.cut()
    return True


@pytest.mark.parametrize("lie", [silent, gone, no_http])
def test_a_registry_that_says_nothing(
    lie: Callable[[Handler], bool], registry: LyingRegistry, other: Store, image: Image
) -> None:
    registry.lie = lie
    with pytest.raises(SourceUnreachable) as caught:
        Door(patience=HASTY).registries.pull(other, at(registry.host, image))
    assert caught.value.retry_after_s is not None
    require_nothing(other)


def test_nobody_there(registry: LyingRegistry, other: Store, image: Image) -> None:
    with serving(LyingRegistry()) as past:
        host = past.host
    with pytest.raises(SourceUnreachable) as caught:
        Door(patience=HASTY).registries.pull(other, at(host, image))
    assert f"cannot reach '{host}': Connection refused" in caught.value.message


def test_a_registry_that_stops_halfway(registry: LyingRegistry, other: Store, image: Image) -> None:
    """What came is kept, and the next pull goes on with it."""

    def halfway(handler: Handler, digest: str, data: bytes) -> None:
        handler.wfile.write(handler.begin_blob(data)[: max(0, (2 << 20) - handler.span().start)])
        handler.registry.released.wait(60)

    registry.lie = of_blobs(halfway)
    with pytest.raises(SourceUnreachable):
        Door(patience=HASTY).registries.pull(other, at(registry.host, image))
    assert other.digests() == () and parts(other) == [image.layers[1].digest.hex]
    registry.lie, registry.sent_bytes, registry.asked = (lambda handler: False), 0, []
    Door().registries.pull(other, at(registry.host, image))
    assert registry.sent_bytes < image.layers[1].size_bytes - (2 << 20) + 2_000
    assert other.image(image.digest) == image and not parts(other)


def test_a_trickle_is_no_answer(registry: LyingRegistry, other: Store, image: Image) -> None:
    def trickling(handler: Handler, digest: str, data: bytes) -> None:
        rest = handler.begin_blob(data)
        for at_byte in range(len(rest)):
            if handler.registry.released.wait(0.05):
                return
            handler.wfile.write(rest[at_byte : at_byte + 1])

    registry.lie = of_blobs(trickling)
    with pytest.raises(SourceUnreachable):
        Door(patience=HASTY).registries.pull(other, at(registry.host, image))


def test_who_waits_for_a_silent_registry_can_be_interrupted(
    registry: LyingRegistry, other: Store, image: Image
) -> None:
    registry.lie = of_blobs(lambda handler, digest, data: silent(handler) and None)
    door = Door()
    threading.Timer(0.5, door.cancellation.request).start()
    began = time.monotonic()
    with pytest.raises(Cancelled):
        door.registries.pull(other, at(registry.host, image))
    assert time.monotonic() - began < 15  # and not for as long as one waits for an answer
    require_nothing(other)


def test_a_full_disk_is_said_and_gets_its_room_back(registry: LyingRegistry, image: Image, tmp_path: Path) -> None:
    with small_disk(tmp_path / "small", "8m") as small:
        other = Store(small / "store")

        def filling(handler: Handler, digest: str, data: bytes) -> None:
            (small / "of somebody else").write_bytes(bytes(7 << 20))
            handler.reply(200, data)

        registry.lie = of_blobs(filling)
        with pytest.raises(StoreError, match="is full"):
            Door().registries.pull(other, at(registry.host, image))
        require_nothing(other)
        assert image.layers[1].digest.hex not in parts(other)

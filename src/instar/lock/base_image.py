"""The image of others that an image stands on: what a lock holds of it, how that is read and written, and held against
the image itself.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Final

from instar.errors import LockError
from instar.lock.checked import WrongLock, fit, listed, require_keys, seconds_of, shown
from instar.model.codec import parse
from instar.model.digest import Digest
from instar.model.image import Image, Layer
from instar.model.lock import EARLIEST_EPOCH, BaseImage
from instar.store.manifest import LAYER_TYPES, LAYERS_LIMIT, image_of_others

_KEYS: Final = ("digest", "platform", "created", "env", "layers")
_LAYER_KEYS: Final = ("digest", "diff-id", "size", "type")
_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}\Z")
_PLATFORM: Final = re.compile(r"linux/[a-z0-9]{1,20}\Z")
_VARIABLE: Final = re.compile(r"[^\x00-\x20=\x7f-\x9f\ud800-\udfff]{1,200}\Z")
_VALUE: Final = re.compile(r"[^\x00\ud800-\udfff]{0,32768}\Z")
_ENV_LIMIT: Final = 64 << 10
_TYPE: Final = re.compile(rf"(?:{'|'.join(re.escape(one) for one in LAYER_TYPES)})\Z")
_LARGEST_BYTES: Final = 1 << 40
_LEFT_BEHIND: Final = {
    "Entrypoint": "entrypoint",
    "Cmd": "command",
    "User": "user",
    "WorkingDir": "workdir",
    "Volumes": "volumes",
    "ExposedPorts": "ports",
    "Healthcheck": "health check",
    "StopSignal": "stop signal",
}
_SHOWN_CHARACTERS: Final = 80
_OWN_LAYERS: Final = 100  # that are left for what stands on it


def base_image(manifest: bytes, config: bytes, index: Digest | None, architecture: str) -> BaseImage:
    """Return what a lock holds of an image, by its two blobs. Raises ValueError for what nothing here can stand on."""
    found = image_of_others(manifest, config)
    if found.config.architecture != architecture:
        raise ValueError(f"it is for linux/{found.config.architecture:.40}, and not for linux/{architecture}")
    if len(found.layers) > LAYERS_LIMIT - _OWN_LAYERS:
        raise ValueError(f"it has {len(found.layers)} layers, more than {LAYERS_LIMIT - _OWN_LAYERS}")
    _require_usable(found.config.env)
    return BaseImage(
        key=found.digest,
        epoch=_epoch(found),
        env=found.config.env,
        layers=tuple(_bare(layer) for layer in found.layers),
        digest=found.digest,
        index=index,
        platform=f"linux/{architecture}",
    )


def left_behind(config: bytes) -> str:
    """Return in one line what an image says, by its configuration, that nothing which stands on it takes over; nothing
    where it says nothing of that kind. It is somebody else's text."""
    process = _mapping(parse(config)).get("config")
    found = [
        f"{word} {_in_one_line(value)}"
        for key, word in _LEFT_BEHIND.items()
        if (value := _mapping(process).get(key)) and value != "/"
    ]
    return f"left to the definition: {', '.join(found)}" if found else ""


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _in_one_line(value: Any) -> str:
    """Return a value of others for people: names alone of what has nothing else, and no control characters."""
    words = list(value) if isinstance(value, dict) and not any(value.values()) else value
    text = words if isinstance(words, str) else json.dumps(words, ensure_ascii=False)
    text = "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text)
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}…"


def require_same(base: BaseImage, found: Image, place: str) -> None:
    """Return when the lock says of an image what the image says itself. Raises LockError."""
    layers = tuple(_bare(layer) for layer in found.layers)
    said = {"layers": base.layers, "environment": base.env, "time": base.epoch}
    true = {"layers": layers, "environment": found.config.env, "time": _epoch(found)}
    if other := [what for what in said if said[what] != true[what]]:
        raise LockError(
            f"{place}: cannot use the lock: the {other[0]} that it has of the base is not what image {base.key} has",
            hint="take the lock from version control, or make that part of it anew: instar lock --update base",
        )


def _epoch(image: Image) -> int:
    return max(EARLIEST_EPOCH, image.created)


def _bare(layer: Layer) -> Layer:
    """Return a layer without what its maker wrote of it for people."""
    return Layer(digest=layer.digest, diff_id=layer.diff_id, size_bytes=layer.size_bytes, media_type=layer.media_type)


def _require_usable(env: Mapping[str, str]) -> None:
    for name, value in env.items():
        if not _VARIABLE.match(name) or not _VALUE.match(value):
            raise ValueError(f"its environment has a variable {name!r:.60} that no process could be given")
    if sum(len(name) + len(value) for name, value in env.items()) > _ENV_LIMIT:
        raise ValueError(f"its environment has more than {_ENV_LIMIT:,} characters")


def entry_of(base: BaseImage) -> dict[str, Any]:
    """Return the entry of the file."""
    from datetime import UTC, datetime

    created = datetime.fromtimestamp(base.epoch, UTC).isoformat().replace("+00:00", "Z")
    layers = [
        {"digest": layer.digest, "diff-id": layer.diff_id, "size": layer.size_bytes, "type": layer.media_type}
        for layer in base.layers
        if layer is not None
    ]
    return {
        "digest": base.digest,
        **({"index": base.index} if base.index is not None else {}),
        "platform": base.platform,
        "created": created,
        "env": dict(sorted(base.env.items())),
        "layers": layers,
    }


def base_of(entry: Any) -> BaseImage:
    """Read the entry of the file. Raises WrongLock."""
    require_keys(entry, _KEYS, "base", optional=("index",))
    digest = Digest(fit(entry["digest"], _DIGEST, "base: digest"))
    layers = tuple(listed(entry, "layers", _layer))
    if not 0 < len(layers) <= LAYERS_LIMIT - _OWN_LAYERS:
        raise WrongLock(f"base: expected 1 to {LAYERS_LIMIT - _OWN_LAYERS} layers")
    epoch = seconds_of(entry["created"], "base: created")
    if epoch < EARLIEST_EPOCH:
        raise WrongLock("base: created: expected no year before 2020")
    return BaseImage(
        key=digest,
        epoch=epoch,
        env=_env(entry["env"]),
        layers=layers,
        digest=digest,
        index=Digest(fit(entry["index"], _DIGEST, "base: index")) if "index" in entry else None,
        platform=fit(entry["platform"], _PLATFORM, "base: platform"),
    )


def _env(entry: Any) -> dict[str, str]:
    if not isinstance(entry, dict) or not all(isinstance(value, str) for value in entry.values()):
        raise WrongLock("base: env: expected an object of texts")
    try:
        _require_usable(entry)
    except ValueError as error:
        raise WrongLock(f"base: env: {error}") from error
    return dict(entry)


def _layer(entry: Any) -> Layer:
    require_keys(entry, _LAYER_KEYS, "layer")
    size_bytes = entry["size"]
    if type(size_bytes) is not int or not 0 <= size_bytes <= _LARGEST_BYTES:
        raise WrongLock(f"size: expected a number of bytes, found {shown(size_bytes)}")
    return Layer(
        digest=Digest(fit(entry["digest"], _DIGEST, "digest")),
        diff_id=Digest(fit(entry["diff-id"], _DIGEST, "diff-id")),
        size_bytes=size_bytes,
        media_type=fit(entry["type"], _TYPE, "type"),
    )

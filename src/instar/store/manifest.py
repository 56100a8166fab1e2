"""Image ↔ the OCI JSON that says all of it: a manifest and a configuration, both canonical JSON.

A layer's step is the ``created_by`` of its line in the configuration's history. Reading is lenient, since other
tools write images too: what ours always has may be missing in theirs.
Source: OCI image-spec 1.1, manifest.md and config.md.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from instar.frozen import dataclass
from instar.model.codec import canonical, parse, to_json
from instar.model.digest import Digest
from instar.model.image import Image, ImageConfig, Layer

MANIFEST_TYPE: Final = "application/vnd.oci.image.manifest.v1+json"
CONFIG_TYPE: Final = "application/vnd.oci.image.config.v1+json"
INDEX_TYPE: Final = "application/vnd.oci.image.index.v1+json"
ZSTD_LAYER_TYPE: Final = "application/vnd.oci.image.layer.v1.tar+zstd"
GZIP_LAYER_TYPE: Final = "application/vnd.oci.image.layer.v1.tar+gzip"
TAR_LAYER_TYPE: Final = "application/vnd.oci.image.layer.v1.tar"
DOCKER_MANIFEST_TYPE: Final = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_INDEX_TYPE: Final = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_LAYER_TYPE: Final = "application/vnd.docker.image.rootfs.diff.tar.gzip"
LAYER_TYPES: Final = (ZSTD_LAYER_TYPE, GZIP_LAYER_TYPE, TAR_LAYER_TYPE, DOCKER_LAYER_TYPE)
CONFIG_TYPES: Final = (CONFIG_TYPE, "application/vnd.docker.container.image.v1+json")
MANIFEST_TYPES: Final = (MANIFEST_TYPE, DOCKER_MANIFEST_TYPE)
INDEX_TYPES: Final = (INDEX_TYPE, DOCKER_INDEX_TYPE)
_CONFIG_LIMIT_BYTES = 4 << 20
_LAYER_LIMIT_BYTES = 1 << 40
LAYERS_LIMIT: Final = 500
_LATEST_S = 0o77777777777


@dataclass(frozen=True, kw_only=True, slots=True)
class Descriptor:
    """What a manifest points at."""

    digest: Digest
    size_bytes: int
    media_type: str


def config_json(config: ImageConfig, layers: Sequence[Layer], *, created: int) -> bytes:
    """Return the configuration blob of an image made at ``created`` (Unix seconds)."""
    moment = datetime.fromtimestamp(created, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return canonical(
        {
            "architecture": config.architecture,
            "config": _process(config),
            "created": moment,
            "history": [{"created": moment, "created_by": layer.step} for layer in layers],
            "os": "linux",
            "rootfs": {"diff_ids": [layer.diff_id for layer in layers], "type": "layers"},
        }
    )


def manifest_json(config: Digest, config_size: int, layers: Sequence[Layer]) -> bytes:
    """Return the manifest blob."""
    return canonical(
        {
            "config": descriptor(CONFIG_TYPE, config, config_size),
            "layers": [descriptor(layer.media_type, layer.digest, layer.size_bytes) for layer in layers],
            "mediaType": MANIFEST_TYPE,
            "schemaVersion": 2,
        }
    )


def descriptor(media_type: str, digest: Digest, size_bytes: int) -> dict[str, Any]:
    """Return what one part of the layout says to point at another. Source: OCI image-spec 1.1, descriptor.md."""
    return {"digest": digest, "mediaType": media_type, "size": size_bytes}


def references(manifest: bytes) -> tuple[Digest, ...]:
    """Return the digests that a manifest points at: its configuration, then its layers. Raises ValueError."""
    data = _object(manifest)
    try:
        return tuple(Digest(item["digest"]) for item in (data["config"], *data["layers"]))
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"not an image manifest: {error!r}") from error


def media_type(manifest: bytes) -> str:
    """Return what a manifest, or an index, says that it is; OCI's where it says nothing. Raises ValueError for what is
    none, and for one of Docker's first form."""
    data = _object(manifest)
    if data.get("schemaVersion") == 1:
        raise ValueError("it is a manifest of Docker's schema 1, which is not read: push it anew with a current tool")
    return str(data.get("mediaType") or (INDEX_TYPE if "manifests" in data else MANIFEST_TYPE))


def descriptors(manifest: bytes) -> tuple[Descriptor, ...]:
    """Return what the manifest of an image from elsewhere points at: its configuration, then its layers, each once.

    Raises ValueError for what is no image's manifest, and for what no image here can have.
    """
    data = _object(manifest)
    kind = media_type(manifest)
    if kind in INDEX_TYPES or "manifests" in data:
        raise ValueError(_of_index(data))
    if kind not in MANIFEST_TYPES or data.get("schemaVersion") != 2:
        raise ValueError(f"it is a manifest of type {kind:.80}, version {data.get('schemaVersion')!r:.20}")
    layers = data.get("layers")
    if not isinstance(layers, list) or not layers or len(layers) > LAYERS_LIMIT:
        raise ValueError(f"it has no list of at most {LAYERS_LIMIT} layers")
    found = [_descriptor(data.get("config"), CONFIG_TYPES, _CONFIG_LIMIT_BYTES)]
    found += [_descriptor(one, LAYER_TYPES, _LAYER_LIMIT_BYTES) for one in layers]
    sizes: dict[Digest, int] = {}
    for one in found:
        if sizes.setdefault(one.digest, one.size_bytes) != one.size_bytes:
            raise ValueError(f"it says two sizes of {one.digest.short}")
    return tuple({one.digest: one for one in reversed(found)}[digest] for digest in sizes)


def _of_index(data: Mapping[str, Any]) -> str:
    """Say what to take instead of an index: the images of it, by their platforms."""
    lines = []
    for one in data["manifests"] if isinstance(data.get("manifests"), list) else ():
        platform = one.get("platform") if isinstance(one, dict) else None
        if isinstance(platform, dict):
            lines.append(f"{platform.get('os')}/{platform.get('architecture')} is {one.get('digest')}"[:120])
    return f"it is an index of several images: {', '.join(lines[:8]) or 'of none'}"


def _descriptor(data: Any, types: Collection[str], limit_bytes: int) -> Descriptor:
    if not isinstance(data, dict):
        raise ValueError("a part of it has no descriptor")
    kind, size, digest = data.get("mediaType"), data.get("size"), data.get("digest")
    if not isinstance(kind, str) or kind not in types:
        raise ValueError(f"a part of it has the type {kind!r:.90}, which is none of an image's")
    if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size <= limit_bytes:
        raise ValueError(f"a part of it has the size {size!r:.40}")
    if not isinstance(digest, str):
        raise ValueError("a part of it has no digest")
    return Descriptor(digest=Digest(digest[:100]), size_bytes=size, media_type=kind)


def image(digest: Digest, manifest: bytes, config: bytes) -> Image:
    """Return the image that its two blobs say. Raises ValueError when they don't."""
    config_digest, *_ = references(manifest)
    data = _object(config)
    try:
        return Image(
            digest=digest,
            config_digest=config_digest,
            config=_config(data),
            layers=_layers(_object(manifest)["layers"], data),
            created=_seconds(data.get("created")),
        )
    except (KeyError, TypeError, AttributeError, OverflowError) as error:
        raise ValueError(f"not an image configuration: {error!r}") from error


def image_of_others(manifest: bytes, config: bytes) -> Image:
    """Return an image that was made elsewhere. Raises ValueError, also for one of another system, and for what is no
    text: nobody could write it down."""
    system = _object(config).get("os", "linux")
    if system != "linux":
        raise ValueError(f"it is an image for {system!r:.40}, and not for Linux")
    found = image(Digest.of(manifest), manifest, config)
    try:
        canonical(to_json(found))
    except UnicodeEncodeError as error:
        raise ValueError("its configuration has halves of letters in it, which are no text") from error
    return found


def _process(config: ImageConfig) -> dict[str, Any]:
    values: dict[str, Any] = {
        "Cmd": list(config.command),
        "Env": [f"{name}={value}" for name, value in sorted(config.env.items())],
        "ExposedPorts": {f"{port}/tcp": {} for port in config.ports},
        "Labels": dict(config.labels),
        "User": config.user,
        "WorkingDir": config.workdir,
    }
    return {key: value for key, value in values.items() if value}


def _config(data: Mapping[str, Any]) -> ImageConfig:
    process: Mapping[str, Any] = data.get("config") or {}
    env = [str(item).partition("=") for item in process.get("Env") or ()]
    ports = [str(item).partition("/") for item in process.get("ExposedPorts") or ()]
    return ImageConfig(
        architecture=str(data["architecture"]),
        user=str(process.get("User") or ""),
        command=tuple(str(word) for word in (*(process.get("Entrypoint") or ()), *(process.get("Cmd") or ()))),
        workdir=str(process.get("WorkingDir") or "/"),
        env={name: value for name, _, value in env},
        ports=tuple(sorted(int(port) for port, _, protocol in ports if protocol in ("", "tcp"))),
        labels={str(key): str(value) for key, value in (process.get("Labels") or {}).items()},
    )


def _layers(descriptors: Sequence[Mapping[str, Any]], data: Mapping[str, Any]) -> tuple[Layer, ...]:
    diff_ids = data["rootfs"]["diff_ids"]
    if len(diff_ids) != len(descriptors):
        raise ValueError(f"{len(descriptors)} layers, but {len(diff_ids)} diff IDs")
    steps = [str(line.get("created_by") or "") for line in data.get("history") or () if not line.get("empty_layer")]
    if len(steps) != len(descriptors):
        steps = [""] * len(descriptors)
    return tuple(
        Layer(
            digest=Digest(item["digest"]),
            diff_id=Digest(diff_id),
            size_bytes=int(item["size"]),
            media_type=str(item["mediaType"]),
            step=step,
        )
        for item, diff_id, step in zip(descriptors, diff_ids, steps, strict=True)
    )


def _seconds(created: str | None) -> int:
    """Return the Unix seconds of a time, as far as a tar can say them: some tools write the year 1."""
    return min(max(0, int(datetime.fromisoformat(created).timestamp())), _LATEST_S) if created else 0


def _object(text: bytes) -> dict[str, Any]:
    data = parse(text)  # its JSONDecodeError is a ValueError
    if not isinstance(data, dict):
        raise ValueError("not a JSON object")
    return data

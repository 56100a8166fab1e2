"""Archives of images as other tools write them, and as somebody writes them who means harm."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from instar.store.manifest import CONFIG_TYPE, GZIP_LAYER_TYPE, INDEX_TYPE, MANIFEST_TYPE

Files = dict[str, bytes]
Member = tuple[tarfile.TarInfo, bytes]


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def member(
    name: str, content: bytes = b"", kind: bytes = tarfile.REGTYPE, **fields: Any
) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.type, info.size = kind, len(content)
    for field, value in fields.items():
        setattr(info, field, value)
    return info, content


def tar_of(members: Iterable[Member]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as made:
        for info, content in members:
            made.addfile(info, io.BytesIO(content))
    return out.getvalue()


def tar_files(files: Mapping[str, bytes]) -> bytes:
    return tar_of(member(name, content) for name, content in files.items())


LAYER = tar_of([member("etc", kind=tarfile.DIRTYPE, mode=0o755), member("etc/motd", b"hello\n", mode=0o644)])


def config_of(*layers: bytes, **changed: Any) -> bytes:
    data = {
        "architecture": "amd64",
        "os": "linux",
        "config": {"User": "10001:10001", "Cmd": ["serve"]},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{sha(layer)}" for layer in layers]},
        **changed,
    }
    return json.dumps(data).encode()


def descriptor(kind: str, data: bytes) -> dict[str, Any]:
    return {"mediaType": kind, "digest": f"sha256:{sha(data)}", "size": len(data)}


def layout(
    *layers: bytes,
    config: bytes | None = None,
    manifest: Callable[[dict[str, Any]], None] = lambda data: None,
    name: str | None = None,
) -> Files:
    """Return the files of an OCI layout with one image, whose layers (tars) are in gzip."""
    config = config if config is not None else config_of(*layers)
    packed = [gzip.compress(layer, mtime=0) for layer in layers]
    data = {
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "config": descriptor(CONFIG_TYPE, config),
        "layers": [descriptor(GZIP_LAYER_TYPE, one) for one in packed],
    }
    manifest(data)
    written = json.dumps(data).encode()
    entry = descriptor(MANIFEST_TYPE, written)
    if name is not None:
        entry["annotations"] = {"org.opencontainers.image.ref.name": name}
    blobs = {f"blobs/sha256/{sha(one)}": one for one in (config, *packed, written)}
    index = {"schemaVersion": 2, "manifests": [entry]}
    return {"oci-layout": b'{"imageLayoutVersion": "1.0.0"}', "index.json": json.dumps(index).encode(), **blobs}


def docker_save(*layers: bytes, config: bytes | None = None, tags: list[str] | None = None) -> Files:
    """Return the files that ``docker save`` writes for one image."""
    config = config if config is not None else config_of(*layers)
    names = [f"{sha(layer)}/layer.tar" for layer in layers]
    entry = {"Config": f"{sha(config)}.json", "RepoTags": tags, "Layers": names}
    files = {f"{sha(config)}.json": config, "manifest.json": json.dumps([entry]).encode()}
    return {**files, **dict(zip(names, layers, strict=True))}


def for_platforms(change: Callable[[bytes], bytes] = lambda data: data) -> Files:
    """Return the files of an OCI layout with one image for two platforms, to which a signature is attached.

    ``change`` is made to the index, to the signature's manifest and to the list that it is in, before anything names
    them by their digests.
    """
    files, entries = dict[str, bytes](), []
    for architecture in ("amd64", "arm64"):
        one = layout(LAYER, config=config_of(LAYER, architecture=architecture))
        (entry,) = json.loads(one.pop("index.json"))["manifests"]
        entries.append({**entry, "platform": {"os": "linux", "architecture": architecture}})
        files |= one
    index = change(json.dumps({"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": entries}).encode())
    signature = {
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "artifactType": "x/signature",
        "config": descriptor("x/empty", b"{}"),
        "layers": [descriptor("x/signature", b"signed")],
        "subject": descriptor(INDEX_TYPE, index),
    }
    signed = change(json.dumps(signature).encode())
    listing = change(json.dumps({"schemaVersion": 2, "manifests": [descriptor(MANIFEST_TYPE, signed)]}).encode())
    named = {"org.opencontainers.image.ref.name": f"sha256-{sha(index)}"}
    tops = [descriptor(INDEX_TYPE, index), {**descriptor(INDEX_TYPE, listing), "annotations": named}]
    files |= {f"blobs/sha256/{sha(one)}": one for one in (index, signed, listing, b"{}", b"signed")}
    return {**files, "index.json": json.dumps({"schemaVersion": 2, "manifests": tops}).encode()}

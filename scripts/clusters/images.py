"""Images of one program each, as OCI archives: what every pod's sandbox is started from, and a web server for tests."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import platform
import shutil
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from clusters.layout import Missing

HELLO = "hello"
PAUSE = "pause.test/pause:1"
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
_USER = 10001


def write_pause(file: Path) -> None:
    """Write the image of the sandboxes: Debian's catatonit, which holds namespaces and reaps what is orphaned."""
    program = shutil.which("catatonit")
    if program is None:
        raise Missing("cannot make the image of sandboxes: catatonit is missing; scripts/setup --cluster installs it")
    write_image(file, PAUSE, Path(program), arguments=["-P"])


def write_image(
    file: Path, name: str, program: Path, *, arguments: Sequence[str] = (), environ: Mapping[str, str] | None = None
) -> str:
    """Write an archive with one image of one layer, whole or not at all, and return the image's digest."""
    blobs: dict[str, bytes] = {}

    def blob(data: bytes, media_type: str) -> dict[str, Any]:
        digest = hashlib.sha256(data).hexdigest()
        blobs[digest] = data
        return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(data)}

    layer = _layer(program)
    packed = blob(gzip.compress(layer, 6, mtime=0), "application/vnd.oci.image.layer.v1.tar+gzip")
    configuration = {
        "architecture": ARCHITECTURES[platform.machine()],
        "os": "linux",
        "config": {
            "Entrypoint": [f"/{program.name}", *arguments],
            "Env": [f"{key}={value}" for key, value in (environ or {}).items()],
            "User": f"{_USER}:{_USER}",
        },
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}"]},
    }
    described = blob(json.dumps(configuration).encode(), "application/vnd.oci.image.config.v1+json")
    media_type = "application/vnd.oci.image.manifest.v1+json"
    manifest = {"schemaVersion": 2, "mediaType": media_type, "config": described, "layers": [packed]}
    image = blob(json.dumps(manifest).encode(), media_type)
    image["annotations"] = {"io.containerd.image.name": name, "org.opencontainers.image.ref.name": name}
    _write_archive(file, image, blobs)
    return str(image["digest"])


def digest_of(file: Path) -> str:
    """Return the digest of an archive's only image."""
    with tarfile.open(file) as archive:
        index = archive.extractfile("index.json")
        assert index is not None
        (image,) = json.load(index)["manifests"]
    return str(image["digest"])


def _layer(program: Path) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as archive:
        _add(archive, "etc", None)
        _add(archive, "etc/passwd", f"app:x:{_USER}:{_USER}::/:/nologin\n".encode(), 0o644)
        _add(archive, "tmp", None, 0o1777)
        _add(archive, program.name, program.read_bytes())
    return made.getvalue()


def _write_archive(file: Path, image: Mapping[str, Any], blobs: Mapping[str, bytes]) -> None:
    draft = file.with_name(f".{file.name}")
    with tarfile.open(draft, "w") as archive:
        _add(archive, "oci-layout", b'{"imageLayoutVersion":"1.0.0"}', 0o644)
        _add(archive, "index.json", json.dumps({"schemaVersion": 2, "manifests": [image]}).encode(), 0o644)
        for digest, data in blobs.items():
            _add(archive, f"blobs/sha256/{digest}", data, 0o644)
    draft.replace(file)


def _add(archive: tarfile.TarFile, name: str, data: bytes | None, mode: int = 0o755) -> None:
    entry = tarfile.TarInfo(name)
    entry.mode = mode
    if data is None:
        entry.type = tarfile.DIRTYPE
    else:
        entry.size = len(data)
    archive.addfile(entry, None if data is None else io.BytesIO(data))

"""Images into a cluster's registry, as they are."""

from __future__ import annotations

import subprocess
from pathlib import Path

from clusters.images import digest_of
from clusters.layout import Layout, Unusable


def push(layout: Layout, archive: str | Path, name: str) -> str:
    """Copy an OCI archive's image, and return by what pods name it: registry, name and digest."""
    digest = digest_of(Path(archive))
    target = f"docker://{layout.registry}/{name}:{digest.replace(':', '-')}"
    copy = ["skopeo", "copy", "--quiet", "--preserve-digests", "--dest-tls-verify=false"]
    done = subprocess.run([*copy, f"oci-archive:{archive}", target], capture_output=True, text=True, check=False)
    if done.returncode:
        raise Unusable(f"cannot push {archive} to {target}: {done.stderr.strip()[-1000:]}")
    return f"{layout.registry}/{name}@{digest}"

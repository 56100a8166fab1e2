"""Asking a cluster's API: small questions by HTTP, since they are asked often; everything else by kubectl."""

from __future__ import annotations

import json
import ssl
import subprocess
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from clusters.layout import Layout, Unusable

_PATIENCE_S = 10.0


@dataclass(frozen=True)
class Api:
    """The API of a cluster, asked as its administrator."""

    layout: Layout

    @cached_property
    def _tls(self) -> ssl.SSLContext:
        keys = self.layout.keys
        context = ssl.create_default_context(cafile=str(keys / "ca.crt"))
        context.load_cert_chain(keys / "admin.crt", keys / "admin.key")
        return context

    def get(self, path: str) -> Any:
        """Return what a path answers. Raises OSError (urllib's errors are such) when it has none."""
        url = f"https://{self.layout.control.address}:6443{path}"
        with urllib.request.urlopen(url, timeout=_PATIENCE_S, context=self._tls) as answer:
            text = answer.read().decode()
            return json.loads(text) if answer.headers.get_content_type() == "application/json" else text

    def find(self, path: str) -> Any:
        """Return what a path answers, or None when it has no answer now."""
        try:
            return self.get(path)
        except OSError:
            return None

    def kubectl(self, *words: str, stdin: str | None = None) -> str:
        """Run kubectl and return what it prints. Raises Unusable with its own words when it fails."""
        done = subprocess.run(
            kubectl(self.layout, words), input=stdin, env=environment(self.layout), capture_output=True, text=True,
            check=False,
        )  # fmt: skip
        if done.returncode:
            raise Unusable(f"kubectl {' '.join(words)} ended with {done.returncode}: {done.stderr.strip()[-2000:]}")
        return done.stdout

    def apply(self, *objects: Mapping[str, Any]) -> None:
        self.kubectl("apply", "--server-side", "-f", "-", stdin=json.dumps(listed(objects)))


def listed(objects: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "List", "items": list(objects)}


def kubectl(layout: Layout, words: Sequence[str]) -> list[str]:
    return [str(layout.programs / "kubectl"), "--kubeconfig", str(layout.kubeconfig), *words]


def environment(layout: Layout) -> dict[str, str]:
    return {"PATH": "/usr/bin:/bin", "HOME": str(layout.state), "KUBECACHEDIR": str(layout.state / "kubectl")}


def condition(thing: Any, kind: str) -> dict[str, Any]:
    """Return an object's condition of a kind, an empty one when it has none."""
    found: list[dict[str, Any]] = ((thing or {}).get("status") or {}).get("conditions") or []
    return next((one for one in found if one.get("type") == kind), {})

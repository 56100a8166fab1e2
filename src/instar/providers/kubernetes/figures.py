"""How many requests a group has answered, how many of them failed and how long they took, asked of a Prometheus.

What is asked are templates, of Envoy's figures as Contour has them unless the section says others. An answer is a
figure or it is none: a server that is away, is slow, or says what cannot be a count leaves figures unknown, and why.
"""

from __future__ import annotations

import json
import math
import string
import threading
import time
from collections.abc import Mapping
from typing import Any, Final

from instar.frozen import dataclass
from instar.model.release import Served
from instar.providers.kubernetes.settings import Prometheus

_ENVOY: Final = 'envoy_cluster_name="${namespace}_${group}_${port}"'
REQUESTS: Final = f"sum(envoy_cluster_upstream_rq_total{{{_ENVOY}}})"
FAILED: Final = f'sum(envoy_cluster_upstream_rq_xx{{{_ENVOY},envoy_response_code_class="5"}}) or vector(0)'
RESPONSE_MS: Final = f"sum(envoy_cluster_upstream_rq_time_sum{{{_ENVOY}}}) or vector(0)"
_TIMEOUT_S: Final = 3.0
_ALL_S: Final = 10.0  # for all groups' figures, whatever becomes of each
_FRESH_S: Final = 5.0  # an answer is taken again for so long: servers look at what they count every 15 s or so
_LARGEST_BYTES: Final = 1 << 20
_MOST: Final = 1 << 53  # beyond it a number of JSON's is none of requests any more


class NoFigure(Exception):
    """Why there is none."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Counted:
    """``served`` by group, without those of which nothing is known yet; ``trouble``: why nothing is known of any."""

    served: Mapping[str, Served]
    trouble: str | None = None


class Figures:
    """Those of one environment's groups. May be asked at any time, and by several threads."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._asking: threading.Thread | None = None
        self._known: tuple[float, Prometheus, Mapping[str, int], Counted] | None = None

    def of(self, where: Prometheus, namespace: str, ports: Mapping[str, int]) -> Counted:
        """Return what is known of groups, by the port of each Service. Never raises."""
        with self._guard:
            known = self._known
            if known is not None and known[1:3] == (where, ports) and time.monotonic() - known[0] < _FRESH_S:
                return known[3]
            found = self._answered(where, namespace, ports)
            self._known = (time.monotonic(), where, dict(ports), found)
            return found

    def _answered(self, where: Prometheus, namespace: str, ports: Mapping[str, int]) -> Counted:
        """Return what is answered in time: a server that says a letter now and then holds nobody up."""
        late = Counted(served={}, trouble=f"Prometheus at {where.url} does not answer within {_ALL_S:g} s")
        if self._asking is not None and self._asking.is_alive():
            return late
        found: list[Counted] = []
        self._asking = threading.Thread(target=lambda: found.append(_counted(where, namespace, ports)), daemon=True)
        self._asking.start()
        self._asking.join(_ALL_S)
        return found[0] if found else late


def _counted(where: Prometheus, namespace: str, ports: Mapping[str, int]) -> Counted:
    served: dict[str, Served] = {}
    try:
        for group, port in ports.items():
            names = {"namespace": namespace, "group": group, "port": str(port)}
            requests = _ask(where.url, where.requests or REQUESTS, names)
            if requests is None:
                continue
            failed = _ask(where.url, where.failed or FAILED, names)
            took = _ask(where.url, where.response_ms or RESPONSE_MS, names)
            served[group] = Served(requests=requests, failed=failed or 0, response_ms=took or 0)
    except NoFigure as error:
        return Counted(served={}, trouble=f"Prometheus at {where.url} {error}")
    return Counted(served=served)


def query(template: str, names: Mapping[str, str]) -> str:
    """Return what is asked: a template with the group's names in it. All of them are host names and numbers."""
    return string.Template(template).safe_substitute(names)


def _ask(url: str, template: str, names: Mapping[str, str]) -> int | None:
    """Return the figure that a query has, None where it has none. Raises NoFigure."""
    import urllib3

    asked = query(template, names)
    try:
        answer = urllib3.request(
            "GET",
            f"{url.rstrip('/')}/api/v1/query",
            fields={"query": asked, "timeout": f"{_TIMEOUT_S:g}s"},
            timeout=urllib3.Timeout(total=_TIMEOUT_S),
            retries=False,
            preload_content=False,
        )
        deadline = time.monotonic() + _TIMEOUT_S
        data = b""
        for part in answer.stream(1 << 16):
            data += part
            if len(data) > _LARGEST_BYTES:
                raise NoFigure(f"answers more than {_LARGEST_BYTES >> 20} MiB")
            if time.monotonic() > deadline:
                raise NoFigure(f"does not answer whole within {_TIMEOUT_S:g} s")
        answer.release_conn()
    except (urllib3.exceptions.HTTPError, OSError, ValueError) as error:
        raise NoFigure(f"does not answer: {' '.join(str(error).split())[:160]}") from None
    return figure(answer.status, data, asked)


def figure(status: int, data: bytes, asked: str) -> int | None:
    """Return the figure that an answer is. Raises NoFigure for what is none. Source: Prometheus, HTTP API."""
    try:
        found: Any = json.loads(data)
    except (ValueError, RecursionError):
        raise NoFigure(f"answers {status}, and no JSON") from None
    if not isinstance(found, dict) or found.get("status") != "success":
        told = found.get("error") if isinstance(found, dict) else None
        raise NoFigure(f"refuses {asked!r:.200}: {str(told or status)[:200]}")
    answer = found.get("data")
    kind, result = (answer.get("resultType"), answer.get("result")) if isinstance(answer, dict) else (None, None)
    if kind == "vector" and result == []:
        return None
    if kind == "vector" and isinstance(result, list):
        if len(result) > 1:
            raise NoFigure(f"has {len(result)} answers to {asked!r:.200}: one is wanted, a sum for example")
        result = result[0].get("value") if isinstance(result[0], dict) else None
    elif kind != "scalar":
        raise NoFigure(f"answers {asked!r:.200} with a {str(kind)[:20]}, and no number")
    return _count(result[1] if isinstance(result, list) and len(result) == 2 else None, asked)


def _count(value: object, asked: str) -> int:
    try:
        number = float(value) if isinstance(value, str) else math.nan
    except ValueError:
        number = math.nan
    if not 0 <= number <= _MOST:
        raise NoFigure(f"answers {asked!r:.200} with {str(value)[:40]}, and that counts nothing")
    return int(number)

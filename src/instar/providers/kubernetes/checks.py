"""The questions that a release asks about a candidate, asked of its pods through the cluster's API.

So they need no way into the pods' network from here. Every pod is asked: the first bad answer counts.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from urllib.parse import quote

from instar.errors import InstarError, ProviderUnavailable
from instar.model.definition import Service
from instar.model.environment import Check
from instar.providers.base import Probe
from instar.providers.kubernetes.api import Api
from instar.providers.kubernetes.kinds import POD
from instar.providers.kubernetes.reading import Limits

_WELL = range(200, 400)
_MOST_ANSWERED = 1 << 20
_STATUS_WITHIN_S = 2.0
WELL_PROBE = Probe(healthy=True)


def ask(api: Api, namespace: str, pods: Sequence[str], service: Service, check: Check) -> Probe:
    """Return how all pods answer a check."""
    if check.kind == "url":
        return _ask_url(check)
    if not pods:
        return Probe(healthy=False, cause="it has no pod")
    answers = (_asked(api, namespace, pod, service, check) for pod in pods)
    return next((one for one in answers if not one.healthy), WELL_PROBE)


def status(api: Api, path: str, headers: Mapping[str, str]) -> int | None:
    """Return with what a pod answers what is asked of it through the API; None where it does not answer."""
    try:
        return api.answer(path, _STATUS_WITHIN_S, headers)[0]
    except InstarError:
        raise
    except Exception:  # the transport's, of whatever kind
        return None


def _asked(api: Api, namespace: str, pod: str, service: Service, check: Check) -> Probe:
    if check.kind == "command":
        return _run(api, namespace, pod, check)
    path, port = check.path or "/", service.port
    shown, timeout_s = f"GET {path}", check.timeout_ms / 1000
    proxied = POD.path(namespace, f"{pod}:{port}", "proxy") + quote(path, safe="!$%&'()*+,/:;=?@~")
    try:
        status, content = api.answer(proxied, timeout_s, {"X-Forwarded-Host": check.host or service.health.host})
    except InstarError:
        raise
    except Exception as error:  # the transport's, of whatever kind: there was no answer
        return Probe(healthy=False, cause=f"{shown} of {pod} was not answered within {timeout_s:g} s: {error}")
    well = status in _WELL if check.status is None else status == check.status
    if not well:
        wanted = "" if check.status is None else f", not {check.status}"
        return Probe(healthy=False, cause=f"{shown} of {pod} answered {status}{wanted}")
    if check.contains is not None and check.contains.encode() not in content:
        return Probe(healthy=False, cause=f"{shown} of {pod} does not contain '{check.contains}'")
    return WELL_PROBE


def _run(api: Api, namespace: str, pod: str, check: Check) -> Probe:
    try:
        status, printed = api.run(namespace, pod, check.command or (), check.timeout_ms / 1000)
    except ProviderUnavailable as error:
        return Probe(healthy=False, cause=error.message)
    if status == 0:
        return WELL_PROBE
    said = printed.strip().splitlines()[-1:] or [""]
    return Probe(healthy=False, cause=f"{' '.join(check.command or ())} ended with {status} in {pod}: {said[0][:200]}")


def _ask_url(check: Check) -> Probe:
    """GET an address from this machine."""
    import urllib3

    shown = f"GET {check.url}"
    try:
        timeout_s = check.timeout_ms / 1000
        answer = urllib3.request("GET", check.url or "", timeout=timeout_s, retries=False, preload_content=False)
        with contextlib.closing(answer):
            limits = Limits(most_bytes=_MOST_ANSWERED, within_s=timeout_s)
            content = limits.beginning(answer.stream(1 << 16))
    except (urllib3.exceptions.HTTPError, OSError, ValueError) as error:
        return Probe(healthy=False, cause=f"{shown}: {error}")
    well = answer.status in _WELL if check.status is None else answer.status == check.status
    well = well and (check.contains or "").encode() in content
    return WELL_PROBE if well else Probe(healthy=False, cause=f"{shown} answered {answer.status}, or not as it should")

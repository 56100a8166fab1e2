"""What of a definition the API would refuse, though it is good elsewhere: told by words alone, before anything is made.

A definition's names become labels, parts of objects' names and of pods' volumes. What the API takes as each was tried
with it: tests/acceptance/test_kubernetes_dry_run.py holds this against a real one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Final

from instar.model.definition import Service
from instar.model.environment import Settings
from instar.model.release import EnvironmentId
from instar.providers.kubernetes.names import environment_part
from instar.providers.kubernetes.route import MOST_ROUTES
from instar.providers.kubernetes.settings import (
    KubernetesSettings,
    SpreadSettings,
    TolerationSettings,
    checked_section,
)
from instar.providers.kubernetes.sites import pieces_of

_MOST_ANNOTATIONS_BYTES: Final = 256 << 10  # of all of a pod, with their names
_OWN_BYTES: Final = 1 << 10  # of Instar's own among them
_NO_EXECUTE: Final = "NoExecute"

Unfit = Iterator[tuple[object, str]]


def unfit_words(environment: EnvironmentId, settings: Settings, service: Service) -> Unfit:
    """Yield what is found, and what is wrong with it; nothing is found where it is false."""
    for what, name in (("service", environment.service), ("environment", environment.name)):
        yield _ends_wrong(name), f"the name of the {what}, '{name}', ends with '-', and no label there does"
    own_name = f"{environment.service}-{environment.name}"
    has_service = settings.provider_settings.get("gateway") is None or settings.provider_settings.get("inside")
    told = (
        f"the name of the environment, '{environment.name}', ends with two numbers, and its Service would be "
        f"'{own_name}', as a release of '{environment_part(own_name)}' may have one: name it otherwise"
    )
    yield has_service and environment_part(own_name) is not None, told
    yield from _unfit_routes(settings)
    for volume in service.volumes:
        told = f"the name of the volume '{volume.name}' ends with '-', and no object's there does"
        yield _ends_wrong(volume.name), told
    for allow in settings.network.allow:
        wrong = allow.names_environment and any(map(_ends_wrong, allow.to.split("/")))
        yield wrong, f"'network.allow' names '{allow.to}', and nothing is called so there: a name ends with '-'"
    own = checked_section(KubernetesSettings, settings.provider_settings, "settings")
    if own is not None:
        yield from _unfit_annotations(own)
        yield from _unfit_tolerations(own.tolerations)
        yield from _unfit_spread(own.spread)


def _unfit_routes(settings: Settings) -> Unfit:
    count = sum(map(len, pieces_of(settings.names, {key: one.sites for key, one in settings.doors.items()}).values()))
    told = f"its names and paths need {count} routes, and {MOST_ROUTES} is the most that an environment has"
    yield settings.provider_settings.get("gateway") is not None and count > MOST_ROUTES, told


def _ends_wrong(name: str) -> bool:
    return name.endswith("-")


def _unfit_annotations(own: KubernetesSettings) -> Unfit:
    size = sum(len(name.encode()) + len(text.encode()) for name, text in own.annotations.items())
    most = _MOST_ANNOTATIONS_BYTES - _OWN_BYTES
    yield size > most, f"'kubernetes.annotations' has {size} bytes, and a pod takes {most}"


def _unfit_tolerations(found: tuple[TolerationSettings, ...]) -> Unfit:
    for one in found:
        told = f"'kubernetes.tolerations' says 'stay', which is of taints of {_NO_EXECUTE}: add 'effect: {_NO_EXECUTE}'"
        yield one.stay_ms is not None and one.effect != _NO_EXECUTE, told
        told = f"'kubernetes.tolerations' says the value '{one.value}' and no 'key': one without a key is of any taint"
        yield one.value and one.taint_key is None, told


def _unfit_spread(found: tuple[SpreadSettings, ...]) -> Unfit:
    for (label, required), count in Counter((one.label, one.required) for one in found).items():
        word = "true" if required else "false"
        yield count > 1, f"'kubernetes.spread' has the label '{label}' more than once with 'required: {word}'"

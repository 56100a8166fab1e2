"""Which certificates the names of environments need. A name has one of its own: what keeps one from being had keeps no
other from it, and a name that moves to another environment takes its certificate along. Files cover what they cover.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from instar.model.certificate import WantedCertificate
from instar.model.environment import Settings
from instar.model.release import EnvironmentId


def wanted_of(environment: EnvironmentId, settings: Settings) -> tuple[WantedCertificate, ...]:
    """Return the certificates that the https names of one environment need."""
    names, source = settings.names.secure_hosts, settings.tls.kind
    if source == "files" and names:
        return (WantedCertificate(environment=environment, source=source, names=names),)
    return tuple(WantedCertificate(environment=environment, source=source, names=(name,)) for name in names)


def wanted_certificates(environments: Iterable[tuple[EnvironmentId, Settings]]) -> tuple[WantedCertificate, ...]:
    """Return the certificates that all of them need: of each name one.

    Of a name that several have (its paths are apart), the certificate is that of the environment with the whole of it;
    where all have parts, that of the first. Nobody else's is shown for it.
    """
    whole: dict[str, WantedCertificate] = {}
    parts: dict[str, WantedCertificate] = {}
    for environment, settings in environments:
        for wanted in wanted_of(environment, settings):
            for name in wanted.names:
                is_whole = name in settings.names.https or name in settings.names.redirect
                (whole if is_whole else parts).setdefault(name, wanted)
    chosen: dict[WantedCertificate, list[str]] = {}
    for name, wanted in {**parts, **whole}.items():
        chosen.setdefault(wanted, []).append(name)
    return tuple(replace(wanted, names=tuple(names)) for wanted, names in chosen.items())

"""Which certificates the names of environments need. A name has one of its own: what keeps one from being had keeps no
other from it, and a name that moves to another environment takes its certificate along. Files cover what they cover.
"""

from __future__ import annotations

from collections.abc import Iterable

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
    """Return the certificates that all of them need, each once.

    Of a name that several have (its paths are apart), the certificate is that of the environment with the whole site.
    """
    found: dict[str, WantedCertificate] = {}
    for environment, settings in sorted(environments, key=lambda one: (_has_parts_only(one[1]), str(one[0]))):
        for wanted in wanted_of(environment, settings):
            if any(name not in found for name in wanted.names):
                found |= {name: wanted for name in wanted.names if name not in found}
    return tuple(dict.fromkeys(found.values()))


def _has_parts_only(settings: Settings) -> bool:
    return all("/" in site for site in settings.names.https)

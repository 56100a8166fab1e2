"""Definitions that are good on one machine, with words that are odd as names in a cluster, and the objects of each."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from instar.definition.load import parse
from instar.model.digest import Digest
from instar.model.environment import Settings
from instar.model.occurrence import Occurrence
from instar.model.release import Command, Configuration, EnvironmentId, Instance, Release
from instar.providers.kubernetes.door import Backend
from instar.providers.kubernetes.doors import NONE
from instar.providers.kubernetes.kinds import CONFIG_MAP, ROUTE, VOLUME_CLAIM, Kind
from instar.providers.kubernetes.names import Names
from instar.providers.kubernetes.objects import anchor, claim, group_objects
from instar.providers.kubernetes.package import KUBERNETES
from instar.providers.kubernetes.pod import Order
from instar.providers.kubernetes.route import route
from instar.providers.kubernetes.settings import Place
from instar.providers.package import release_settings_of
from instar.providers.router_plan import router_plan
from simulated.values import image as simulated_image

_L31 = "a" * 31
_TEXT = """\
name: {name}
image: {{base: scratch}}
service:
  command: [serve]
  port: 8080
  {service}
environments:
  {environment}:
    provider: kubernetes
    kubernetes:
      registry: registry.example/team/shop
      namespace: default
      {gateway}
      {section}
    listen: {listen}
    {more}
"""
_USUAL = {
    "name": "shop",
    "environment": "prod",
    "listen": "{http: [shop.example]}",
    "service": "",
    "gateway": "gateway: {name: public, namespace: gateways}",
    "section": "",
    "more": "",
}


def _volume(name: str, path: str = "/data") -> Mapping[str, str]:
    return {"service": f"volumes: [{{name: {name}, path: '{path}', access: shared}}]"}


def _hosts(count: int) -> Mapping[str, str]:
    return {"listen": f"{{http: [{', '.join(f'a{one}.example' for one in range(count))}]}}"}


GOOD: Mapping[str, Mapping[str, str]] = {
    "usual": {},
    "two dashes": {"name": "my--shop", "environment": "a--b", **_volume("a--b")},
    "one letter": {"name": "a", "environment": "b", **_volume("c")},
    "the longest": {"name": _L31, "environment": "b" * 16, **_volume(_L31)},
    "odd paths": _volume("data", "/srv/a b,$(X) ü"),
    "odd variables": {"more": f"config: {{_a9: x, {'A' * 253}: w}}"},
    "odd secrets": {"more": f"secrets: {{_a9: {{file: t}}, {'A' * 253}: {{file: t}}}}"},
    "odd ports": {
        "service": f"ports: {{very-long-name-of: 9001, a-: 9002, a--b: 9003, own: 9004, service: 9005, {_L31}: 9006}}"
    },
    "odd entry": {"more": f"schedule: {{{'a' * 30 + '-'}: {{cron: '0 2 * * *', command: [tidy]}}}}"},
    "long times": {"service": "timeouts: {request: 576h}\n  stop: {grace: 576h}\n  health: {path: /, deadline: 576h}"},
    "a time of six digits": {"service": "timeouts: {request: 100s}"},
    "two numbers behind a gateway": {"environment": "prod-7-1"},
    "a number": {"environment": "prod-7", "section": "inside: true"},
    "16 names": _hosts(16),
    "33 names": _hosts(33),
    "a name of one letter": {"listen": "{http: [a]}"},
    "an odd path": {"listen": "{http: ['xn--a.example/a-b/c_d~e.f']}"},
    "network": {"more": f"network: {{allow: [{{to: a/b--c, ports: [53/udp]}}, {{to: {_L31}/{_L31}}}]}}"},
    "tolerations": {"section": "tolerations: [{key: a, effect: NoExecute, stay: 10s}, {key: b}, {effect: NoSchedule}]"},
    "spread": {"section": "spread: [{label: a}, {label: a, required: true}, {label: b}]"},
    "annotations": {"section": f"annotations: {{a: {'x' * 260_000}}}"},
}
BAD: Mapping[str, tuple[str, Mapping[str, str]]] = {
    "service": ("the name of the service, 'shop-'", {"name": "shop-"}),
    "environment": ("the name of the environment, 'prod-'", {"environment": "prod-"}),
    "volume": ("the name of the volume 'data-'", _volume("data-")),
    "whom it talks to": ("'network.allow' names 'db/main-'", {"more": "network: {allow: [{to: db/main-}]}"}),
    "time of no eviction": ("says 'stay'", {"section": "tolerations: [{key: a, effect: NoSchedule, stay: 10s}]"}),
    "time of any effect": ("says 'stay'", {"section": "tolerations: [{key: a, stay: 10s}]"}),
    "value of no key": ("says the value 'b'", {"section": "tolerations: [{value: b}]"}),
    "label twice": ("has the label 'a' more than once", {"section": "spread: [{label: a}, {label: a, skew: 2}]"}),
    "annotations": ("'kubernetes.annotations' has", {"section": f"annotations: {{a: {'x' * 262_200}}}"}),
}

AMISS: Mapping[str, tuple[str, Mapping[str, str]]] = {  # the API takes it, and Instar does not
    "two numbers": ("'prod-7-1', ends with two numbers", {"environment": "prod-7-1", "section": "inside: true"}),
    "two numbers and no gateway": (
        "its Service would be 'shop-prod-7-1', as a release of 'shop-prod'",
        {"environment": "prod-7-1", "gateway": "", "listen": "internal"},
    ),
    "201 routes": ("need 201 routes, and 200", _hosts(16 * 200 + 1)),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Written:
    """What a definition of such words says of its only environment."""

    environment: EnvironmentId
    settings: Settings
    configuration: Configuration

    @classmethod
    def of(cls, changed: Mapping[str, str]) -> Written:
        loaded = parse(_TEXT.format(**{**_USUAL, **changed}), "instar.yaml").definition
        (found,) = loaded.environments.values()
        settings = Settings.of(found)
        configuration = Configuration.of(
            loaded,
            found.name,
            config=found.config,
            secrets=dict.fromkeys(found.secrets, Digest.of(b"")),
            provider_settings=release_settings_of(KUBERNETES, settings),
            secret_variables=found.secret_variables,
            schedule=found.schedule,
        )
        environment = EnvironmentId(service=loaded.name, name=found.name)
        return cls(environment=environment, settings=settings, configuration=configuration)

    def objects(self) -> list[tuple[Kind, Mapping[str, Any]]]:
        """Return all that is made for a release of a large number: a group, what is due by the clock, the route."""
        at, image, place = datetime(2026, 11, 30, 2, tzinfo=UTC), simulated_image(), Place.of(self.settings)
        names = Names(environment=self.environment, ledger="0a1b2c3d")
        release = Release(
            environment=self.environment,
            number=12345,
            image=image.digest,
            configuration=self.configuration,
            created_at=at,
        )
        made: list[tuple[Kind, Mapping[str, Any]]] = [
            (VOLUME_CLAIM, claim(names, one, place.storage_class)) for one in release.service.volumes
        ]
        due = [Occurrence(entry=name, due_at=at).name for name in self.configuration.schedule]
        for serial, task in enumerate([None, *due], 1234):
            group = Instance(
                id=f"{names.route}-12345-{serial}",
                serial=serial,
                environment=self.environment,
                release=release.number,
                created_at=at,
                members=1 if task else 2,
                task=task,
                command=Command(argv=("tidy",)) if task else None,
            )
            order = Order(names=names, group=group, release=release, image=image, place=place)
            objects = group_objects(order, dict.fromkeys(self.configuration.secrets, b"x"))
            made += [(CONFIG_MAP, anchor(order, objects)), *objects]
        assert place.gateway is not None
        plan, kind = router_plan(self.environment, self.settings, release), {"apiVersion": ROUTE.api_version}
        doors = NONE.planned(plan, lambda group, port: None)
        doors = doors.exposing({f"{names.route}-12345-1234": {"": Backend(port=8080, weight=100)}})
        for part, door in doors.parts.items():
            made.append((ROUTE, {**kind, "kind": ROUTE.name, **route(door, names, place.gateway, part)}))
        return made

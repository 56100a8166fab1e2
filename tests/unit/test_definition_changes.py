"""Whatever a definition says can be said again in its own words and units."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from instar.definition import Loaded, parse
from instar.definition.changes import (
    configuration_changes,
    configuration_words,
    first_changes,
    settings_changes,
    settings_words,
)
from instar.model.configuration import Configuration
from instar.model.definition import Health, Service
from instar.model.digest import Digest
from instar.model.environment import Settings
from instar.model.roles import UNNAMED_ROLE
from instar.model.uses import Used

HEAD = "name: shop\nimage: {base: debian:bookworm}\n"
SERVICE = """\
service:
  command: [serve, --port, "8080", "yes", "a: b"]
  port: 8080
  ports: {admin: 9000, feed: {port: 9001, protocol: tcp}}
  keep_alive: 5s
  health: {path: /healthz, interval: 250ms, deadline: 1m30s}
  timeouts: {wait: 30s, stream: 2h}
  headers: {size: 16K}
  stop: {signal: SIGINT, grace: 2500ms}
  limits: {memory: 96M, cpus: 0.25, pids: 40}
  volumes: [{name: data, path: /data, access: shared, size: 1G}]
  tmp: {size: 1M}
  capabilities: [CAP_SYS_NICE]
  smoke: [{path: /version, contains: "1"}]
  before: [{command: [migrate], timeout: 5m, volumes: []}]
  data: {version: 4, reads: [3, 4]}
"""
ENVIRONMENT = """\
    listen: {service: [127.0.0.1:81, {https: [shop.example, www.example/a], redirect: {a.example: shop.example}, hsts: 24h}],
      service.admin: {https: admin.example}, service.feed: ["127.0.0.1:90", "[::1]:90"]}
    tls: {certificate: tls/shop.pem, key: tls/shop.key}
    accept_proxy: 10.0.0.7
    requests: {largest_body: 10M, rate: {requests: 100, within: 10s}}
    compression: {types: [text/html]}
    access_log: true
    instances: 3
    preview: header
    rollout: {strategy: canary, steps: [5, {weight: 20, pause: manual}, 50], pause: 2m, watch: 10m,
      analysis: {max_failed: 0.5, max_slower: 1.25, slower_than: 30ms, quiet: pass, checks: [{url: "https://a.example/x"}]}}
    replace: {within: 20m, max_age: 24h}
    drift: {check: never, action: replace, ignore: [{kind: listener, path: "*:9", reason: debug, until: 2030-01-31}]}
    network: {allow: [{to: db/production, ports: [5432, 53/udp]}, {to: machine}], connections: 100}
    keep: {hot: 2, releases: 9}
"""  # noqa: E501  a definition has lines of its own length
STEPS = "[{weight: 5, pause: 2m}, {weight: 20, pause: manual}, {weight: 50, pause: 2m}]"
ROLES = """\
roles:
  web: {command: [serve], port: 80, health: {tcp: true}}
  api: {command: [serve], port: 81, instances: 2}
  worker: {command: [work], with: before, health: {command: [test, -e, /tmp/ready]}}
"""
BY_ROLE = """\
    listen: {web: internal, api: {http: api.example}}
    roles: {api: {instances: 4}, worker: {with: traffic}}
"""
PLAIN = f"{HEAD}service: {{command: [serve], port: 8080}}\nenvironments:\n  dev: {{listen: '127.0.0.1:81'}}\n"


def loaded(text: str) -> Loaded:
    return parse(text, "instar.yaml")


def configured(found: Loaded, **more: Any) -> Configuration:
    one = found.definition.environments["dev"]
    given = {"config": one.config, "schedule": one.schedule, "secrets": {}, "provider_settings": {}, **more}
    return Configuration.of(found.definition, "dev", **given)


def settings(found: Loaded) -> Settings:
    return Settings.of(found.definition.environments["dev"])


def said(before: Loaded, after: Loaded) -> dict[str, tuple[str | None, str | None]]:
    changes = (
        *configuration_changes(configured(before), configured(after), "local"),
        *settings_changes(settings(before), settings(after), after.definition.first_role),
    )
    return {one.what: (one.before, one.after) for one in changes}


def besides(value: Any, usual: Any) -> Any:
    """What somebody had to write: not what holds anyway, some of which stands beside other keys only."""
    if isinstance(value, dict) and isinstance(usual, dict):
        return {key: besides(one, usual.get(key)) for key, one in value.items() if one not in (usual.get(key), {}, [])}
    return value


@pytest.mark.parametrize(("runs", "here"), [(SERVICE, ENVIRONMENT), (ROLES, BY_ROLE)], ids=["service", "roles"])
def test_words_are_read_as_what_they_were_made_of(runs: str, here: str) -> None:
    found = loaded(f"{HEAD}{runs}environments:\n  dev:\n{here}")
    first = found.definition.first_role
    own = configuration_words(configured(found), first, "local")
    environment = settings_words(settings(found), first)
    usual = Configuration(service=Service(command=(), health=Health(kind="none")))
    of_roles = {"roles": {key: {"instances": 1, "with": "traffic"} for key in found.definition.roles}}
    of_one, of_all = (
        configuration_words(usual, UNNAMED_ROLE, "local")["service"],
        {**settings_words(Settings(), first), **of_roles},
    )
    runs_as = {"service": besides(own.get("service", {}), of_one)} if first == UNNAMED_ROLE else {
        "roles": {name: besides(one, of_one) for name, one in own["roles"].items()}
    }  # fmt: skip
    again = loaded(
        HEAD + yaml.safe_dump({**runs_as, "environments": {"dev": besides(environment, of_all)}}, sort_keys=False)
    )
    assert settings(again) == settings(found)
    assert configured(again) == configured(found)


def test_a_change_is_said_in_the_units_of_the_definition() -> None:
    before = loaded(f"{HEAD}{SERVICE}environments:\n  dev:\n{ENVIRONMENT}")
    changed = f"{HEAD}{SERVICE}environments:\n  dev:\n{ENVIRONMENT}"
    for old, new in (
        ("96M", "1G"), ("2500ms", "10s"), ("cpus: 0.25", "cpus: 1.0"), ("max_failed: 0.5", "max_failed: 1"),
        ("pause: manual", "pause: 1m"), ("check: never", "check: 60s"), ("[3, 4]", "[4]"),
        ("admin: 9000", "admin: 9002"),
        ("access_log: true", "access_log: false"), ("90\"", "99\""), ("admin.example", "b.example"),
    ):  # fmt: skip
        assert old in changed
        changed = changed.replace(old, new, 1)
    assert said(before, loaded(changed)) == {
        "access_log": ("true", "false"),
        "drift.check": ("never", "1m"),
        "listen.service.admin.https": ("admin.example", "b.example"),
        "listen.service.feed": ("['127.0.0.1:90', '[::1]:90']", "['127.0.0.1:99', '[::1]:90']"),
        "rollout.analysis.max_failed": ("0.5", "1.0"),
        "rollout.steps": (STEPS, STEPS.replace("manual", "1m")),
        "service.data.reads": ("[3, 4]", "[4]"),
        "service.limits.cpus": ("0.25", "1.0"),
        "service.limits.memory": ("96M", "1G"),
        "service.ports.admin": ("9000", "9002"),
        "service.stop.grace": ("2s500ms", "10s"),
    }
    assert said(before, before) == {}


def test_what_environments_give_is_said_as_they_say_it() -> None:
    plain = loaded(PLAIN)
    more = PLAIN.replace("{listen: '127.0.0.1:81'}", "{listen: internal, config: {A: ''}, schedule: {n: {command: [x], "
        "every: 15m}}}")  # fmt: skip
    found = said(plain, loaded(more))
    assert found["listen"] == ("127.0.0.1:81", "internal")
    assert found["config.A"] == (None, '""')
    assert found["schedule.n.every"] == (None, "15m") and found["schedule.n.timeout"] == (None, "1h")
    assert "schedule.n.cron" not in found
    token, other = Digest.of(b"token"), Digest.of(b"other")
    before = configured(plain, secrets={"TOKEN": token}, uses=(Used(environment="db/dev", port=1),))
    after = configured(
        plain, secrets={"TOKEN": other}, secret_variables=("TOKEN",), uses=(Used(environment="db/dev", port=2),)
    )
    assert {one.what: (one.before, one.after) for one in configuration_changes(before, after, "local")} == {
        "secrets.TOKEN": (f"(a secret, {token.short})", f"(a secret, {other.short})"),
        "secrets.TOKEN.variable": (None, "true"),
        "uses": ("['db/dev at db.internal:1']", "['db/dev at db.internal:2']"),
    }
    assert not [
        one for one in configuration_changes(before, after, "local", values=False) if one.what == "secrets.TOKEN"
    ]


def test_a_door_that_is_added_is_the_only_change() -> None:
    ports = PLAIN.replace("port: 8080}", "port: 8080, ports: {admin: 9000}}")
    before = loaded(ports)
    after = loaded(ports.replace("listen: '127.0.0.1:81'", "listen: {service: '127.0.0.1:81', service.admin: ':90'}"))
    assert said(before, after) == {"listen.service.admin": (None, "0.0.0.0:90")}
    assert said(after, before) == {"listen.service.admin": ("0.0.0.0:90", None)}


def test_a_role_of_another_name_is_a_change_and_not_all_of_it_new() -> None:
    plain = loaded(PLAIN)
    role = PLAIN.replace("service: {", "roles:\n  web: {")
    assert said(plain, loaded(role)) == {
        "roles": ("service", "web"), "roles.web.instances": (None, "1"), "roles.web.with": (None, "traffic"),
    }  # fmt: skip


def test_settings_of_a_provider_are_said_by_its_own_section_or_as_they_are_kept() -> None:
    kept = {"namespace": "a", "requests": {"cpus_milli": 500, "memory_bytes": None}, "network": {"allow": []}}
    (one, *_) = changes = configuration_changes(
        configured(loaded(PLAIN)), configured(loaded(PLAIN), provider_settings=kept), "kubernetes"
    )
    assert {each.what: each.after for each in changes} == {
        "kubernetes.namespace": "a", "kubernetes.requests.cpus": "0.5",
    }  # fmt: skip
    assert one.kind == "release"
    odd = configured(loaded(PLAIN), provider_settings={"pre_stop_ms": "soon", "tolerations": 3})
    changes = configuration_changes(configured(loaded(PLAIN)), odd, "kubernetes")
    assert {each.what for each in changes} == {"kubernetes.pre_stop_ms", "kubernetes.tolerations"}
    (change,) = configuration_changes(
        configured(loaded(PLAIN)), configured(loaded(PLAIN), provider_settings={"nice": 3}), "elsewhere"
    )
    assert (change.what, change.after) == ("elsewhere.nice", "3")


def test_what_a_release_has_of_a_provider_s_section_is_not_said_again_of_the_settings() -> None:
    before = {"namespace": "a", "pull_secret": "old", "evidence_ms": 1000}
    after = {"namespace": "a", "pull_secret": "new", "evidence_ms": 2000}
    plain = loaded(PLAIN)
    released = configuration_changes(
        *(configured(plain, provider_settings={"pull_secret": one["pull_secret"]}) for one in (before, after)),
        "kubernetes",
    )
    own = (Settings(provider="kubernetes", provider_settings=one) for one in (before, after))
    found = (*released, *settings_changes(*own, UNNAMED_ROLE, released=released))
    assert [(one.kind, one.what) for one in found] == [
        ("release", "kubernetes.pull_secret"),
        ("settings", "kubernetes.evidence"),
    ]


def test_of_a_first_release_is_said_what_its_author_wrote_its_limits_and_how_many_instances() -> None:
    text = f"""{HEAD}{ROLES}environments:
  dev:
    listen: {{web: 127.0.0.1:80, api: 127.0.0.1:81}}
    roles: {{worker: {{instances: 3}}}}
    rollout: {{strategy: canary, steps: [{{weight: 10, pause: 5m}}]}}
    config: {{GREETING: hello}}
    schedule: {{nightly: {{command: [report], cron: "0 3 * * *"}}}}
"""
    after = loaded(text)
    released = first_changes(configured(after), "local")
    found = (*released, *settings_changes(None, settings(after), after.definition.first_role, released=released))
    limits = {f"roles.{role}.limits": None for role in ("web", "api", "worker")}
    said = {one.what: one.after for one in found if one.what.rpartition(".")[0] not in limits}
    assert all(one.before is None for one in found)
    assert said == {
        "config.GREETING": "hello",
        "listen.api": "127.0.0.1:81",
        "listen.web": "127.0.0.1:80",
        "roles.api.command": "[serve]",
        "roles.api.health.tcp": "true",
        "roles.api.instances": "2",
        "roles.api.port": "81",
        "roles.web.command": "[serve]",
        "roles.web.health.tcp": "true",
        "roles.web.instances": "1",
        "roles.web.port": "80",
        "roles.worker.command": "[work]",
        "roles.worker.health.command": "[test, -e, /tmp/ready]",
        "roles.worker.instances": "3",
        "roles.worker.with": "before",
        "rollout.steps": "[{weight: 10, pause: 5m}]",
        "rollout.strategy": "canary",
        "schedule.nightly.command": "[report]",
        "schedule.nightly.cron": "0 3 * * *",
    }
    assert sum("limits" in one.what for one in found) == 9  # memory, cpus and pids, which are as usual


def test_of_a_provider_s_section_a_first_release_says_what_is_not_as_usual() -> None:
    after = loaded(
        f"{HEAD}{SERVICE}environments:\n  dev:\n    provider: kubernetes\n    listen: internal\n"
        "    kubernetes: {namespace: shop, registry: r.example/shop, pre_stop: 7s}\n"
    )
    found = settings_changes(None, settings(after), after.definition.first_role)
    assert {one.what: one.after for one in found} == {
        "instances": "1",
        "kubernetes.namespace": "shop",
        "kubernetes.pre_stop": "7s",
        "kubernetes.registry": "r.example/shop",
        "listen": "internal",
        "provider": "kubernetes",
    }

"""What a provider cannot give of a definition: the same lines by every verb, and nothing is asked or made for it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest

from instar.definition import load
from instar.errors import DefinitionError, InstarError
from instar.model.doors import Door
from instar.model.environment import Settings
from instar.model.release import EnvironmentId
from instar.model.roles import UNNAMED_ROLE
from instar.operations import deploy, documents, plan, unfit, validate
from instar.providers.kubernetes.package import KUBERNETES
from instar.providers.traits import Traits
from instar.providers.unfit import lacking
from instar.workspace import MachineWorkspace

CLUSTER = """\
name: {name}
image: {{base: scratch}}
service:
  command: [serve]
  port: 8080
  {service}
environments:
  {environment}:
    provider: kubernetes
    kubernetes: {{namespace: {namespace}, registry: registry.example/team/shop{section}}}
    listen: {listen}
    {more}
"""
USUAL = {
    "name": "shop",
    "service": "protocol: http",
    "environment": "prod",
    "namespace": "shop",
    "section": ", gateway: {name: public, namespace: gateways}",
    "listen": "{http: [shop.example]}",
    "more": "instances: 2",
}
BARE = {"section": "", "listen": "{http: [shop-prod.shop.svc]}"}
LISTEN_TCP = "{service: '127.0.0.1:80', service.feed: ':9000'}"
NOBODYS = f"sha256:{'0' * 64}"
IN = "environments.prod"
# what is written, and what is told of it: at a text of it, the first one, where it stands
ROWS: dict[str, tuple[dict[str, str], dict[str, str]]] = {
    "nothing": ({}, {}),
    "nothing of one without a gateway": (BARE, {}),
    "a namespace that is none": (
        {"namespace": "Shop_1"},
        {
            "Shop_1": "environments.prod.kubernetes.namespace: expected a name of at most 63 small letters, digits "
            "and '-', "
            "found 'Shop_1'; did you mean 'shop-1'?"
        },
    ),
    "a gateway that is none": (
        {"section": ", gateway: {name: A_b, namespace: g.h}"},
        {
            "A_b": f"{IN}.kubernetes.gateway.name: expected a name of at most 63 small letters, digits and '-', found "
            "'A_b'; did you mean 'a-b'?",
            "g.h": f"{IN}.kubernetes.gateway.namespace: expected a name of at most 63 small letters, digits and '-', "
            "found 'g.h'; did you mean 'g-h'?",
        },
    ),
    "a Secret, a class, a context and a toolbox that are none": (
        {"section": ", pull_secret: a_b, storage_class: Fast, context: a b, toolbox: 'busybox:1'"},
        {
            "a_b": f"{IN}.kubernetes.pull_secret: expected a name of small letters, digits, '-' and '.', found 'a_b'; "
            "did you mean 'a-b'?",
            "Fast": f"{IN}.kubernetes.storage_class: expected a name of small letters, digits, '-' and '.', found "
            "'Fast'; did you mean 'fast'?",
            "a b,": f"{IN}.kubernetes.context: expected the name of a context, found 'a b'; a context has no spaces in "
            "its name",
            "'busybox": f"{IN}.kubernetes.toolbox: expected an image by its digest, such as "
            "'registry.example.org/busybox@sha256:…', found 'busybox:1'; a tag can become another image",
        },
    ),
    "a Prometheus with a password": (
        {"section": ", prometheus: {url: 'http://a:b@c'}"},
        {
            "'http://a:b": f"{IN}.kubernetes.prometheus.url: expected an address such as "
            "'http://prometheus.monitoring.svc:9090', found one with a secret in it; write it without a name and a "
            "password"
        },
    ),
    "names that end with a dash": (
        {"name": "shop-", "service": "volumes: [{name: data-, path: /data, access: shared}]"},
        {
            "shop-\n": "name: the name of the service, 'shop-', ends with '-', and no label there does; name it "
            "otherwise",
            "data-,": "service.volumes.name: the name of the volume 'data-' ends with '-', and no object's there does; "
            "name it otherwise",
        },
    ),
    "a name that ends with a dash, without a gateway": (
        {**BARE, "environment": "prod-", "more": "access_log: true"},
        {
            "prod-:": "environments.prod-: the name of the environment, 'prod-', ends with '-', and no label there "
            "does; name it otherwise",
            "true": "environments.prod-.access_log: 'access_log' is the gateway's matter: it sees the requests, "
            "and has a log of its own; remove it",
        },
    ),
    "names that are too long together": (
        {"name": "s" * 31, "environment": "e" * 18},
        {
            "e" * 18: f"environments.{'e' * 18}: the names of service and environment have 49 characters together; "
            "expected at most 48"
        },
    ),
    "a name as a release's": (
        {**BARE, "environment": "prod-7-1", "listen": "{http: [shop-prod-7-1.shop.svc]}"},
        {
            "prod-7-1:": "environments.prod-7-1: the name of the environment, 'prod-7-1', ends with two numbers, and "
            "its "
            "Service would be 'shop-prod-7-1', as a release of 'shop-prod' may have one: name it otherwise"
        },
    ),
    "an address": (
        {"listen": "[':80', {http: [shop.example], address: '127.0.0.1:81'}]"},
        {
            "':80'": f"{IN}.listen: an address ('0.0.0.0:80') is of one machine; name it in 'listen'",
            "'127.0.0.1:81'": f"{IN}.listen: an address ('127.0.0.1:81') is of one machine; name it in 'listen'",
        },
    ),
    "an address of a further port": (
        {"service": "ports: {admin: 9000}", "listen": "{service: {http: [a.example]}, service.admin: ':9000'}"},
        {
            "':9000'": f"{IN}.listen: an address of the door 'admin' ('0.0.0.0:9000') is of one machine; give it a "
            "name: "
            "'{https: […]}'"
        },
    ),
    "an address of tcp, which has no names": (
        {**BARE, "service": "protocol: tcp\n  ports: {feed: {port: 9000, protocol: tcp}}", "listen": LISTEN_TCP},
        {
            "'127.0.0.1:80'": f"{IN}.listen: an address ('127.0.0.1:80') is of one machine; write 'internal'",
            "':9000'": f"{IN}.listen: an address of the door 'feed' ('0.0.0.0:9000') is of one machine; a port of tcp "
            "besides a role's first has no door there; remove it",
        },
    ),
    "what is the gateway's": (
        {
            "listen": "{https: [shop.example], hsts: 1h}",
            "more": "accept_proxy: 10.0.0.7\n    requests: {largest_body: 1M}\n    compression: {}\n    access_log: "
            "true\n"
            "    tls: internal\n    preview: 127.0.0.1:9090",
        },
        {
            "1h": f"{IN}.listen.hsts: 'listen.hsts' is the gateway's matter; remove it, and have the service answer "
            "with the header",
            "10.0.0.7": f"{IN}.accept_proxy: 'accept_proxy' is the gateway's matter; remove it, and name there what "
            "is in "
            "front of it",
            "requests:": f"{IN}.requests: 'requests' is the gateway's matter; remove it, and bound requests there",
            "compression:": f"{IN}.compression: 'compression' is the gateway's matter; remove it, and have the "
            "gateway compress, "
            "or the service",
            "true": f"{IN}.access_log: 'access_log' is the gateway's matter: it sees the requests, and has a log of "
            "its "
            "own; remove it",
            "internal": f"{IN}.tls: the certificates of its names are the gateway's; remove 'tls'",
            "127.0.0.1:9090": f"{IN}.preview: a preview has no address of its own there; write 'preview: header'",
        },
    ),
    "what is this machine's": (
        {"more": "network: {connections: 100, allow: [{to: 10.0.0.0/8}, {to: machine}, {to: db/main-}]}"},
        {
            "100": f"{IN}.network.connections: 'network.connections' is of this machine's own table; remove it",
            "machine": f"{IN}.network.allow.to: 'network.allow' names 'machine', and there is no one machine: name a "
            "network, or an environment",
            "db/main-": f"{IN}.network.allow.to: 'network.allow' names 'db/main-', and nothing is called so there: a "
            "name "
            "ends with '-'; remove it",
        },
    ),
    "tcp behind a gateway": (
        {"service": "protocol: tcp\n  health: {tcp: true}", "listen": "internal"},
        {
            "tcp\n": "service.protocol: a service of tcp has no route behind a gateway, since the Gateway API's v1 "
            "has no "
            "TCPRoute: leave 'kubernetes.gateway' away, and it is a Service of the cluster"
        },
    ),
    "shares of what is internal": (
        {"listen": "internal", "more": "rollout: {strategy: canary, steps: [5]}"},
        {
            "canary": f"{IN}.rollout.strategy: by 'listen: internal' a Service selects one release at a time, behind a "
            "gateway too: no share of it moves; write 'strategy: blue-green'"
        },
    ),
    "figures of nobody": (
        {"more": "rollout: {strategy: canary, steps: [5], pause: 1m, analysis: {}}"},
        {
            "analysis:": f"{IN}.rollout.analysis: nobody counts requests there: name a Prometheus in "
            "'kubernetes.prometheus', or add 'rollout.analysis.checks'"
        },
    ),
    "shares without a gateway": (
        {**BARE, "more": "rollout: {strategy: canary, steps: [5]}\n    preview: header"},
        {
            "canary": f"{IN}.rollout.strategy: without a gateway a Service selects one release at a time: a canary "
            "needs "
            "'kubernetes.gateway'",
            "header": f"{IN}.preview: a preview needs 'kubernetes.gateway'",
        },
    ),
    "a name without a gateway": (
        {**BARE, "listen": "{http: [shop-prod.shop.svc, shop.example]}"},
        {
            "shop.example": f"{IN}.listen: without 'kubernetes.gateway' it is reached in the cluster alone, as "
            "'listen: "
            "{http: [shop-prod.shop.svc]}', and not as 'shop.example'"
        },
    ),
    "the port of a Service": (
        {**BARE, "service": "ports: {admin: 80}"},
        {
            "80}": "service.ports.admin: its port 'admin' is 80, by which its Service shows the first one; give it "
            "another number"
        },
    ),
    "too many routes": (
        {"listen": f"{{http: [{', '.join(f'a{one}.example' for one in range(16 * 200 + 1))}]}}"},
        {"listen:": f"{IN}.listen: its names and paths need 201 routes, and 200 is the most that an environment has"},
    ),
    "words of pods": (
        {**BARE, "section": ", tolerations: [{key: a, stay: 10s}, {value: b}], spread: [{label: a}, {label: a}]"},
        {
            "10s": f"{IN}.kubernetes.tolerations.stay: 'kubernetes.tolerations' says 'stay', which is of taints of "
            "NoExecute: add 'effect: NoExecute'",
            "b}": f"{IN}.kubernetes.tolerations.value: 'kubernetes.tolerations' says the value 'b' and no 'key': one "
            "without a key is of any taint",
            "a}]}": f"{IN}.kubernetes.spread.label: 'kubernetes.spread' has the label 'a' more than once with "
            "'required: false'; remove one",
        },
    ),
    "annotations beyond measure": (
        {"section": f", gateway: {{name: public}}, annotations: {{a: {'x' * 262_200}}}"},
        {
            "annotations:": f"{IN}.kubernetes.annotations: 'kubernetes.annotations' has 262201 bytes, and a pod takes "
            "261120"
        },
    ),
}


@pytest.fixture
def workspace(tmp_path: Path) -> MachineWorkspace:
    return MachineWorkspace({"INSTAR_HOME": str(tmp_path / "home"), "HOME": str(tmp_path)}, lambda told: None)


def render(workspace: MachineWorkspace, file: Path, name: str) -> object:
    return documents.document(workspace, load(file), name, "kubernetes", KUBERNETES.documents["render"])


VERBS: dict[str, Callable[[MachineWorkspace, Path, str], object]] = {
    "validate": lambda workspace, file, name: validate.validate(load(file)),
    "deploy --plan": lambda workspace, file, name: plan.plan(workspace, load(file), name),
    "kubernetes render": render,
    "deploy": lambda workspace, file, name: deploy.deploy(workspace, load(file), name, image=NOBODYS),
}


def place(text: str, at: str) -> str:
    """Return the line and column, from 1, at which ``at`` first stands."""
    before = text[: text.index(at)]
    return f"{before.count(chr(10)) + 1}:{len(before) - before.rfind(chr(10))}"


def told(verb: str, workspace: MachineWorkspace, file: Path, name: str) -> list[str]:
    """Return what is wrong with a definition, as a verb says it; nothing where it goes on."""
    try:
        VERBS[verb](workspace, file, name)
    except DefinitionError as error:
        return [str(one).removeprefix(f"{file}:") for one in error.problems]
    except InstarError:  # there is no image, and no cluster
        return []
    return []


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("row", ROWS)
def test_all_that_a_cluster_cannot_give_is_told_at_its_line_by_every_verb(
    workspace: MachineWorkspace, tmp_path: Path, row: str, verb: str
) -> None:
    changed, expected = ROWS[row]
    file, values = tmp_path / "instar.yaml", {**USUAL, **changed}
    file.write_text(text := CLUSTER.format(**values))
    lines = [f"{place(text, at)}: {message}" for at, message in expected.items()]
    assert told(verb, workspace, file, values["environment"]) == lines
    assert not lines or not (tmp_path / "home").exists(), "nothing was made, not even a ledger"


LAYERED = """\
name: shop
image: {base: scratch}
roles:
  web: {command: [serve], port: 8080}
  db: {command: [serve], port: 5432, protocol: tcp, health: {tcp: true}}
defaults:
  access_log: true
environments:
  prod:
    provider: kubernetes
    kubernetes: {namespace: shop, registry: registry.example/shop, gateway: {name: public}}
    listen: {web: {https: [shop.example]}, db: '0.0.0.0:5432'}
    roles: {db: {volumes: [{name: main-, path: /data}]}}
  dev:
    listen: {web: 127.0.0.1:8081, db: internal}
    roles: {web: {instances: {min: 1, max: 3}}}
"""
IN_LAYERS = [
    "5:48: roles.db.protocol: a service of tcp has no route behind a gateway, since the Gateway API's v1 has no "
    "TCPRoute: leave 'kubernetes.gateway' away, and it is a Service of the cluster",
    "7:15: defaults.access_log: 'access_log' is the gateway's matter: it sees the requests, and has a log of its own; "
    "remove it",
    "12:48: environments.prod.listen: an address of the door 'db' ('0.0.0.0:5432') is of one machine; write 'internal'",
    "13:35: environments.prod.roles.db.volumes.name: the name of the volume 'main-' ends with '-', and no object's "
    "there does; name it otherwise",
]
OF_LOCAL = [
    "16:19: environments.dev.roles.web.instances: provider 'local' has no autoscaler ('instances: {min, max}'); write "
    "one number"
]


@pytest.mark.parametrize("verb", VERBS)
def test_what_stands_in_a_layer_is_told_where_it_stands(workspace: MachineWorkspace, tmp_path: Path, verb: str) -> None:
    (file := tmp_path / "instar.yaml").write_text(LAYERED)
    assert told(verb, workspace, file, "prod") == IN_LAYERS + (OF_LOCAL if verb == "validate" else [])


def test_a_role_that_is_internal_may_speak_tcp_behind_a_gateway(workspace: MachineWorkspace, tmp_path: Path) -> None:
    (file := tmp_path / "instar.yaml").write_text(LAYERED.replace("'0.0.0.0:5432'", "internal"))
    assert told("deploy", workspace, file, "prod") == IN_LAYERS[1:2] + IN_LAYERS[3:]


def test_what_would_have_a_group_s_name_for_its_service_is_told_where_a_role_is_internal(
    workspace: MachineWorkspace, tmp_path: Path
) -> None:
    text = LAYERED.replace("  prod:", "  prod-1-1:").replace("'0.0.0.0:5432'", "internal")
    (file := tmp_path / "instar.yaml").write_text(text)
    (found,) = [line for line in told("deploy", workspace, file, "prod-1-1") if "ends with two numbers" in line]
    assert "its Service would be 'shop-prod-1-1'" in found


def test_roles_are_found_by_name_where_a_provider_says_so() -> None:
    settings = Settings(provider="own", doors={"db": Door(internal=True)})
    own = EnvironmentId(service="shop", name="prod")
    uses = ("db/main", "db/main:reader")
    assert not list(lacking(Traits(finds_names=True, finds_roles=True), own, settings, uses))
    door, role = lacking(Traits(finds_names=True), own, settings, uses)
    assert door.told.startswith("provider 'own' does not reach a role by its name alone ('db: internal')")
    assert role.path == (*IN.split("."), "uses", 1)
    assert role.told.startswith("provider 'own' finds the first role of 'db/main:reader' by name alone")


@pytest.mark.parametrize("verb", ["deploy --plan", "deploy"])
def test_the_same_is_asked_of_every_provider(workspace: MachineWorkspace, tmp_path: Path, verb: str) -> None:
    (file := tmp_path / "instar.yaml").write_text(LAYERED)
    assert told(verb, workspace, file, "dev") == OF_LOCAL


def test_files_that_are_missing_are_told_with_it_in_the_order_of_the_lines(tmp_path: Path) -> None:
    more = "secrets: {TOKEN: {file: token}}\n    access_log: true"
    (file := tmp_path / "instar.yaml").write_text(CLUSTER.format(**{**USUAL, "listen": "':80'", "more": more}))
    with pytest.raises(DefinitionError) as raised:
        validate.validate(load(file))
    assert [one.line for one in raised.value.problems] == [11, 12, 13]
    assert "token" in raised.value.problems[1].message


def test_what_a_ledger_knows_is_held_against_it_but_by_validate(workspace: MachineWorkspace, tmp_path: Path) -> None:
    file = tmp_path / "instar.yaml"
    more = "network: {allow: [{to: db/main}]}"
    file.write_text(CLUSTER.format(**{**USUAL, "more": more}))
    own = Settings.of(load(file).definition.environments["prod"])
    workspace.ledger.save_settings(EnvironmentId(service="shop", name="prod"), own)
    workspace.ledger.save_settings(EnvironmentId(service="db", name="main"), Settings())
    file.write_text(CLUSTER.format(**{**USUAL, **BARE, "namespace": "other", "more": more}))
    moved = (
        "'shop/prod' cannot move: it is in context 'the current one', namespace 'shop', behind a gateway; instar "
        "destroy shop/prod first, or deploy to an environment of another name, and move the name"
    )
    for verb in ("deploy --plan", "kubernetes render", "deploy"):
        assert [line.partition(": ")[2] for line in told(verb, workspace, file, "prod")][:3] == [
            f"{IN}.kubernetes.gateway: {moved}",
            f"{IN}.kubernetes.namespace: {moved}",
            f"{IN}.listen: without 'kubernetes.gateway' it is reached in the cluster alone, as 'listen: {{http: "
            "[shop-prod.other.svc]}', and not as 'shop-prod.shop.svc'",
        ]
        assert told(verb, workspace, file, "prod")[3].endswith(
            "which is not in a cluster: name the network that it is in"
        )
    assert len(told("validate", workspace, file, "prod")) == 1


def test_how_a_promoted_release_runs_is_told_at_its_environment(workspace: MachineWorkspace, tmp_path: Path) -> None:
    (file := tmp_path / "instar.yaml").write_text(CLUSTER.format(**USUAL))
    loaded = load(file)
    environment, service = loaded.definition.environments["prod"], loaded.definition.services[UNNAMED_ROLE]
    unfit.require_fit(workspace, loaded, environment, {"": service})
    tcp = dataclasses.replace(service, protocol="tcp")
    with pytest.raises(DefinitionError, match=r":8:3: environments.prod: of the release that is promoted, a "):
        unfit.require_fit(workspace, loaded, environment, {"": tcp})

"""The objects of a group, and what stands in an environment's section: pure functions."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest
from kubernetes_values import ENV, SECTION, SERVICE, SETTINGS, World

from instar.errors import ProviderError, Refused
from instar.model.codec import canonical, from_json, to_json
from instar.model.configuration import Configuration
from instar.model.definition import Health, Limits, Service, Stop, Tmp, Volume
from instar.model.digest import Digest
from instar.model.image import Image, ImageConfig
from instar.model.release import Command, EnvironmentId, Instance, Release
from instar.providers.kubernetes.names import Names, environment_part
from instar.providers.kubernetes.objects import anchor, claim, digest_of, group_objects, owned
from instar.providers.kubernetes.pod import Order
from instar.providers.kubernetes.pod_settings import PodSettings, release_settings
from instar.providers.kubernetes.rights import NEEDED, roles
from instar.providers.kubernetes.settings import Place

NAMES = Names(environment=ENV, ledger="0a1b2c3d")
IMAGE = Image(
    digest=Digest.of(b"image"),
    config_digest=Digest.of(b"config"),
    config=ImageConfig(architecture="arm64", user="10001:10002", command=()),
    layers=(),
    created=0,
)


def order(service: Service = SERVICE, *, members: int = 3, section: dict[str, Any] | None = None, **more: Any) -> Order:
    settings = dataclasses.replace(SETTINGS, provider_settings={**SECTION, **(section or {})})
    own = release_settings(settings)
    release = Release(
        environment=ENV,
        number=7,
        image=IMAGE.digest,
        configuration=Configuration(service=service, provider_settings=own, **more),
        created_at=World.BEGAN,
    )
    group = Instance(
        id="shop-prod-7-12", serial=12, environment=ENV, release=7, created_at=World.BEGAN, members=members
    )
    return Order(names=NAMES, group=group, release=release, image=IMAGE, place=Place.of(settings))


def made(one: Order, secrets: dict[str, bytes] | None = None) -> dict[str, Any]:
    return {kind.name: found for kind, found in group_objects(one, secrets or {})}


def test_a_pod_is_the_image_by_its_digest_and_may_do_nothing_else() -> None:
    found = made(order())["Deployment"]["spec"]
    spec = found["template"]["spec"]
    (container,) = spec["containers"]
    assert container["image"] == f"registry.example/team/shop@{IMAGE.digest}"
    assert container["securityContext"] == {
        "readOnlyRootFilesystem": True,
        "allowPrivilegeEscalation": False,
        "privileged": False,
        "capabilities": {"drop": ["ALL"]},
    }
    assert spec["securityContext"] == {
        "runAsNonRoot": True,
        "runAsUser": 10001,
        "runAsGroup": 10002,
        "fsGroup": 10002,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    assert spec["automountServiceAccountToken"] is False
    assert spec["nodeSelector"] == {"kubernetes.io/arch": "arm64"}
    assert found["replicas"] == 3
    assert found["selector"]["matchLabels"].items() <= found["template"]["metadata"]["labels"].items()
    mounts = {one["mountPath"] for one in container["volumeMounts"]}
    assert mounts == {"/tmp", "/run", "/dev/shm"}
    assert all("emptyDir" in one for one in spec["volumes"])


def test_another_signal_is_the_containers_and_one_that_only_waits_has_none() -> None:
    odd = dataclasses.replace(SERVICE, stop=Stop(signal="SIGQUIT"))
    spec = made(order(odd))["Deployment"]["spec"]["template"]["spec"]
    ends = {"preStop": {"sleep": {"seconds": 5}}, "stopSignal": "SIGQUIT"}
    assert (spec["os"], spec["containers"][0]["lifecycle"]) == ({"name": "linux"}, ends)
    worker = dataclasses.replace(odd, port=None, health=Health(kind="none"))
    spec = made(order(worker))["Deployment"]["spec"]["template"]["spec"]
    assert spec["containers"][0]["lifecycle"] == {"stopSignal": "SIGQUIT"}
    running = dataclasses.replace(order(odd).group, task="run 1", command=Command(argv=("tidy",)))
    spec = made(dataclasses.replace(order(odd), group=running))["Job"]["spec"]["template"]["spec"]
    assert "os" not in spec and "lifecycle" not in spec["containers"][0]
    usual = made(order())["Deployment"]["spec"]["template"]["spec"]
    assert "os" not in usual and "stopSignal" not in usual["containers"][0]["lifecycle"]


def test_a_toolbox_waits_for_a_command_where_the_image_has_no_shell() -> None:
    toolbox = f"registry.example/busybox@sha256:{'a' * 64}"
    attended = order(section={"toolbox": toolbox})
    for has, shell in ((False, "/bin/sh"), (True, "/run/instar-toolbox/bin/sh")):
        command = Command(argv=("tidy",), toolbox=has)
        one = dataclasses.replace(attended, group=dataclasses.replace(attended.group, task="run 1", command=command))
        spec = made(one)["Job"]["spec"]["template"]["spec"]
        assert spec["containers"][0]["command"] == [shell, "-c", "read -r _"]
        volumes = [each for each in spec["volumes"] if each["name"] == "toolbox"]
        mounts = [each for each in spec["containers"][0]["volumeMounts"] if each["name"] == "toolbox"]
        assert volumes == ([{"name": "toolbox", "image": {"reference": toolbox, "pullPolicy": "IfNotPresent"}}] * has)
        assert mounts == ([{"name": "toolbox", "mountPath": "/run/instar-toolbox", "readOnly": True}] * has)
    with pytest.raises(Refused, match="there is no image for one"):
        made(dataclasses.replace(one, place=order().place))


def test_health_limits_and_stop_are_the_services() -> None:
    service = dataclasses.replace(
        SERVICE,
        health=Health(
            kind="http", path="/up", host="shop.example", interval_ms=500, timeout_ms=2_500, deadline_ms=20_000
        ),
        limits=Limits(memory_bytes=128 << 20, cpus_milli=500),
        stop=Stop(grace_ms=7_500),
        tmp=Tmp(size_bytes=8 << 20),
    )
    spec = made(order(service))["Deployment"]["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    question = {"path": "/up", "port": 8080, "httpHeaders": [{"name": "Host", "value": "shop.example"}]}
    assert container["readinessProbe"] == {
        "httpGet": question,
        "periodSeconds": 1,
        "timeoutSeconds": 3,
        "failureThreshold": 3,
    }
    assert container["startupProbe"]["failureThreshold"] == 20
    assert container["resources"] == {
        "limits": {"cpu": "500m", "memory": str(128 << 20)},
        "requests": {"cpu": "50m", "memory": str(128 << 20)},
    }
    assert container["lifecycle"] == {"preStop": {"sleep": {"seconds": 5}}}
    assert spec["terminationGracePeriodSeconds"] == 8 + 5
    assert {"name": "tmp", "emptyDir": {"medium": "Memory", "sizeLimit": str(8 << 20)}} in spec["volumes"]


@pytest.mark.parametrize(
    ("health", "asked"),
    [
        (Health(kind="tcp"), {"tcpSocket": {"port": 8080}}),
        (Health(kind="command", command=("check", "-q")), {"exec": {"command": ["check", "-q"]}}),
    ],
)
def test_every_kind_of_health_check_is_a_probe(health: Health, asked: dict[str, Any]) -> None:
    spec = made(order(dataclasses.replace(SERVICE, health=health)))["Deployment"]["spec"]["template"]["spec"]
    assert asked.items() <= spec["containers"][0]["readinessProbe"].items()


def test_a_worker_has_neither_a_service_nor_a_probe() -> None:
    found = made(order(Service(command=("work",), health=Health(kind="none")), members=1))
    assert list(found) == ["Deployment"]
    (container,) = found["Deployment"]["spec"]["template"]["spec"]["containers"]
    assert not {"readinessProbe", "startupProbe", "livenessProbe", "ports", "lifecycle"} & container.keys()


def test_config_and_secrets_are_immutable_and_found_where_every_provider_has_them() -> None:
    one = order(config={"GREETING": "hello", "PORT": "9"}, secrets={"TOKEN": Digest.of(b"")})
    found = made(one, {"TOKEN": b"s\x00cret"})
    assert list(found) == ["ConfigMap", "Secret", "Service", "PodDisruptionBudget", "Deployment"]
    assert found["ConfigMap"]["immutable"] is found["Secret"]["immutable"] is True
    assert found["Secret"]["data"] == {"TOKEN": "cwBjcmV0"}
    spec = found["Deployment"]["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    assert container["envFrom"] == [{"configMapRef": {"name": "shop-prod-7-12-config"}}]
    assert {"name": "secrets", "mountPath": "/run/secrets", "readOnly": True} in container["volumeMounts"]
    variables = {one["name"]: one.get("value") for one in container["env"]}
    assert "PORT" not in variables, "the definition's own counts"
    assert variables["INSTAR_RELEASE"] == "7"


def test_a_secret_that_is_a_variable_too_is_named_and_its_value_stays_in_the_secret() -> None:
    one = order(secrets={"TOKEN": Digest.of(b""), "PORT": Digest.of(b"")}, secret_variables=("PORT", "TOKEN"))
    found = made(one, {"TOKEN": b"hush", "PORT": b"9"})
    (container,) = found["Deployment"]["spec"]["template"]["spec"]["containers"]
    keys = [one["valueFrom"]["secretKeyRef"] for one in container["env"] if "secretKeyRef" in one.get("valueFrom", {})]
    assert keys == [{"name": "shop-prod-7-12-secrets", "key": name} for name in ("PORT", "TOKEN")]
    assert [one["name"] for one in container["env"]].count("PORT") == 1
    assert "hush" not in json.dumps(found["Deployment"])


def test_a_secrets_value_is_in_no_digest_of_the_anchor() -> None:
    one = order(secrets={"TOKEN": Digest.of(b"")})
    told = [anchor(one, group_objects(one, {"TOKEN": value}))["data"] for value in (b"a", b"b")]
    assert told[0] == told[1]
    assert told[0]["image"] == IMAGE.digest
    assert set(told[0]) >= {"made.Deployment.shop-prod-7-12", "made.Secret.shop-prod-7-12-secrets"}
    assert json.loads(json.dumps(told[0])) == told[0]


def test_what_is_made_is_owned_by_its_anchor_and_has_its_labels() -> None:
    one = order()
    for _, found in group_objects(one, {}):
        labels = found["metadata"]["labels"]
        assert NAMES.all_labels.items() <= labels.items()
        assert labels["instar/group"] == "shop-prod-7-12"
        (owner,) = owned(found, "shop-prod-7-12", "u-1")["metadata"]["ownerReferences"]
        assert (owner["kind"], owner["uid"], owner["blockOwnerDeletion"]) == ("ConfigMap", "u-1", True)
        assert digest_of(found) == digest_of(json.loads(json.dumps(found)))


def test_who_has_the_printed_roles_may_make_what_an_anchor_waits_for() -> None:
    """Some clusters ask for the right to change the owner's finalizers (OwnerReferencesPermissionEnforcement)."""
    (own,) = (one for one in roles("shop", None) if (one["kind"], one["metadata"]["name"]) == ("Role", "instar"))
    rule = {"apiGroups": [""], "resources": ["configmaps/finalizers"], "verbs": ["update"]}
    assert rule in own["rules"]
    assert not any(one.resource == "configmaps/finalizers" for one in NEEDED), "elsewhere nobody lacks it"


def test_keys_of_the_section_reach_the_pod() -> None:
    section = {
        "pull_secret": "pull",
        "node_selector": ["disk=ssd"],
        "user_namespaces": True,
        "pre_stop_ms": 0,
        "requests": {"cpus_milli": 9_999, "memory_bytes": 64 << 20},
        "tolerations": [
            {"taint_key": "gpu", "value": None, "effect": "NoSchedule", "stay_ms": None},
            {"taint_key": "spot", "value": "yes", "effect": "NoExecute", "stay_ms": 90_000},
        ],
        "annotations": {"prometheus.io/scrape": "true"},
        "spread": [{"label": "topology.kubernetes.io/zone", "skew": 2, "required": True}],
    }
    template = made(order(section=section))["Deployment"]["spec"]["template"]
    assert template["metadata"]["annotations"].items() >= {"prometheus.io/scrape": "true"}.items()
    spec = template["spec"]
    assert spec["tolerations"] == [
        {"key": "gpu", "operator": "Exists", "effect": "NoSchedule"},
        {"key": "spot", "operator": "Equal", "value": "yes", "effect": "NoExecute", "tolerationSeconds": 90},
    ]
    (spread,) = spec["topologySpreadConstraints"]
    told = (spread["topologyKey"], spread["maxSkew"], spread["whenUnsatisfiable"])
    assert told == ("topology.kubernetes.io/zone", 2, "DoNotSchedule")
    assert spec["imagePullSecrets"] == [{"name": "pull"}]
    assert spec["nodeSelector"] == {"kubernetes.io/arch": "arm64", "disk": "ssd"}
    assert spec["hostUsers"] is False
    assert "lifecycle" not in spec["containers"][0]
    assert spec["containers"][0]["resources"]["requests"] == {"cpu": "1", "memory": str(64 << 20)}


def test_what_pods_are_made_of_is_part_of_the_release_and_what_is_usual_is_not() -> None:
    usual = order(section={"node_selector": [], "annotations": {}, "pre_stop_ms": 5_000, "storage_class": "fast"})
    assert usual.release.configuration.provider_settings == {}
    assert b"provider_settings" not in canonical(usual.release.configuration), "older releases keep their digests"
    fast = order(section={"node_selector": ["disk=ssd"]}).release.configuration
    assert fast.digest != usual.release.configuration.digest
    assert from_json(Configuration, to_json(fast)) == fast


def test_of_two_releases_each_keeps_its_own_whatever_the_section_says_now() -> None:
    old, new = order(section={"node_selector": ["disk=ssd"]}), order()
    again = dataclasses.replace(old, place=new.place)
    assert made(again) == made(old)


def test_a_volume_is_a_claim_that_nothing_owns() -> None:
    volume = Volume(name="data", path="/var/lib/shop", access="shared", size_bytes=2 << 30)
    service = dataclasses.replace(SERVICE, volumes=(volume,))
    spec = made(order(service))["Deployment"]["spec"]["template"]["spec"]
    assert {"name": "volume-data", "persistentVolumeClaim": {"claimName": "shop-prod-data"}} in spec["volumes"]
    found = claim(NAMES, volume, "fast")
    assert found["spec"] == {
        "accessModes": ["ReadWriteMany"],
        "resources": {"requests": {"storage": str(2 << 30)}},
        "storageClassName": "fast",
    }
    assert "ownerReferences" not in found["metadata"]


@pytest.mark.parametrize("user", ["0:0", "1:0", "app"])
def test_an_image_whose_user_is_root_is_not_run(user: str) -> None:
    one = dataclasses.replace(
        order(), image=dataclasses.replace(IMAGE, config=dataclasses.replace(IMAGE.config, user=user))
    )
    with pytest.raises(ProviderError, match="the image's user"):
        group_objects(one, {})


def test_names_fit_and_ids_are_told_apart() -> None:
    assert environment_part("a-b-prod-12-3") == "a-b-prod"
    assert environment_part("nonsense") is None
    long = Names(environment=EnvironmentId(service="a" * 40, name="b" * 40), ledger="0a1b2c3d")
    with pytest.raises(ProviderError, match="at most 63 characters"):
        long.route  # noqa: B018


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("namespace", "../kube-system"),
        ("namespace", None),
        ("registry", "http://x"),
        ("registry", None),
        ("context", "a\nb"),
        ("gateway", {"name": "a/b"}),
        ("pull_secret", "A b"),
    ],
)
def test_what_somebody_else_wrote_into_the_ledger_is_not_taken_for_a_name(key: str, value: Any) -> None:
    settings = dataclasses.replace(SETTINGS, provider_settings={**SECTION, key: value})
    with pytest.raises(Refused, match=rf"kubernetes\.{key}"):
        Place.of(settings)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("node_selector", ["no label"]),
        ("node_selector", "disk=ssd"),
        ("pull_secret", "A b"),
        ("requests", {"cpus_milli": "1"}),
        ("tolerations", [{"effect": "Never"}]),
        ("tolerations", [{"taint_key": "a b"}]),
        ("tolerations", ["gpu"]),
        ("annotations", {"a b": "c"}),
        ("annotations", {"instar/image": "other"}),
        ("annotations", {"container.apparmor.security.beta.kubernetes.io/service": "unconfined"}),
        ("annotations", {"kubernetes.io/config.mirror": "x"}),
        ("annotations", {"a": 1}),
        ("spread", [{"label": None}]),
        ("pre_stop_ms", -1),
    ],
)
def test_what_somebody_else_wrote_into_a_release_is_not_taken_for_a_field(key: str, value: Any) -> None:
    with pytest.raises(Refused, match=rf"kubernetes\.{key.removesuffix('_ms')}"):
        PodSettings.of(order(section={key: value}).release)

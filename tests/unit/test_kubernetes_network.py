"""``network.allow`` as a NetworkPolicy of a release: the object, what is part of the release, what is refused."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from kubernetes_values import ENV, SERVICE, SETTINGS, WITHOUT_GATEWAY, World

from cluster_stub import ClusterStub
from instar.definition import cluster_forms
from instar.definition.forms import Misfit
from instar.errors import Refused
from instar.model.definition import Health, Service
from instar.model.environment import Allow, Network, Settings
from instar.model.release import EnvironmentId
from instar.providers.kubernetes.network import ReleaseNetwork, network_labels
from instar.providers.kubernetes.package import KUBERNETES
from instar.providers.kubernetes.pod_settings import PodSettings

ALLOW = (
    Allow(to="database/production", ports=("5432/tcp",)),
    Allow(to="10.9.0.0/16", ports=("53/udp", "8125/udp")),
    Allow(to="192.168.7.0/24"),
)


def with_network(settings: Settings = SETTINGS, **section: Any) -> Settings:
    own = {**settings.provider_settings, **section}
    return dataclasses.replace(settings, network=Network(allow=ALLOW), provider_settings=own)


def policy_of(settings: Settings, stub: ClusterStub, home: Path, service: Service = SERVICE) -> Any:
    world = World(stub, home, settings)
    release = world.release(service=service, provider_settings=KUBERNETES.release_settings(settings))
    world.create(release)
    return stub.one("networkpolicies", "shop-prod-1-1")["spec"]


def test_pods_reach_names_the_world_and_what_is_allowed(stub: ClusterStub, tmp_path: Path) -> None:
    spec = policy_of(with_network(), stub, tmp_path)
    assert spec["podSelector"] == {"matchLabels": {"instar/network": "shop-prod-1-1"}}, "also of one that was set aside"
    assert spec["policyTypes"] == ["Egress", "Ingress"]
    dns, world, database, other, any_port = spec["egress"]
    assert dns == {"ports": [{"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP"}]}
    four, six = (one["ipBlock"] for one in world["to"])
    assert (four["cidr"], six["cidr"]) == ("0.0.0.0/0", "::/0")
    assert {"10.0.0.0/8", "169.254.0.0/16", "192.168.0.0/16"} <= set(four["except"])
    labels = database["to"][0]["podSelector"]["matchLabels"]
    assert labels.items() >= {"instar/service": "database", "instar/environment": "production"}.items()
    assert labels["instar/ledger"] == "0a1b2c3d", "of another ledger's environment of that name nothing is open"
    assert database["ports"] == [{"port": 5432, "protocol": "TCP"}]
    assert other == {
        "to": [{"ipBlock": {"cidr": "10.9.0.0/16"}}],
        "ports": [{"port": 53, "protocol": "UDP"}, {"port": 8125, "protocol": "UDP"}],
    }
    assert any_port == {"to": [{"ipBlock": {"cidr": "192.168.7.0/24"}}]}


def test_requests_come_from_the_gateway_and_from_who_names_the_environment(stub: ClusterStub, tmp_path: Path) -> None:
    spec = policy_of(with_network(senders=["envoy-system", "10.0.0.0/24"]), stub, tmp_path)
    gateway, envoy, server, others = spec["ingress"][0]["from"]
    names = [one["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"] for one in (gateway, envoy)]
    assert names == ["gateways", "envoy-system"]
    assert server == {"ipBlock": {"cidr": "10.0.0.0/24"}}
    asked_for = others["podSelector"]["matchLabels"]
    assert asked_for["instar/to-shop.prod"] == "0a1b2c3d"

    pod = stub.one("pods", "shop-prod-1-1-0")["metadata"]["labels"]
    assert pod["instar/to-database.production"] == "0a1b2c3d", "so the database's own policy lets it in"


def test_what_is_reached_in_the_cluster_alone_is_reached_by_all_of_it(stub: ClusterStub, tmp_path: Path) -> None:
    spec = policy_of(with_network(WITHOUT_GATEWAY), stub, tmp_path)
    assert spec["policyTypes"] == ["Egress"]
    assert "ingress" not in spec


def test_nobody_gets_to_a_worker(stub: ClusterStub, tmp_path: Path) -> None:
    worker = Service(command=("work",), health=Health(kind="none"))
    spec = policy_of(with_network(), stub, tmp_path, worker)
    assert (spec["policyTypes"], spec["ingress"]) == (["Egress", "Ingress"], [])


def test_it_is_part_of_a_release_and_without_it_nothing_is_made(stub: ClusterStub, tmp_path: Path) -> None:
    assert KUBERNETES.release_settings(SETTINGS) == {}
    world = World(stub, tmp_path)
    world.create(world.release())
    assert stub.names("networkpolicies") == []
    release = world.release(provider_settings=KUBERNETES.release_settings(with_network()))
    assert release.configuration.digest != world.release().configuration.digest
    network = PodSettings.of(release).network
    assert network is not None and network.allow == ALLOW and network.senders == ("gateways",)


@pytest.mark.parametrize(
    ("network", "told"),
    [
        (Network(allow=(Allow(to="machine", ports=("1/tcp",)),)), "names 'machine', and there is no one machine"),
        (Network(allow=(Allow(to="cache/dev"),)), "names 'cache/dev', which is not in a cluster"),
        (Network(connections=100), "'network.connections' is of this machine's own table"),
    ],
)
def test_what_no_policy_can_say_is_refused(stub: ClusterStub, tmp_path: Path, network: Network, told: str) -> None:
    world = World(stub, tmp_path)
    world.settings[EnvironmentId(service="cache", name="dev")] = Settings(listen=("127.0.0.1:1",))
    settings = dataclasses.replace(SETTINGS, network=network)
    with pytest.raises(Refused, match=told):
        world.provider.preflight(ENV, settings, SERVICE, launching=True)
    assert stub.asked == []


def test_a_deploy_says_that_nobody_knows_who_holds_it(stub: ClusterStub, tmp_path: Path) -> None:
    world = World(stub, tmp_path)
    (told,) = world.provider.preflight(ENV, with_network(), SERVICE, launching=True)
    assert "whether it is held to is up to the cluster's network plugin" in told
    assert world.provider.preflight(ENV, SETTINGS, SERVICE, launching=True) == ()


@pytest.mark.parametrize(
    "network",
    [
        {"allow": [{"to": "../etc", "ports": []}], "senders": None},
        {"allow": [{"to": "10.0.0.1/8", "ports": []}], "senders": None},
        {"allow": [{"to": "10.0.0.0/8", "ports": ["99999/tcp"]}], "senders": None},
        {"allow": [], "senders": ["A B"]},
        {"allow": "all"},
    ],
)
def test_what_somebody_else_wrote_is_no_policy(stub: ClusterStub, tmp_path: Path, network: Any) -> None:
    world = World(stub, tmp_path)
    with pytest.raises(Refused, match=r"kubernetes\.network"):
        world.create(world.release(provider_settings={"network": network}))
    assert stub.names("configmaps") == [], "nothing was made"


def test_no_two_environments_are_reached_by_one_label() -> None:
    names = [f"{'s' * 30}/{'n' * 31}{end}" for end in "ab"] + [f"{'s' * 30}/{'n' * 29}"]
    allow = tuple(Allow(to=name) for name in names)
    labels = network_labels(ReleaseNetwork(allow=allow, senders=None), "shop-prod-1-1", "0a1b2c3d")
    words = [label.removeprefix("instar/") for label in labels if label.startswith("instar/to-")]
    assert len(words) == 3
    assert all(len(word) <= 63 and word[-1].isalnum() for word in words)
    assert f"to-{'s' * 30}.{'n' * 29}" in words, "one that has room is as it was"


def test_a_sender_is_a_namespace_or_a_network() -> None:
    told = [cluster_forms.sender(one) for one in ("envoy-system", "10.0.0.0/8", "10.0.0.7/32", "fd00::1/128")]
    assert told == ["envoy-system", "10.0.0.0/8", "10.0.0.7/32", "fd00::1/128"]
    for wrong in ("10.0.0.7", "A", "10.0.0.1/8", "::1"):
        with pytest.raises(Misfit):
            cluster_forms.sender(wrong)

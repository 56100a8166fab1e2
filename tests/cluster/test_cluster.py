"""The cluster of these tests is a real one: what everything else is tried on does what Kubernetes does."""

from __future__ import annotations

import json
import socket
import ssl
import struct
from collections.abc import Mapping

from cluster_kit import Namespace, deployment, wait_for
from clusters.api import condition
from clusters.cluster import Cluster
from clusters.parts import GATEWAY_HTTPS


def test_every_node_is_ready(cluster: Cluster) -> None:
    nodes = cluster.api.get("/api/v1/nodes")["items"]
    assert {node["metadata"]["name"] for node in nodes} == {box.node.name for box in cluster.boxes()}
    assert all(condition(node, "Ready")["status"] == "True" for node in nodes)


def test_an_image_is_pulled_by_its_digest_and_runs_without_privileges(
    namespace: Namespace, hello: Mapping[str, str]
) -> None:
    namespace.deploy("web", hello["1"], replicas=2)
    namespace.wait_until_ready("web", 2)
    for pod in namespace.pods(app="web"):
        (status,) = pod["status"]["containerStatuses"]
        assert status["imageID"].endswith(hello["1"].partition("@")[2])


def test_what_is_not_ready_gets_no_requests(namespace: Namespace, hello: Mapping[str, str]) -> None:
    namespace.deploy("web", hello["1"])
    sick = deployment("sick", hello["sick"], 1, None)
    sick["spec"]["selector"] = {"matchLabels": {"app": "web", "kind": "sick"}}
    sick["spec"]["template"]["metadata"]["labels"] = {"app": "web", "kind": "sick"}
    namespace.apply(sick)
    namespace.wait_until_ready("web")
    wait_for(lambda: is_running(namespace), "the sick pod's start")
    namespace.route({"web": 1})
    wait_for(lambda: namespace.ask() == "1", "the first answer")
    assert namespace.count(50) == {"1": 50}
    assert namespace.ready("sick") == 0


def is_running(namespace: Namespace) -> bool:
    (pod,) = namespace.pods(kind="sick") or [{"status": {}}]
    return bool(pod["status"].get("phase") == "Running")


def test_weights_of_a_route_are_in_force(namespace: Namespace, hello: Mapping[str, str]) -> None:
    for version in ("1", "2"):
        namespace.deploy(f"web-{version}", hello[version])
    for version in ("1", "2"):
        namespace.wait_until_ready(f"web-{version}")
    namespace.route({"web-1": 100, "web-2": 0})
    wait_for(lambda: namespace.ask() == "1", "the first answer")
    assert namespace.count(100) == {"1": 100}
    namespace.route({"web-1": 50, "web-2": 50})
    wait_for(lambda: namespace.ask() == "2", "the second version's first answer")
    answers = namespace.count(200)
    assert answers.total() == answers["1"] + answers["2"]
    assert 55 < answers["2"] < 145  # more than six times the standard deviation to each side
    namespace.route({"web-1": 0, "web-2": 100})
    wait_for(lambda: namespace.count(20) == {"2": 20}, "the end of the first version's answers")
    assert namespace.count(100) == {"2": 100}


def test_the_gateway_speaks_tls_with_a_certificate_of_the_clusters_authority(
    cluster: Cluster, namespace: Namespace, hello: Mapping[str, str]
) -> None:
    namespace.deploy("web", hello["1"])
    namespace.wait_until_ready("web")
    namespace.route({"web": 1})
    wait_for(lambda: namespace.ask() == "1", "the first answer")
    context = ssl.create_default_context(cafile=str(cluster.layout.keys / "ca.crt"))
    with (
        socket.create_connection((cluster.layout.control.address, GATEWAY_HTTPS), timeout=10) as plain,
        context.wrap_socket(plain, server_hostname=namespace.host) as connection,
    ):
        connection.sendall(f"GET / HTTP/1.1\r\nHost: {namespace.host}\r\nConnection: close\r\n\r\n".encode())
        assert connection.recv(4096).startswith(b"HTTP/1.1 200")


def test_services_have_names(cluster: Cluster, namespace: Namespace, hello: Mapping[str, str]) -> None:
    namespace.deploy("web", hello["1"])
    wait_for(lambda: namespace.find("v1", "services/web") is not None, "the Service")
    address = namespace.find("v1", "services/web")["spec"]["clusterIP"]
    name = f"web.{namespace.name}.svc.cluster.local"
    wait_for(lambda: resolved(name, cluster.layout.dns_service) == address, f"the address of {name}")


def resolved(name: str, server: str) -> str | None:
    """Ask a DNS server for a name's first IPv4 address."""
    labels = b"".join(bytes([len(part)]) + part.encode() for part in name.split("."))
    question = struct.pack(">HHHHHH", 7, 0x0100, 1, 0, 0, 0) + labels + b"\0" + struct.pack(">HH", 1, 1)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asker:
        asker.settimeout(5)
        asker.sendto(question, (server, 53))
        answer = asker.recv(4096)
    return socket.inet_ntoa(answer[-4:]) if struct.unpack(">H", answer[6:8])[0] else None


def test_a_claim_gets_a_volume_that_others_than_root_may_write(
    cluster: Cluster, namespace: Namespace, hello: Mapping[str, str]
) -> None:
    claim = {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "1Mi"}}}
    kind = {"apiVersion": "v1", "kind": "PersistentVolumeClaim"}
    namespace.apply({**kind, "metadata": {"name": "data"}, "spec": claim})
    web = deployment("web", hello["1"], 2, None)
    pod = web["spec"]["template"]["spec"]
    pod["volumes"] = [{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}]
    pod["containers"][0]["volumeMounts"] = [{"name": "data", "mountPath": "/data"}]
    namespace.apply(web)
    namespace.wait_until_ready("web", 2)
    volume = namespace.find("v1", "persistentvolumeclaims/data")["spec"]["volumeName"]
    folder = cluster.api.get(f"/api/v1/persistentvolumes/{volume}")["spec"]["hostPath"]["path"]
    assert (cluster.layout.shared / folder.removeprefix("/tmp/")).stat().st_mode & 0o777 == 0o777
    assert cluster.box(0).run("touch", f"{folder}/seen").returncode == 0
    assert cluster.boxes()[-1].run("test", "-f", f"{folder}/seen").returncode == 0


def test_who_asked_for_what_is_in_the_audit_log(cluster: Cluster, namespace: Namespace) -> None:
    log = cluster.layout.logs / "audit.log"
    entries = [json.loads(line) for line in log.read_text().splitlines()]
    made = [one for one in entries if one.get("objectRef", {}).get("name") == namespace.name]
    assert "admin" in {one["user"]["username"] for one in made}

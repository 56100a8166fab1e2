"""A cluster as a whole: started, looked at and ended. Starting brings what is missing, so that one that was interrupted
or has lost a node or a part is whole again afterwards; ending goes by names alone and needs no state."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from clusters import configuration, gateway, parts
from clusters.api import Api, condition
from clusters.authority import make_keys
from clusters.box import Box, last_lines, wait_until
from clusters.images import PAUSE
from clusters.layout import MOST_NODES, Layout, Unusable

_READY_S = 90.0
_MEMORY_OF_A_NODE = 2 << 30
_FIRST = ("etcd", "kube-apiserver", "docker-registry")
_GATEWAY = ("contour", "envoy")
_CLIENTS = ("kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy", "coredns", "contour")
_UNUSED = "kube-node-lease"  # a namespace whose default account nobody uses
_PROMPT_S = 3.0


@dataclass(frozen=True)
class Cluster:
    """The cluster of a layout."""

    layout: Layout

    @property
    def api(self) -> Api:
        return Api(self.layout)

    def box(self, number: int) -> Box:
        """Return a node of the cluster. Raises Unusable when it has no such node."""
        if number not in range(self.size()):
            raise Unusable(f"there is no node {number}: the cluster has {self.size()}")
        return Box(node=self.layout.node(number))

    def boxes(self) -> list[Box]:
        return [self.box(number) for number in range(self.size())]

    def size(self) -> int:
        """Return how many nodes the cluster has; 0 when there is none."""
        try:
            return int(json.loads(self._size_file.read_text()))
        except (OSError, ValueError):
            return 0

    def up(self, nodes: int | None) -> None:
        """Start the cluster, or what is missing of it, and wait until it works.

        ``nodes`` is for a new one; without it, as many as the machine can: one or two.
        """
        with self._alone():
            self._prepare(nodes)
            started = time.time()
            for box in self.boxes():
                if box.up(self.size()):
                    say(f"node {box.node.number} made")
            control = self.box(0)
            self._start(control, *_FIRST)
            self._wait("the API", lambda: self.api.find("/readyz") is not None, control, *_FIRST[:2])
            self._end_late_clients(control)
            self._start(control, "kube-controller-manager", "kube-scheduler")
            new = [box for box in self.boxes() if self._start_node(box)]
            self._apply_once()
            self._start(control, "coredns")
            self._start_gateway(control)
            for box in self.boxes():
                self._wait_for_node(box, started if box in new else 0.0)
            self._wait("the default service account", self._has_service_account, control, "kube-controller-manager")
            self._wait("the gateway", self._has_gateway, control, *_GATEWAY)

    def down(self) -> None:
        """End and remove all of it, whatever is left of it."""
        with self._alone():
            for number in range(MOST_NODES):
                Box(node=self.layout.node(number)).down()
            if Path("/sys/class/net", self.layout.bridge).exists():
                _ip("link", "delete", self.layout.bridge)
            shutil.rmtree(self.layout.state, ignore_errors=True)
            if self.layout.state.exists():
                shutil.rmtree(self.layout.state)

    def stop_node(self, number: int) -> None:
        """End a node as if its plug were pulled."""
        with self._alone():
            self.box(number).down()

    def start_node(self, number: int) -> None:
        """Start a node again, with all its parts, and wait until it is ready."""
        with self._alone():
            box, started = self.box(number), time.time()
            box.up(self.size())
            if number == 0:
                for part in parts.ON_CONTROL:
                    box.start(part)
            is_new = self._start_node(box)
            self._wait_for_node(box, started if is_new else 0.0)

    def change_part(self, verb: str, number: int, names: Sequence[str]) -> None:
        """Start, stop (SIGTERM) or kill (SIGKILL) parts of a node; returns when each has begun or is gone."""
        box = self.box(number)
        for name in names:
            parts.argv(box.node, name)
            if verb == "start":
                box.start(name)
            else:
                box.end(name, signal.SIGKILL if verb == "kill" else signal.SIGTERM)

    def problems(self) -> Iterator[str]:
        """Yield what is not as it should be, each as a sentence."""
        if not self.size():
            yield f"there is no cluster {self.layout.name}: scripts/cluster up"
            return
        for box in self.boxes():
            number = box.node.number
            if not box.is_up():
                yield f"node {number} is stopped: scripts/cluster node start {number}"
                continue
            for part in parts.parts_of(box.node):
                if not box.find(part):
                    yield f"{part} does not run on node {number}: scripts/cluster part start {number} {part}"
            if not self._is_ready(box, 0.0):
                yield f"node {number} is not ready; its logs are {self.layout.logs}/*-{number}.log"

    @property
    def _size_file(self) -> Path:
        return self.layout.state / "nodes.json"

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Hold the cluster's lock: one starts or ends it at a time, and the next waits."""
        self.layout.lock.parent.mkdir(parents=True, exist_ok=True)
        with self.layout.lock.open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                say("another scripts/cluster works on it: waiting")
                fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _prepare(self, nodes: int | None) -> None:
        known = self.size()
        if known and nodes not in (None, known):
            raise Unusable(f"the cluster has {known} nodes, and keeps them: scripts/cluster down, and then up again")
        self._check_network()
        self.layout.state.mkdir(parents=True, exist_ok=True, mode=0o711)
        self.layout.logs.mkdir(exist_ok=True)
        make_keys(self.layout)
        draft = self._size_file.with_suffix(".new")
        draft.write_text(json.dumps(known or nodes or fitting_nodes()))
        draft.replace(self._size_file)
        configuration.write_cluster(self.layout)
        for box in self.boxes():
            configuration.write_node(box.node)
        self._make_network()

    def _check_network(self) -> None:
        listed = json.loads(_ip("-json", "route", "show", "root", f"{self.layout.network}.0.0/16"))
        taken = {route["dev"] for route in listed if route.get("dev") not in (None, self.layout.bridge)}
        if taken:
            raise Unusable(
                f"the addresses {self.layout.network}.0.0/16 are taken by {', '.join(sorted(taken))}: "
                "give others with INSTAR_CLUSTER_NETWORK"
            )

    def _make_network(self) -> None:
        layout = self.layout
        if not Path("/sys/class/net", layout.bridge).exists():
            _ip("link", "add", layout.bridge, "type", "bridge")
        _ip("address", "replace", f"{layout.host_address}/24", "dev", layout.bridge)
        _ip("link", "set", layout.bridge, "up")
        _ip("route", "replace", layout.services, "via", layout.control.address)
        for box in self.boxes():
            _ip("route", "replace", box.node.pods, "via", box.node.address)

    def _start(self, box: Box, *names: str) -> bool:
        """Start what does not run of some parts; say whether any was started."""
        started = [name for name in names if box.start(name)]
        for name in started:
            say(f"{name} started on node {box.node.number}")
        return bool(started)

    def _start_node(self, box: Box) -> bool:
        """Start what runs on every node; say whether its kubelet was started."""
        self._start(box, "containerd")
        ctr = [str(self.layout.programs / "ctr"), "-a", parts.CONTAINERD, "-n", "k8s.io"]
        self._wait("containerd", lambda: box.run(*ctr, "version").returncode == 0, box, "containerd")
        images = box.run(*ctr, "images", "ls", "-q").stdout.split()
        if PAUSE not in images:
            done = box.run(*ctr, "images", "import", str(self.layout.images / "pause.tar"))
            if done.returncode:
                raise Unusable(f"cannot import the image of sandboxes: {done.stderr.strip()[-500:]}")
        self._start(box, "kube-proxy")
        return self._start(box, "kubelet")

    def _apply_once(self) -> None:
        """Make what a cluster has from its start; what the API knows once, it keeps."""
        done = self.layout.state / "applied"
        if done.exists():
            return
        self.api.apply(*gateway.dns_objects(self.layout), *gateway.storage_objects())
        gateway.apply_resources(self.api)
        self.api.apply(*gateway.gateway_objects(self.layout))
        done.touch()

    def _start_gateway(self, box: Box) -> None:
        bootstrap = box.node.folder / "envoy.json"
        if not bootstrap.exists():
            done = box.run(*parts.bootstrap_envoy(box.node))
            if done.returncode:
                raise Unusable(f"cannot write {bootstrap}: {done.stderr.strip()[-500:]}")
        self._start(box, *_GATEWAY)

    def _wait(self, what: str, condition: Callable[[], bool], box: Box, *needed: str) -> None:
        """Wait for something; a part that it needs and that has ended ends the waiting, with what it said last."""

        def is_so() -> bool:
            for part in needed:
                if not box.find(part):
                    raise Unusable(f"{what}: {part} has ended on its own{last_lines(box.node.log(part))}")
            return condition()

        wait_until(is_so, what, _READY_S, box.node.log(needed[0]))

    def _wait_for_node(self, box: Box, since: float) -> None:
        self._wait(f"node {box.node.number}", lambda: self._is_ready(box, since), box, "kubelet", "containerd")

    def _is_ready(self, box: Box, since: float) -> bool:
        """Say whether a node is ready by a heartbeat of after ``since``: what it said before its end is believed for
        a while, and heartbeats are of whole seconds."""
        ready = condition(self.api.find(f"/api/v1/nodes/{box.node.name}"), "Ready")
        if ready.get("status") != "True":
            return False
        return datetime.fromisoformat(ready["lastHeartbeatTime"].replace("Z", "+00:00")).timestamp() > since

    def _has_service_account(self) -> bool:
        return self._service_account("default") is not None

    def _end_late_clients(self, control: Box) -> None:
        """End what asks for an API that was away too seldom, up to once a minute after a few times: it is started anew.

        Shown by the controllers, which are given something to do: an account that nobody uses is removed.
        """
        known = self._service_account(_UNUSED)
        if not known or not control.find("kube-controller-manager"):
            return
        self.api.kubectl("delete", "serviceaccount", "default", "--namespace", _UNUSED)
        try:
            wait_until(lambda: self._service_account(_UNUSED) not in (None, known), "an account", _PROMPT_S)
        except Unusable:
            say("what has lost the API is late with asking for it again, and is started anew")
            for box in self.boxes():
                for part in set(_CLIENTS) & set(parts.parts_of(box.node)):
                    box.end(part, signal.SIGTERM)

    def _service_account(self, namespace: str) -> str | None:
        """Return which default account a namespace has, by its uid."""
        found = self.api.find(f"/api/v1/namespaces/{namespace}/serviceaccounts/default")
        return str(found["metadata"]["uid"]) if found else None

    def _has_gateway(self) -> bool:
        return condition(gateway.find_gateway(self.api), "Programmed").get("status") == "True"


def fitting_nodes() -> int:
    """Return how many nodes this machine can have: two, or one where it is small."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return 2 if (os.cpu_count() or 1) >= 2 and memory >= 2 * _MEMORY_OF_A_NODE else 1


def _ip(*words: str) -> str:
    done = subprocess.run(["ip", *words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise Unusable(f"ip {' '.join(words)} ended with {done.returncode}: {done.stderr.strip()}")
    return done.stdout


def say(text: str) -> None:
    print(f" cluster  {text}", file=sys.stderr, flush=True)

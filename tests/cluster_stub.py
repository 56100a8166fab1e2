"""An API server in this process, for what a real one does not do on demand: refuse, change its mind, be away.

It keeps objects, labels, versions and owners as the API says, and stands in for the controllers that the provider waits
for: pods of a Deployment are ready at once, a Job's has ended, a Gateway takes up a route. What a real cluster does is
tried on a real one (marker ``cluster``).
"""

from __future__ import annotations

import contextlib
import copy
import itertools
import json
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

Key = tuple[str, str, str]  # plural, namespace, name
_PATH = re.compile(
    r"/apis?/(?:(?P<group>[a-z0-9.]+\.[a-z0-9.]+|apps|batch|policy|autoscaling)/)?v[12](?:(?:alpha|beta)[1-9])?"
    r"(?:/namespaces/(?P<namespace>[^/]+))?/(?P<plural>[a-z]+)(?:/(?P<name>[^/]+))?(?:/(?P<part>.+))?"
)
_CLUSTER_WIDE = (
    "nodes",
    "namespaces",
    "selfsubjectaccessreviews",
    "selfsubjectrulesreviews",
    "storageclasses",
    "volumesnapshotclasses",
)


@dataclass
class Fault:
    """What the next calls that fit get instead of an answer. ``done``: what was asked is done all the same."""

    status: int
    body: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    times: int = 1
    fits: Callable[[str, str], bool] = lambda method, path: True
    done: bool = False


class ClusterStub:
    def __init__(self) -> None:
        self.objects: dict[Key, dict[str, Any]] = {}
        self.asked: list[tuple[str, str]] = []
        self.faults: list[Fault] = []
        self.version = ("1", "37")
        self.has_gateway_api = True
        self.has_metrics = False
        self.has_snapshots = True
        self.keeps_signals = False  # as long as a gate of the API server is shut
        self.ready_snapshots = True  # else their driver says ``storage_says``, or nothing
        self.bound_claims = True  # the same of claims that are made from a snapshot
        self.storage_says = ""
        self.allowed: Callable[[Mapping[str, Any]], bool] = lambda asked: True
        self.rules: Mapping[str, Any] = {"incomplete": True}
        self.token = "good"
        self.accepts: Mapping[str, Any] = {"type": "Accepted", "status": "True"}
        self.resolves = False  # else its Gateway says of a route whether the Services that it names are there
        self.pods_are_ready = True
        self.ends_at_once = False
        self.pod_status: Mapping[str, Any] = {}
        self.deployment_conditions: list[Mapping[str, Any]] = []
        self.printed = "2026-11-29T12:00:00.000000001Z serving\n"
        self.goes_by: Mapping[str, Any] | None = None  # the route that its Gateway goes by, whatever it accepts
        self.unreached: set[str] = set()  # groups that its Gateway answers 503 for
        self.leads = False  # else slices say to which pods Services lead, by what these select
        self.watches = True  # else whoever watches hears nothing
        self.watch_ends_at_once = False  # in place of after its time, which is a second at least
        self._versions = itertools.count(1)
        self._guard = threading.RLock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()
        self.put("namespaces", "", {"metadata": {"name": "shop"}})
        listeners = [{"name": "http", "protocol": "HTTP", "port": self._server.server_address[1]}]
        status = {"addresses": [{"type": "IPAddress", "value": "127.0.0.1"}]}
        public = {"metadata": {"name": "public"}, "spec": {"listeners": listeners}, "status": status}
        self.put("gateways", "gateways", public)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def kubeconfig(self, folder: Path, user: Mapping[str, Any] | None = None) -> Path:
        file = folder / "kubeconfig"
        cluster = {"name": "stub", "cluster": {"server": self.url}}
        context = {"name": "stub", "context": {"cluster": "stub", "user": "me"}}
        user = {"name": "me", "user": {"token": self.token} if user is None else user}
        found = {"clusters": [cluster], "contexts": [context], "users": [user], "current-context": "stub"}
        file.write_text(json.dumps(found))
        return file

    def put(self, plural: str, namespace: str, wanted: Mapping[str, Any]) -> dict[str, Any]:
        """Have an object, whoever makes it."""
        with self._guard:
            made = copy.deepcopy(dict(wanted))
            metadata = made.setdefault("metadata", {})
            before = self.objects.get((plural, namespace, metadata["name"]), {}).get("metadata", {})
            metadata.setdefault("namespace", namespace)
            metadata["uid"] = before.get("uid") or f"uid-{next(self._versions)}"
            metadata["generation"] = before.get("generation", 0) + 1
            metadata["resourceVersion"] = str(next(self._versions))
            self.objects[plural, namespace, metadata["name"]] = made
            self._control(plural, made)
            return made

    def names(self, plural: str) -> list[str]:
        with self._guard:
            return sorted(name for found, _, name in self.objects if found == plural)

    def one(self, plural: str, name: str, namespace: str = "shop") -> dict[str, Any]:
        with self._guard:
            return self.objects[plural, namespace, name]

    def end_pods(self) -> None:
        """What was told to end has ended."""
        with self._guard:
            for key in [key for key, one in self.objects.items() if one["metadata"].get("deletionTimestamp")]:
                del self.objects[key]

    def _control(self, plural: str, made: dict[str, Any]) -> None:
        """Do at once what a cluster's controllers do soon."""
        if plural == "deployments":
            count = made["spec"]["replicas"]
            ready = count if self.pods_are_ready else 0
            generation = made["metadata"]["generation"]
            conditions = self.deployment_conditions
            made["status"] = {"observedGeneration": generation, "readyReplicas": ready, "conditions": conditions}
            for number in range(count):
                self._pod(made, f"{made['metadata']['name']}-{number}")
        if plural == "volumesnapshots":
            error = {"error": {"message": self.storage_says}} if self.storage_says else {}
            made["status"] = {"readyToUse": True, "restoreSize": "2Gi"} if self.ready_snapshots else error
        if plural == "persistentvolumeclaims":
            well = self.bound_claims or "dataSource" not in made.get("spec", {})
            made["status"] = {"phase": "Bound" if well else "Pending"}
            if not well and self.storage_says:
                self.put("events", made["metadata"]["namespace"], self._warning(made))
        if plural == "jobs":
            made["status"] = {"conditions": [{"type": "Complete", "status": "True"}]}
            self._pod(made, f"{made['metadata']['name']}-0")
        if plural == "httproutes":
            parent, generation = made["spec"]["parentRefs"][0], made["metadata"]["generation"]
            condition = {**self.accepts, "observedGeneration": generation}
            conditions = [condition, *self._resolved(made)]
            made["status"] = {"parents": [{"parentRef": parent, "conditions": conditions}]}

    def _warning(self, of: Mapping[str, Any]) -> Mapping[str, Any]:
        name, uid = of["metadata"]["name"], of["metadata"]["uid"]
        return {"metadata": {"name": f"{name}.1"}, "message": self.storage_says, "involvedObject": {"uid": uid}}

    def _resolved(self, route: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
        if not self.resolves:
            return
        namespace, generation = route["metadata"]["namespace"], route["metadata"]["generation"]
        wanted = [one["name"] for rule in route["spec"]["rules"] for one in rule.get("backendRefs", ())]
        gone = [name for name in wanted if ("services", namespace, name) not in self.objects]
        status, message = "False" if gone else "True", f"service {gone[0]} not found" if gone else ""
        found = {"type": "ResolvedRefs", "status": status, "message": message}
        yield {**found, "observedGeneration": generation}

    def _slice(self, namespace: str | None, service: str) -> Mapping[str, Any]:
        """Return to which pods a Service leads, as its controller says soon."""
        found = self.objects.get(("services", namespace or "", service), {"spec": {"selector": {}}})
        group = found["spec"]["selector"].get("instar/group", "nobody")
        pods = self._listed("pods", namespace, {"labelSelector": [f"instar/group={group}"]})
        ready = [one for one in pods if "deletionTimestamp" not in one["metadata"]]
        ends = [{"targetRef": {"name": one["metadata"]["name"]}, "conditions": {"ready": True}} for one in ready]
        return {"metadata": {"name": f"{service}-x"}, "endpoints": ends}

    def _pod(self, owner: Mapping[str, Any], name: str) -> None:
        namespace = owner["metadata"]["namespace"]
        pod = {**owner["spec"]["template"], "status": dict(self.pod_status)}
        pod["metadata"] = {**pod["metadata"], "name": name, "ownerReferences": [_owner(owner)]}
        self.put("pods", namespace, pod)

    def _delete(self, key: Key) -> None:
        """Delete an object and what it owns; pods go when they are told to have ended."""
        uid = self.objects[key]["metadata"]["uid"]
        owned = [
            other
            for other, one in self.objects.items()
            if any(owner["uid"] == uid for owner in one["metadata"].get("ownerReferences", ()))
        ]
        for other in owned:
            if other in self.objects:
                self._delete(other)
        left = any(one in self.objects for one in owned)
        if (key[0] == "pods" or left) and not self.ends_at_once:
            self.objects[key]["metadata"]["deletionTimestamp"] = "2026-11-29T12:00:00Z"
        else:
            del self.objects[key]

    def answer(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes
    ) -> tuple[int, Any, Mapping[str, str]]:
        parts = urlsplit(url)
        with self._guard:
            self.asked.append((method, parts.path))
            fault = next((one for one in self.faults if one.times and one.fits(method, parts.path)), None)
            if headers.get("Authorization") != f"Bearer {self.token}":
                return _status(401, "Unauthorized", "Unauthorized")
            if fault is not None:
                fault.times -= 1
                if fault.done:
                    self._done(method, parts.path, parse_qs(parts.query), body)
                return fault.status, fault.body, fault.headers
            return self._done(method, parts.path, parse_qs(parts.query), body)

    def gateway(self, headers: Mapping[str, str], path: str = "/") -> tuple[int, str | None]:
        """Return what the Gateway answers to a question of Instar's: a status, and where to it redirects."""
        with self._guard:
            routes = [one for (plural, _, _), one in self.objects.items() if plural == "httproutes"]
            found = [one for one in routes if headers["Host"] in one["spec"].get("hostnames", ())]
            found = [self.goes_by] if self.goes_by else found
            rules = [(_reach(rule, path), rule) for one in found for rule in one["spec"]["rules"]]
            for _, rule in sorted((one for one in rules if one[0]), key=lambda one: -one[0]):
                asked = [one for match in rule["matches"] for one in match.get("headers", ())]
                if all(headers.get(one["name"]) == one["value"] for one in asked):
                    if "filters" in rule:
                        redirect = rule["filters"][0]["requestRedirect"]
                        return redirect["statusCode"], f"http://{redirect['hostname']}/"
                    names = {one["name"] for one in rule.get("backendRefs", ()) if one["weight"]}
                    return 503 if names <= self.unreached else 200, None
        return 404, None

    def _done(
        self, method: str, path: str, query: Mapping[str, list[str]], body: bytes
    ) -> tuple[int, Any, Mapping[str, str]]:
        if path == "/version":
            major, minor = self.version
            return 200, {"major": major, "minor": minor, "gitVersion": f"v{major}.{minor}.0"}, {}
        if path == "/apis/gateway.networking.k8s.io/v1":
            return (200, {}, {}) if self.has_gateway_api else _status(404, "NotFound", "not found")
        if path == "/apis/metrics.k8s.io/v1beta1":
            return (200, {}, {}) if self.has_metrics else _status(404, "NotFound", "not found")
        if path == "/apis/snapshot.storage.k8s.io/v1":
            return (200, {}, {}) if self.has_snapshots else _status(404, "NotFound", "not found")
        match = _PATH.fullmatch(path)
        assert match is not None, path
        plural, name = match["plural"], match["name"]
        if match["group"] == "snapshot.storage.k8s.io" and not self.has_snapshots:
            return _status(404, "NotFound", "the server could not find the requested resource")
        if match["group"] == "metrics.k8s.io":
            if not self.has_metrics:
                return _status(404, "NotFound", "the server could not find the requested resource")
            plural = f"{plural}.{match['group']}"
        namespace = "" if plural in _CLUSTER_WIDE else match["namespace"]
        if plural == "namespaces" or (plural == "pods" and match["part"] is None) or match["part"] is None:
            return self._object(method, plural, namespace, name, query, json.loads(body or b"{}"))
        if match["part"] == "log":
            return (400, {}, {}) if query.get("previous") == ["true"] else (200, self.printed.encode(), {})
        return 200, b"well", {}

    def _object(
        self, method: str, plural: str, namespace: str, name: str | None, query: Mapping[str, list[str]], body: Any
    ) -> tuple[int, Any, Mapping[str, str]]:
        if plural == "selfsubjectaccessreviews":
            return 201, {"status": {"allowed": self.allowed(body["spec"]["resourceAttributes"])}}, {}
        if plural == "selfsubjectrulesreviews":
            return 201, {"status": self.rules}, {}
        key = (plural, namespace, name or body.get("metadata", {}).get("name", ""))
        found = self.objects.get(key)
        if method == "GET" and name is None:
            found_items = self._listed(plural, namespace, query)
            return 200, {"items": found_items, "metadata": {"resourceVersion": str(next(self._versions))}}, {}
        if method == "POST":
            if found is not None:
                return _status(409, "AlreadyExists", f'{plural} "{key[2]}" already exists')
            if "dryRun" in query:
                return 201, body if self.keeps_signals else _without_signals(body), {}
            return 201, self.put(plural, namespace, _written(body, query)), {}
        if method == "PATCH" and (found is not None or "kind" in body):  # what is applied is made
            uid = body.get("metadata", {}).get("uid")
            if uid is not None and found is not None and uid != found["metadata"]["uid"]:
                return _status(422, "Invalid", f'metadata.uid: Invalid value: "{uid}": field is immutable')
            if not _is_as_read(found, body.get("metadata", {})):
                return _status(409, "Conflict", "the object has been modified")
            return 200, self.put(plural, namespace, _patched(found or {}, body)), {}
        if found is None:
            return _status(404, "NotFound", f'{plural} "{name}" not found')
        if method == "DELETE":
            if not _is_as_read(found, body.get("preconditions", {})):
                return _status(409, "Conflict", "the precondition does not hold")
            self._delete(key)
        return 200, found, {}

    def events(self, path: str, query: Mapping[str, list[str]]) -> Iterator[bytes]:
        """Yield the lines of a watch, b"" while there is none."""
        match = _PATH.fullmatch(path)
        assert match is not None, path
        version, lasts_s = int(query["resourceVersion"][0]), int(query["timeoutSeconds"][0])
        until = time.monotonic() + (0 if self.watch_ends_at_once else lasts_s)
        known: dict[str, Any] = {}
        while True:
            with self._guard:
                seen = {
                    one["metadata"]["name"]: one for one in self._listed(match["plural"], match["namespace"], query)
                }
                new = [one for one in seen.values() if int(one["metadata"]["resourceVersion"]) > version]
                gone = [known[name] for name in known.keys() - seen.keys()]
                known = seen
                told = [("MODIFIED", one) for one in new] + [("DELETED", one) for one in gone]
                version = max([version, *(int(one["metadata"]["resourceVersion"]) for one in new)])
            for what, one in told if self.watches else ():
                yield json.dumps({"type": what, "object": one}).encode() + b"\n"
            if time.monotonic() >= until:
                return
            yield b""

    def _listed(self, plural: str, namespace: str | None, query: Mapping[str, list[str]]) -> list[Any]:
        words = [one for one in ",".join(query.get("labelSelector", [])).split(",") if one]
        wanted = dict(one.split("=", 1) for one in words if not one.startswith("!"))
        lacking = {one[1:] for one in words if one.startswith("!")}
        (of,) = query.get("fieldSelector", [""])
        if plural == "endpointslices" and self.leads:
            return [self._slice(namespace, wanted["kubernetes.io/service-name"])]
        return [
            one
            for (found, where, name), one in self.objects.items()
            if found == plural
            and namespace in (where, None)
            and wanted.items() <= one["metadata"].get("labels", {}).items()
            if not lacking & one["metadata"].get("labels", {}).keys()
            if not of.startswith("metadata.name=") or of == f"metadata.name={name}"
        ]


def _written(body: Mapping[str, Any], query: Mapping[str, list[str]]) -> dict[str, Any]:
    """Return an object with what an API server says of who made it."""
    at = "2026-11-29T12:00:00Z"
    entry = {"manager": query.get("fieldManager", ["curl"])[0], "operation": "Update", "time": at}
    fields = {"fieldsV1": {f"f:{part}": {} for part in ("spec", "data") if part in body}}
    made_at = datetime.now(UTC).isoformat() if body.get("kind") == "VolumeSnapshot" else at  # which ages in a day
    return {**body, "metadata": {**body["metadata"], "creationTimestamp": made_at, "managedFields": [entry | fields]}}


def _without_signals(body: Mapping[str, Any]) -> dict[str, Any]:
    made = copy.deepcopy(dict(body))
    for one in made["spec"]["template"]["spec"]["containers"]:
        one.get("lifecycle", {}).pop("stopSignal", None)
    return made


def _reach(rule: Mapping[str, Any], path: str) -> int:
    """Return how much of a path a rule names, the most that one of its matches does; 0: another path."""
    found = [str(one.get("path", {}).get("value", "/")) for one in rule["matches"]]
    return max([len(one) for one in found if f"{path}/".startswith(f"{one.rstrip('/')}/")], default=0)


def _is_as_read(found: Mapping[str, Any] | None, read: Mapping[str, Any]) -> bool:
    now = {} if found is None else found["metadata"]
    return all(read[name] == now.get(name) for name in ("uid", "resourceVersion") if name in read)


def _patched(found: Mapping[str, Any], body: Mapping[str, Any]) -> dict[str, Any]:
    """Return an object with what is said of it: annotations that are another's stay, and what was applied before and
    is not any more goes."""
    before, said = found.get("metadata", {}), body.get("metadata", {})
    own, applied = said.get("annotations", {}), found.get("applied", ())
    gone = set(applied) - own.keys() if "kind" in body else set()
    annotations = {**{name: one for name, one in before.get("annotations", {}).items() if name not in gone}, **own}
    annotations = {name: one for name, one in annotations.items() if one is not None}  # null takes one away
    applied = list(own) if "kind" in body else applied
    labels = {**before.get("labels", {}), **said.get("labels", {})}
    metadata = {**before, **said, "annotations": annotations, "labels": labels}
    return {**found, **body, "applied": applied, "metadata": metadata}


def _owner(of: Mapping[str, Any]) -> dict[str, Any]:
    return {"uid": of["metadata"]["uid"], "name": of["metadata"]["name"], "controller": True}


def _status(code: int, reason: str, message: str) -> tuple[int, Any, Mapping[str, str]]:
    return code, {"kind": "Status", "status": "Failure", "reason": reason, "message": message, "code": code}, {}


class _Quiet(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # head and body are written one after the other: the second would wait for 40 ms

    def log_message(self, *_: object) -> None:
        """Nobody reads it."""


def _handler(stub: ClusterStub) -> type[BaseHTTPRequestHandler]:
    class Handler(_Quiet):
        def _serve(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if "X-Instar-Route" in self.headers:
                status, location = stub.gateway(self.headers, urlsplit(self.path).path)  # type: ignore[arg-type]
                self.send_response(status)
                self.send_header("Content-Length", "0")
                if location is not None:
                    self.send_header("Location", location)
                self.end_headers()
                return
            status, told, headers = stub.answer(self.command, self.path, self.headers, body)  # type: ignore[arg-type]
            parts = urlsplit(self.path)
            if "watch" in parse_qs(parts.query) and status == 200:
                self._watch(stub.events(parts.path, parse_qs(parts.query)))
                return
            data = told if isinstance(told, bytes) else json.dumps(told).encode()
            self.send_response(status)
            for name, value in {"Content-Type": "application/json", "Content-Length": len(data), **headers}.items():
                self.send_header(name, str(value))
            self.end_headers()
            self.wfile.write(data)

        def _watch(self, lines: Iterator[bytes]) -> None:
            self.send_response(200)
            self.send_header("Connection", "close")
            self.end_headers()
            with contextlib.suppress(OSError):  # who watched may have seen enough
                for line in lines:
                    self.wfile.write(line)
                    time.sleep(0 if line else 0.01)

        do_GET = do_POST = do_PATCH = do_DELETE = _serve

    return Handler

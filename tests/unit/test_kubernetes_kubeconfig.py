"""What a kubeconfig says, as kubectl reads it: several files, relative paths, proxies, names of certificates, and who
acts as somebody else."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import httpx2
import pytest

from cluster_stub import ClusterStub
from instar.errors import InstarError, ProviderUnavailable, Refused
from instar.providers.kubernetes.api import Api
from instar.providers.kubernetes.kinds import NAMESPACE
from instar.providers.kubernetes.kubeconfig import find_config

ANSWER = b'{"metadata": {"name": "shop"}}'


def written(file: Path, **parts: Any) -> Path:
    """Write a kubeconfig of a context, a cluster and a user, each called "a", as far as they are said."""
    told: dict[str, Any] = {"apiVersion": "v1", "kind": "Config"}
    for part, one in parts.items():
        told[f"{part}s"] = [{"name": "a", part: one}]
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(told))
    return file


def whole(file: Path, cluster: Mapping[str, Any], user: Mapping[str, Any]) -> Mapping[str, str]:
    """Return the environment of somebody who has a kubeconfig with this cluster and this user."""
    return {"KUBECONFIG": str(written(file, context={"cluster": "a", "user": "a"}, cluster=cluster, user=user))}


def asked(environ: Mapping[str, str]) -> object:
    return Api(find_config("a", environ), environ).find(NAMESPACE, None, "shop")


def test_several_files_are_one(stub: ClusterStub, tmp_path: Path) -> None:
    files = [
        written(tmp_path / "1" / "config", user={"tokenFile": "token"}),
        written(tmp_path / "2" / "config", cluster={"server": stub.url}, user={"token": "wrong"}),
        written(
            tmp_path / "3" / "config", cluster={"server": "http://127.0.0.1:1"}, context={"cluster": "a", "user": "a"}
        ),
    ]
    (tmp_path / "1" / "token").write_text("good\n")
    assert asked({"KUBECONFIG": ":".join(map(str, files))}) is not None


def test_the_first_file_that_has_a_current_context_says_it(stub: ClusterStub, tmp_path: Path) -> None:
    first = tmp_path / "first"
    first.write_text(json.dumps({"current-context": "stub", "contexts": None}))
    environ = {"KUBECONFIG": f"{first}:{stub.kubeconfig(tmp_path)}"}
    assert find_config(None, environ).config.cluster.server == stub.url


@pytest.mark.parametrize(
    ("cluster", "user", "key"),
    [
        ({"certificate-authority": "ca.crt"}, {}, "certificate-authority"),
        ({}, {"client-certificate": "me.crt", "client-key": "/gone/me.key"}, "client-certificate"),
        ({}, {"tokenFile": "deep/token"}, "tokenFile"),
    ],
)
def test_a_file_that_is_not_there_is_named_whole(tmp_path: Path, cluster: Any, user: Any, key: str) -> None:
    named = {**cluster, **user}[key]
    with pytest.raises(Refused, match=f"its {key} is '{tmp_path}/{named}': No such file"):
        asked(whole(tmp_path / "config", {"server": "https://127.0.0.1:1", **cluster}, user))


@pytest.mark.parametrize(
    ("cluster", "user", "told"),
    [
        ({"server": "cluster.example"}, {}, "'cluster.example' is no address of a cluster"),
        ({"server": "https://[::"}, {}, "is no address of a cluster"),
        ({"server": 7}, {}, "Expected `str`"),
        ({"proxy-url": "socks5://127.0.0.1:1080"}, {}, "proxy-url"),
        ({"certificate-authority-data": "%%%"}, {}, "cannot use the credentials of context 'a'"),
        ({"certificate-authority-data": "aGVsbG8="}, {}, "cannot use the credentials of context 'a'"),
        ({}, {"client-certificate-data": "aGVsbG8=", "client-key-data": "aGVsbG8="}, "cannot use the credentials"),
        ({}, {"client-certificate-data": "aGVsbG8="}, "certificate without its key"),
        ({}, {"auth-provider": {"name": "gcp"}}, "'auth-provider'"),
        ({}, {"as": "me", "as-user-extra": {"why": ["so"]}}, "'as-user-extra'"),
        ({}, [], "Expected `object`"),
    ],
)
def test_what_nobody_can_go_by_is_told(tmp_path: Path, cluster: Any, user: Any, told: str) -> None:
    with pytest.raises(InstarError, match=told) as caught:
        asked(whole(tmp_path / "config", {"server": "https://127.0.0.1:1", **cluster}, user))
    assert caught.value.hint and caught.value.retry_after_s is None


@pytest.mark.parametrize(("gone", "kind"), [("cluster", "clusters"), ("user", "users")])
def test_a_context_that_names_what_is_not_there_is_refused(tmp_path: Path, gone: str, kind: str) -> None:
    parts = {"context": {"cluster": "a", "user": "a"}, "cluster": {"server": "http://127.0.0.1:1"}, "user": {}}
    del parts[gone]
    with pytest.raises(Refused, match=f"it names 'a' of the kubeconfig's {kind}, which is not there"):
        find_config("a", {"KUBECONFIG": str(written(tmp_path / "config", **parts))})


def test_somebody_acts_as_somebody_else(tmp_path: Path) -> None:
    user = {"token": "good", "as": "deployer", "as-uid": "7", "as-groups": ["team", "ops"]}
    access = find_config("a", whole(tmp_path / "config", {"server": "http://127.0.0.1:1"}, user))
    assert access.acting_as == (
        ("Impersonate-User", "deployer"),
        ("Impersonate-Uid", "7"),
        ("Impersonate-Group", "team"),
        ("Impersonate-Group", "ops"),
    )
    sent = Api(access, {})._connection.client().build_request("GET", "/").headers
    assert sent.get_list("Impersonate-Group") == ["team", "ops"]


def test_a_certificate_may_be_for_another_name_than_the_address(tmp_path: Path) -> None:
    access = find_config(
        "a", whole(tmp_path / "config", {"server": "https://127.0.0.1:1", "tls-server-name": "k8s"}, {})
    )
    api, request = Api(access, {}), httpx2.Request("GET", "https://127.0.0.1:1")
    api._connection.client().event_hooks["request"][0](request)
    assert request.extensions["sni_hostname"] == "k8s"


class Proxy:
    """An HTTP proxy that writes down what it is asked for, and answers for the cluster."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                proxy.asked.append(self.path)
                self.send_response(200)
                self.send_header("Content-Length", str(len(ANSWER)))
                self.end_headers()
                self.wfile.write(ANSWER)

            def log_message(self, *_: object) -> None:
                """Nobody reads it."""

        self._server = HTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def test_a_cluster_is_asked_through_the_proxy_that_the_kubeconfig_names(tmp_path: Path) -> None:
    proxy = Proxy()
    cluster = {"server": "http://cluster.example", "proxy-url": f"http://me:secret@{proxy.address}"}
    environ = whole(tmp_path / "config", cluster, {"token": "good"})
    assert asked(environ) == json.loads(ANSWER)
    proxy.close()
    assert proxy.asked == ["http://cluster.example/api/v1/namespaces/shop"]
    with pytest.raises(
        ProviderUnavailable, match=f"'http://cluster.example through {proxy.address}' does not answer"
    ) as caught:
        asked(environ)
    assert "secret" not in caught.value.message

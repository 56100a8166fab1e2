"""By which credentials a cluster is asked: the kubeconfig's own, or what a program says that it names."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from cluster_stub import ClusterStub
from instar.errors import ComponentMissing, ProviderError, Refused
from instar.providers.kubernetes.api import Api
from instar.providers.kubernetes.credentials import ask_plugin, read_credential
from instar.providers.kubernetes.kinds import NAMESPACE
from instar.providers.kubernetes.kubeconfig import find_config

V1 = "client.authentication.k8s.io/v1"


def plugin(folder: Path, script: str) -> Path:
    file = folder / "plugin"
    file.write_text(f"#!/bin/sh\n{script}\n")
    file.chmod(file.stat().st_mode | stat.S_IXUSR)
    return file


def said(version: str = V1, **status: str) -> str:
    return json.dumps({"apiVersion": version, "kind": "ExecCredential", "status": status})


def user_of(command: Path | str, **more: Any) -> Mapping[str, Any]:
    return {"exec": {"apiVersion": V1, "command": str(command), "interactiveMode": "Never", **more}}


def api_of(stub: ClusterStub, folder: Path, user: Mapping[str, Any]) -> Api:
    environ = {"KUBECONFIG": str(stub.kubeconfig(folder, user)), "FROM_OUTSIDE": "seen"}
    return Api(find_config("stub", environ), environ)


def test_a_plugin_says_the_token_and_is_asked_once(stub: ClusterStub, tmp_path: Path) -> None:
    script = f"""echo "$1 $FROM_OUTSIDE $FROM_CONFIG $KUBERNETES_EXEC_INFO" >>{tmp_path}/asked
    echo '{said(token="good")}'"""
    more = {"args": ["get-token"], "env": [{"name": "FROM_CONFIG", "value": "too"}], "provideClusterInfo": True}
    api = api_of(stub, tmp_path, user_of(plugin(tmp_path, script), **more))
    for _ in range(2):
        assert api.find(NAMESPACE, None, "shop") is not None
    (line,) = (tmp_path / "asked").read_text().splitlines()
    assert line.startswith("get-token seen too {")
    told = json.loads(line.split(" ", 3)[3])
    assert (told["apiVersion"], told["spec"]["interactive"]) == (V1, False)
    assert told["spec"]["cluster"]["server"] == stub.url


def test_a_plugin_runs_in_no_folder_of_the_caller_s(
    stub: ClusterStub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A path is from the kubeconfig's folder, a name from PATH, but from no folder of it that is relative."""
    (tmp_path / "tools").mkdir()
    made = plugin(tmp_path, f"""echo "$PWD $KUBECONFIG" >{tmp_path}/asked; echo '{said(token="good")}'""")
    made.rename(tmp_path / "tools/say-token")
    monkeypatch.chdir(tmp_path)
    stub.kubeconfig(tmp_path, user_of("./tools/say-token"))
    environ = {"KUBECONFIG": "kubeconfig:other"}
    assert Api(find_config("stub", environ), environ).find(NAMESPACE, None, "shop") is not None
    assert (tmp_path / "asked").read_text() == f"/ {tmp_path}/kubeconfig:{tmp_path}/other\n"

    stub.kubeconfig(tmp_path, user_of("say-token"))
    monkeypatch.setenv("PATH", f"tools:{os.environ['PATH']}")
    with pytest.raises(ComponentMissing):
        Api(find_config("stub", environ), environ).find(NAMESPACE, None, "shop")
    monkeypatch.setenv("PATH", f"{tmp_path}/tools:{os.environ['PATH']}")
    assert Api(find_config("stub", environ), environ).find(NAMESPACE, None, "shop") is not None


def test_a_token_that_is_refused_or_over_is_asked_for_again(stub: ClusterStub, tmp_path: Path) -> None:
    script = f"""echo asked >>{tmp_path}/asked; cat {tmp_path}/says"""
    (tmp_path / "says").write_text(said(token="good"))
    api = api_of(stub, tmp_path, user_of(plugin(tmp_path, script)))
    assert api.find(NAMESPACE, None, "shop") is not None
    stub.token = "newer"
    soon = (datetime.now(UTC) + timedelta(seconds=5)).isoformat()
    (tmp_path / "says").write_text(said(token="newer", expirationTimestamp=soon))
    assert api.find(NAMESPACE, None, "shop") is not None, "it was refused, and another one is asked for"
    assert api.find(NAMESPACE, None, "shop") is not None, "it is over in a moment"
    assert (tmp_path / "asked").read_text().count("asked") == 3
    (tmp_path / "says").write_text(said(token="wrong", expirationTimestamp="2020-01-01T00:00:00Z"))
    with pytest.raises(
        ProviderError, match=r"that '.*plugin' says; it says that they hold until 2020-01-01 00:00:00 UTC"
    ):
        api.find(NAMESPACE, None, "shop")


def test_a_plugin_that_fails_says_why(stub: ClusterStub, tmp_path: Path) -> None:
    api = api_of(stub, tmp_path, user_of(plugin(tmp_path, "echo 'log in first' >&2; exit 3")))
    with pytest.raises(ProviderError, match="log in first"):
        api.find(NAMESPACE, None, "shop")


@pytest.mark.parametrize(
    ("script", "told"),
    [
        ("echo hello", "it is not JSON"),
        ("exit 0", "it says nothing"),
        ("printf '\\377\\376'", "it is not JSON"),
        ("yes", "it prints more than 1048576 bytes"),
        ("yes >&2", "it prints more than 1048576 bytes"),
        ("sleep 1000", "no end after 0.2 s"),
        ("sleep 1000 & exec sleep 1000", "no end after 0.2 s"),
        ("read answer || echo 'nobody to ask' >&2; exit 1", "nobody to ask"),
    ],
)
def test_a_plugin_that_says_no_credentials_is_told_of(
    stub: ClusterStub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, told: str
) -> None:
    if "sleep" in script:
        monkeypatch.setattr("instar.providers.kubernetes.credentials._TIMEOUT_S", 0.2)
    api = api_of(stub, tmp_path, user_of(plugin(tmp_path, script)))
    with pytest.raises(ProviderError, match=told) as caught:
        api.find(NAMESPACE, None, "shop")
    assert "run it by hand" in (caught.value.hint or "")
    assert stub.asked == [], "the cluster was not asked"


def test_a_plugin_that_takes_its_time_is_waited_for(stub: ClusterStub, tmp_path: Path) -> None:
    api = api_of(stub, tmp_path, user_of(plugin(tmp_path, f"sleep 0.3; echo '{said(token='good')}'; echo ok >&2")))
    assert api.find(NAMESPACE, None, "shop") is not None


@pytest.mark.parametrize("text", ["nothing that runs", "#!/bin/sh\nexit 0"], ids=["no program", "not executable"])
def test_a_plugin_that_cannot_be_run_is_told_of(stub: ClusterStub, tmp_path: Path, text: str) -> None:
    file = tmp_path / "plugin"
    file.write_text(text)
    file.chmod(0o755 if "nothing" in text else 0o644)
    with pytest.raises(ProviderError, match=f"'{file}' failed: (Exec format error|Permission denied)"):
        api_of(stub, tmp_path, user_of(file)).find(NAMESPACE, None, "shop")


def test_a_plugin_that_is_not_there_is_a_missing_component(stub: ClusterStub, tmp_path: Path) -> None:
    api = api_of(stub, tmp_path, user_of("no-such-plugin-here", installHint="get it from the cloud"))
    with pytest.raises(ComponentMissing, match="no-such-plugin-here") as caught:
        api.find(NAMESPACE, None, "shop")
    assert (caught.value.exit_status, caught.value.hint) == (69, "get it from the cloud")


def test_a_version_that_nobody_speaks_is_refused(stub: ClusterStub, tmp_path: Path) -> None:
    file = plugin(tmp_path, "exit 1")
    user = {"exec": {"apiVersion": "client.authentication.k8s.io/v9", "command": str(file)}}
    access = find_config("stub", {"KUBECONFIG": str(stub.kubeconfig(tmp_path, user))})
    with pytest.raises(ProviderError, match="wants them by"):
        ask_plugin(access.config, {})


def test_a_certificate_and_its_key_are_taken(tmp_path: Path) -> None:
    found = read_credential(said(clientCertificateData="PEM", clientKeyData="KEY").encode(), V1, "plugin")
    assert (found.certificate, found.key, found.token) == ("PEM", "KEY", None)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        said(),
        said(clientCertificateData="PEM"),
        said(version="client.authentication.k8s.io/v1beta1", token="x"),
        said(token="x", expirationTimestamp="soon"),
        json.dumps({"apiVersion": V1, "kind": "ExecCredential", "status": {"token": 7}}),
        json.dumps({"apiVersion": V1, "kind": "ExecCredential", "status": None}),
    ],
)
def test_what_is_no_credential_is_an_error(text: str) -> None:
    with pytest.raises(ProviderError, match="cannot use what 'plugin' says"):
        read_credential(text.encode(), V1, "plugin")


def test_without_a_kubeconfig_a_component_is_missing(tmp_path: Path) -> None:
    with pytest.raises(ComponentMissing, match="there is no kubeconfig") as caught:
        find_config(None, {"HOME": str(tmp_path)})
    assert caught.value.exit_status == 69


def test_a_context_that_is_not_there_is_refused_with_those_that_are(stub: ClusterStub, tmp_path: Path) -> None:
    file = stub.kubeconfig(tmp_path)
    with pytest.raises(Refused, match="the context 'prod'") as caught:
        find_config("prod", {"KUBECONFIG": f"/nowhere:{file}"})
    assert "stub" in (caught.value.hint or "")
    assert find_config(None, {"KUBECONFIG": f"/nowhere:{file}"}).config.context_name == "stub"


@pytest.mark.parametrize("text", ["", "- a", "{clusters: 1}", "\t", "contexts: [{name: a}]"])
def test_a_kubeconfig_that_is_none_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "config"
    file.write_text(text)
    with pytest.raises(Refused, match="kubeconfig"):
        find_config("a", {"KUBECONFIG": str(file)})


def test_root_runs_no_program_that_others_name(
    stub: ClusterStub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = stub.kubeconfig(tmp_path, user_of("aws"))
    file.chmod(0o666)
    monkeypatch.setattr("os.geteuid", lambda: 0)
    with pytest.raises(Refused, match=r"names a program to run as root \('aws'\)"):
        find_config("stub", {"KUBECONFIG": str(file)})


def test_root_sends_no_file_that_others_name_as_a_token(
    stub: ClusterStub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    roots = tmp_path / "shadow"
    roots.write_text("good")
    file = stub.kubeconfig(tmp_path, {"tokenFile": str(roots)})
    file.chmod(0o666)
    monkeypatch.setattr("os.geteuid", lambda: 0)
    with pytest.raises(Refused, match="names a file that root is to send as its token"):
        find_config("stub", {"KUBECONFIG": str(file)})

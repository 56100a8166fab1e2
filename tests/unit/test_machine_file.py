"""The machine's own file: read strictly, only where nobody else could write it, and shown without its secrets."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

import instar.definition
from instar.cli.agent import _channels, _unit
from instar.cli.main import instar as instar_command
from instar.definition.machine import as_component, load_machine, parse_machine
from instar.definition.published import machine_json_schema, machine_reference
from instar.errors import HostError, InstarError, LedgerUnreachable, MachineFileError
from instar.model.machine import (
    AcmeSettings,
    AgentSettings,
    AgeSettings,
    ClusterHere,
    DnsSettings,
    EdgeSettings,
    IndexSettings,
    LogSettings,
    MachineSettings,
    NoticeSettings,
    ReaderSettings,
    RegistrySettings,
    SecretSettings,
    ShipSettings,
)
from instar.model.state import machine_file
from instar.workspace import MachineWorkspace

DOCS = Path(__file__).parents[2] / "docs" / "machine.md"
EXAMPLE = Path(instar.definition.__file__).parent / "machine.yaml"


def written(folder: Path, text: str) -> dict[str, str]:
    (folder / "config.yaml").write_text(text)
    return {"INSTAR_HOME": str(folder)}


def test_the_page_and_its_example_are_current() -> None:
    assert DOCS.read_text("utf-8") == machine_reference()
    assert parse_machine(EXAMPLE.read_text("utf-8"), "machine.yaml") == MachineSettings(
        ledger="postgresql://instar@db.example.org/instar?passfile=/etc/instar/pgpass",
        agent=AgentSettings(metrics="127.0.0.1:9464", check_ms=5000, log_format="json"),
        notices=NoticeSettings(
            command=("/usr/local/bin/page", "--severity", "high"), url="https://hooks.example.org/instar"
        ),
        edge=EdgeSettings(
            http=("0.0.0.0:80", "[::]:80"),
            https=("0.0.0.0:443", "[::]:443"),
            accept_proxy=("10.0.0.7", "10.1.0.0/24"),
        ),
        acme=AcmeSettings(
            contact="ops@example.org",
            dns=DnsSettings(command=("/usr/local/bin/dns-record", "--zone", "example.org"), wait_ms=60_000),
        ),
        registries={
            "registry.example.org": RegistrySettings(
                ca="/etc/instar/registry-ca.pem", mirrors=("mirror.example.org/hub",)
            ),
            "10.0.0.5:5000": RegistrySettings(http=True),
        },
        indexes={
            "internal": IndexSettings(
                url="https://pypi.example.org/simple", user="ci", password="/etc/instar/pypi-password"
            )
        },
        secrets={
            "vault": SecretSettings(
                command=("/usr/local/bin/vault", "kv", "get", "-field=token", "shop"),
                environments=("shop/production",),
            ),
            "mail": SecretSettings(file="/etc/instar/mail-password"),
            "ci": SecretSettings(variable="SHOP_TOKEN"),
        },
        age=AgeSettings(identities="/etc/instar/age-identities"),
        readers=ReaderSettings(group="instar-readers"),
        logs=LogSettings(ship=ShipSettings(socket="unix:/run/vector/instar.sock")),
        kubernetes=ClusterHere(audit_log="/var/log/kubernetes/audit.log"),
    )


def test_the_schema_is_strict() -> None:
    schema = machine_json_schema()
    assert schema["additionalProperties"] is False and set(schema["properties"]) == {
        "ledger",
        "agent",
        "notices",
        "acme",
        "edge",
        "registries",
        "indexes",
        "secrets",
        "age",
        "readers",
        "logs",
        "kubernetes",
    }
    assert schema["properties"]["agent"]["properties"]["check"]["default"] == "5s"
    answer = CliRunner().invoke(instar_command, ["schema", "--machine"], standalone_mode=False)
    assert json.loads(answer.output) == schema


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("agnet: {}\n", "1:1: unknown key 'agnet'; did you mean 'agent'?"),
        ("agent:\n  metric: 127.0.0.1:1\n", "2:3: agent: unknown key 'metric'; did you mean 'metrics'?"),
        ("agent: {check: 5}\n", "1:16: agent.check: expected a time such as"),
        ("agent: {check: 2h}\n", "1:16: agent.check: expected 500ms to 1h, found '2h'"),
        ("agent: {log_format: xml}\n", "1:21: agent.log_format: expected text or json, found 'xml'"),
        ("acme: {directory: 'http://a.example/dir'}\n", "1:19: acme.directory: expected an address such as"),
        ("acme: {directory: 'https://ann:pw@a.example/dir'}\n", "nobody's name and password stand in it"),
        ("acme: {contact: nobody}\n", "1:17: acme.contact: expected a mail address"),
        ("acme: {ca: ca.pem}\n", "1:12: acme.ca: expected an absolute path"),
        ("acme: {check: 'no'}\n", "1:15: acme.check: expected true or false"),
        ("acme: {dns: {command: run it}}\n", "1:23: acme.dns.command: expected a list of words"),
        ("acme: {dns: {timeout: 500ms}}\n", "1:23: acme.dns.timeout: expected 1s to 1h"),
        ("edge: {http: ':80', https: ['[::]:443', '127.0.0.1:80']}\n", "127.0.0.1:80 and 0.0.0.0:80 are one port"),
        ("edge: {http: '127.0.0.1:443'}\n", "1:14: edge.http: 0.0.0.0:443 and 127.0.0.1:443 are one port"),
        ("edge: {https: ['[::1]:8443', '[::1]:8443']}\n", "edge.https: [::1]:8443 stands twice"),
        ("edge: {accept_proxy: 10.0.0.7/8}\n", "found '10.0.0.7/8'; did you mean '10.0.0.0/8'?"),
        ("edge: {accept_proxy: [lb.example]}\n", "expected an address or a network, such as '10.0.0.7'"),
        ("acme: {email: a@b.example}\n", "1:8: acme: unknown key 'email'"),
        ("agent: {}\nagent: {}\n", "2:1: the key 'agent' stands here twice, first in line 1"),
        ("agent: &a {}\nnotices: *a\n", "2:10: '*a' is a YAML alias, and there are none in a machine's file"),
        ("notices: {command: page}\n", "1:20: notices.command: expected a list of words"),
        ("notices: {url: ftp://x}\n", "1:16: notices.url: expected an address"),
        ("notices: {url: 'https://ann:pw@x'}\n", "its address has a user in it; name a program that calls it"),
        ("ledger: /var/lib/x\n", "1:9: ledger: expected the address of a PostgreSQL database"),
        ("ledger: 'postgresql://ann:pw@db/x'\n", "a password does not stand here: name a file with '?passfile=FILE'"),
        ("commands: {}\n", "1:1: there is no 'commands' here; it is not in this version"),
        ("indexes: {Internal: {}}\n", "1:11: indexes: expected a name of a-z"),
        ("indexes: {a: {}}\n", "'url' is missing; expected an address such as 'https://pypi.example.org/simple'"),
        ("indexes: {a: {url: ftp://x}}\n", "1:20: indexes.a.url: expected an address"),
        ("indexes: {a: {url: 'https://ann:pw@x'}}\n", "with a secret in it; who asks is 'user', and a file with"),
        ("indexes: {a: {url: 'http://x.example/s', password: /p}}\n", "everybody on the way would read the password"),
        ("indexes: {a: {url: 'https://x.example/s', user: u}}\n", "'password' is missing: a file with the password"),
        ("indexes: {a: {url: 'https://x.example/s', token: t}}\n", "there is no 'token' here; a file with it is"),
        ("indexes: {a: {url: 'https://x.example/s', password: p}}\n", "expected an absolute path"),
        ("secrets: {a: {}}\n", "1:11: secrets.a: expected one of 'file', 'command' and 'variable', found none"),
        ("secrets: {a: {file: /t, variable: T}}\n", "expected one of 'file', 'command' and 'variable', found file and"),
        ("secrets: {a: {file: t}}\n", "1:21: secrets.a.file: expected an absolute path"),
        ("secrets: {a: {file: /t, timeout: 5s}}\n", "only a 'command' takes time; add it, or remove this"),
        ("secrets: {a: {command: pass t}}\n", "1:24: secrets.a.command: expected a list of words"),
        ("secrets: {a: {command: [pass], timeout: 1h}}\n", "secrets.a.timeout: expected 1s to 10m"),
        ("secrets: {a: {variable: A-B}}\n", "secrets.a.variable: expected a name of letters"),
        ("secrets: {a: {file: /t, environments: [shop]}}\n", "expected SERVICE/ENVIRONMENT, such as 'shop/production'"),
        ("registries: {shop: {}}\n", "1:14: registries: expected the host of a registry"),
        ("registries: {'https://a.example': {}}\n", "write it without 'https://' and without a path"),
        ("registries: {a.example: {http: 'yes'}}\n", "registries.a.example.http: expected true or false"),
        ("registries: {a.example: {ca: ca.pem}}\n", "registries.a.example.ca: expected an absolute path"),
        ("registries: {a.example: {mirrors: [hub]}}\n", "registries.a.example.mirrors: expected a registry such as"),
        ("registries: {a.example: {password: x}}\n", "registries.a.example: unknown key 'password'"),
        ("name: shop\n", "1:1: there is no 'name' here; a service stands in its own instar.yaml"),
        ("- agent\n", "1:1: expected a section such as"),
        ("readers: {}\n", "1:1: readers: 'group' is missing; expected the name of a group of users"),
        ("logs: {}\n", "1:1: logs: 'ship' is missing; expected a section such as {journald: true}"),
        ("logs: {ship: {}}\n", "expected one of 'command', 'file', 'socket' and 'journald', found none"),
        ("logs: {ship: {file: /l, journald: true}}\n", "found file and journald"),
        ("logs: {ship: {to: journald}}\n", "1:15: logs.ship: unknown key 'to'"),
        ("logs: {ship: {file: l}}\n", "1:21: logs.ship.file: expected an absolute path"),
        ("logs: {ship: {socket: 'unix:l'}}\n", "a socket's path is absolute, and has up to 107 characters"),
        (
            "logs: {ship: {socket: 'udp:a:1'}}\n",
            "expected a socket, such as 'unix:/run/vector.sock' or 'tcp:127.0.0.1:5170'",
        ),
        ("logs: {ship: {socket: 'tcp:a:0'}}\n", "a port is from 1 to 65535"),
        ("logs: {ship: {journald: true, what: notices}}\n", "logs.ship.what: expected all, instances or access"),
        ("age: {}\n", "1:1: age: 'identities' is missing; expected an absolute path"),
        ("agent: {}\n---\nagent: {}\n", "a file holds one machine's file"),
    ],
)
def test_what_is_wrong_is_told_with_its_place(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(MachineFileError) as caught:
        load_machine(written(tmp_path, text))
    assert caught.value.code == "machine-file"
    assert any(told in str(problem) for problem in caught.value.problems), str(caught.value)
    assert ":pw@" not in str(caught.value), "a password is repeated by no message"
    assert all(problem.file == str(tmp_path / "config.yaml") for problem in caught.value.problems)


def test_nothing_is_what_an_empty_file_sets(tmp_path: Path) -> None:
    assert load_machine({"INSTAR_HOME": str(tmp_path)}) is None, "none is there"
    assert load_machine(written(tmp_path, "# nothing yet\n")) == MachineSettings()


def test_which_file_it_is(tmp_path: Path) -> None:
    assert machine_file({}) == Path("/etc/instar/config.yaml")
    assert machine_file({"INSTAR_HOME": str(tmp_path)}) == tmp_path / "config.yaml"
    other = tmp_path / "other.yaml"
    named = {"INSTAR_HOME": str(tmp_path), "INSTAR_CONFIG": str(other)}
    assert machine_file(named) == other
    with pytest.raises(HostError, match="which INSTAR_CONFIG names: no such file"):
        load_machine(named)
    other.write_text("agent: {check: 1s}\n")
    assert load_machine(named) == MachineSettings(agent=AgentSettings(check_ms=1000))


@pytest.mark.parametrize(("mode", "who"), [(0o666, "everybody"), (0o662, "everybody")])
def test_a_file_that_others_may_write_is_refused(tmp_path: Path, mode: int, who: str) -> None:
    environ = written(tmp_path, "agent: {}\n")
    (tmp_path / "config.yaml").chmod(mode)
    with pytest.raises(HostError, match=f"{who} may write to '{tmp_path}/config.yaml', and it decides what root runs"):
        load_machine(environ)


def test_a_file_that_others_may_replace_is_refused(tmp_path: Path) -> None:
    environ = written(tmp_path, "agent: {}\n")
    tmp_path.chmod(0o777)
    with pytest.raises(HostError, match=f"everybody may write to '{tmp_path}', and"):
        load_machine(environ)
    tmp_path.chmod(0o1777)
    assert load_machine(environ) == MachineSettings(), "nobody replaces another's file in a sticky folder"


@pytest.mark.root
def test_a_file_of_somebody_else_is_refused_and_a_link(tmp_path: Path) -> None:
    environ = written(tmp_path, "agent: {}\n")
    os.chown(tmp_path / "config.yaml", 54321, 0)
    with pytest.raises(HostError, match="user 54321 may write to"):
        load_machine(environ)
    os.chown(tmp_path / "config.yaml", 0, 54321)
    (tmp_path / "config.yaml").chmod(0o660)
    with pytest.raises(HostError, match="group 54321 may write to"):
        load_machine(environ)
    (tmp_path / "config.yaml").rename(tmp_path / "real.yaml")
    (tmp_path / "config.yaml").symlink_to("real.yaml")
    with pytest.raises(HostError, match=r"cannot read '.*': it is a link"):
        load_machine(environ)


def test_bytes_that_are_no_text_are_told_with_their_place(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_bytes(b"agent: {}\n\xff")
    with pytest.raises(MachineFileError, match="2:1: expected UTF-8 text, found the byte 0xff"):
        load_machine({"INSTAR_HOME": str(tmp_path)})


def test_doctor_shows_what_it_sets_and_no_secret(tmp_path: Path) -> None:
    environ = written(
        tmp_path,
        "agent: {check: 2s}\nnotices: {command: [page, s3cret], url: 'https://hooks.example/s3cret?k=s3cret'}\n"
        "registries: {registry.example: {http: true}, '10.0.0.5:5000': {}}\n",
    )
    shown = as_component(tmp_path / "config.yaml", load_machine(environ))
    assert shown.found == (
        "agent.check 2s, notices.command page, notices.url https://hooks.example/…, "
        "registries registry.example, 10.0.0.5:5000"
    )
    workspace = MachineWorkspace(environ, lambda progress: None)
    assert shown in workspace.components()
    assert as_component(tmp_path / "none.yaml", None).found is None
    (tmp_path / "config.yaml").write_text("agnet: {}\n")
    with pytest.raises(InstarError, match="did you mean 'agent'"):
        MachineWorkspace(environ, lambda progress: None).components()


def test_an_option_wins_over_the_file() -> None:
    settings = NoticeSettings(command=("page", "a b"), url="https://hooks.example/x")
    file_alone = _channels(None, None, settings)
    assert [type(one).__name__ for one in file_alone] == ["Command", "Webhook"]
    assert file_alone[0].__dict__["_argv"] == ("page", "a b")
    (command, webhook) = _channels("other 'c d'", None, settings)
    assert command.__dict__["_argv"] == ("other", "c d") and webhook.__dict__["_host"] == "hooks.example"
    assert _channels(None, None, NoticeSettings()) == []


def test_a_unit_names_the_file_that_was_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INSTAR_CONFIG", "/etc/other.yaml")
    assert "Environment=INSTAR_CONFIG=/etc/other.yaml" in _unit([])
    monkeypatch.delenv("INSTAR_CONFIG")
    assert "INSTAR_CONFIG" not in _unit([])


def test_the_ledger_is_the_files_unless_the_variable_says_otherwise(tmp_path: Path) -> None:
    environ = written(tmp_path, "ledger: postgresql://instar@127.0.0.1:1/nobody\n")
    with pytest.raises(LedgerUnreachable, match=r"127\.0\.0\.1:1"):
        MachineWorkspace(environ, lambda progress: None).ledger  # noqa: B018
    with pytest.raises(LedgerUnreachable, match=r"127\.0\.0\.1:2"):
        MachineWorkspace({**environ, "INSTAR_LEDGER": "postgresql://127.0.0.1:2/x"}, lambda _: None).ledger  # noqa: B018


@pytest.mark.root
def test_the_agent_takes_its_settings_from_the_file(tmp_path: Path) -> None:
    environ = {**os.environ, **written(tmp_path, "agent: {log_format: json}\n")}
    (tmp_path / "run").mkdir(mode=0o700)
    command = [sys.executable, "-c", "from instar.cli.main import main; main()", "agent", "--once"]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (tmp_path / "config.yaml").write_text("agent: {log_fromat: json}\n")
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "config.yaml:1:9: agent: unknown key 'log_fromat'; did you mean 'log_format'?" in done.stderr

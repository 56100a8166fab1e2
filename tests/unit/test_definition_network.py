"""What an environment says of whom its instances may reach, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from instar.definition import load
from instar.errors import DefinitionError
from instar.model.codec import to_json
from instar.model.environment import Allow, Environment, Network, Settings

TEXT = """
name: hello
image: {{base: debian:bookworm}}
service: {{command: [sleep, "9"]}}
environments:
  dev:
    {line}
"""


@pytest.fixture
def environment_of(tmp_path: Path) -> object:
    def read(line: str) -> Environment:
        (tmp_path / "instar.yaml").write_text(TEXT.format(line=line or "instances: 1"))
        return load(tmp_path / "instar.yaml").definition.environments["dev"]

    return read


def network_of(environment_of: object, text: str) -> Network:
    found: Network = environment_of(f"network: {text}").network  # type: ignore[operator]
    return found


def test_nothing_is_allowed_unless_it_is_said(environment_of: object) -> None:
    assert environment_of("").network == Network(allow=(), connections=None)  # type: ignore[operator]


def test_entries_are_read_in_one_form(environment_of: object) -> None:
    text = (
        "{allow: [{to: database/production, ports: [5432, 53/udp, '80/tcp']}, {to: machine}, "
        "{to: 169.254.169.254, ports: [80]}, {to: 10.1.0.0/16}], connections: 500}"
    )
    assert network_of(environment_of, text) == Network(
        allow=(
            Allow(to="database/production", ports=("5432/tcp", "53/udp", "80/tcp")),
            Allow(to="machine"),
            Allow(to="169.254.169.254/32", ports=("80/tcp",)),
            Allow(to="10.1.0.0/16"),
        ),
        connections=500,
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{allow: [{ports: [80]}]}", "'to' is missing"),
        ("{allow: [{to: localhost}]}", "did you mean 'machine'?"),
        ("{allow: [{to: machin}]}", "did you mean 'machine'?"),
        ("{allow: [{to: database}]}", "'SERVICE/database', or 'database/ENVIRONMENT'"),
        ("{allow: [{to: 'fe80::/10'}]}", "instances have no IPv6"),
        ("{allow: [{to: 10.1.2.3/16}]}", "did you mean '10.1.0.0/16'?"),
        ("{allow: [{to: 10.1.2.300}]}", "expected SERVICE/ENVIRONMENT"),
        ("{allow: [{to: 10.1.2.3/33}]}", "expected SERVICE/ENVIRONMENT"),
        ("{allow: [{to: 'db; accept'}]}", "names of hosts are not looked up"),
        ("{allow: [{to: example.org}]}", "names of hosts are not looked up"),
        ("{allow: [{to: machine, ports: [0]}]}", "a port is a number from 1 to 65535"),
        ("{allow: [{to: machine, ports: [70000]}]}", "a port is a number from 1 to 65535"),
        ("{allow: [{to: machine, ports: [53/sctp]}]}", "of udp, it is written as '53/udp'"),
        ("{allow: [{to: machine, ports: []}]}", "found an empty list"),
        ("{allow: [{to: machine, ports: [80, 80/tcp]}]}", "stands here twice"),
        ("{connections: 3}", "expected a whole number from 16"),
    ],
)
def test_what_cannot_be_meant_is_refused(environment_of: object, text: str, said: str) -> None:
    with pytest.raises(DefinitionError) as caught:
        network_of(environment_of, text)
    assert said in str(caught.value), str(caught.value)


def test_settings_that_say_nothing_of_it_stay_what_they_were() -> None:
    environment = Environment(name="dev", network=Network(connections=500))
    assert "network" not in to_json(Settings.of(Environment(name="dev")))
    assert to_json(Settings.of(environment))["network"] == {"allow": [], "connections": 500}

"""What is generated from the schema is complete and current, and what init writes is sound."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import instar.definition
from instar.definition import json_schema, parse, reference, starter
from instar.errors import UsageError
from instar.model.environment import SecretSource

DOCS = Path(__file__).parents[2] / "docs" / "definition.md"
EXAMPLE = Path(instar.definition.__file__).parent / "example.yaml"


def properties(schema: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    if isinstance(schema, dict):
        yield from schema.get("properties", {}).items()
        for value in schema.values():
            yield from properties(value)
    elif isinstance(schema, list):
        for value in schema:
            yield from properties(value)


def test_the_reference_page_is_current() -> None:
    assert DOCS.read_text("utf-8") == reference()


def test_where_a_used_environment_is_found_holds_on_a_cluster_too() -> None:
    (row,) = (line for line in reference().splitlines() if line.startswith("| `uses` |"))
    assert "`SERVICE_HOST` and `SERVICE_PORT`" in row and "Service's name on Kubernetes" in row


def test_every_key_is_titled_and_described() -> None:
    found = list(properties(json_schema()))
    assert len(found) > 60
    for name, schema in found:
        assert schema["title"] == name
        assert schema["description"].endswith("."), name


def test_the_schema_is_strict_and_has_the_defaults() -> None:
    schema = json_schema()
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert schema["required"] == ["name", "image"] and schema["additionalProperties"] is False
    service = schema["properties"]["service"]["properties"]
    assert service["limits"]["properties"]["memory"]["default"] == "256M"
    assert service["health"]["properties"]["deadline"]["default"] == "30s"
    assert service["limits"]["properties"]["cpus"]["default"] == 1.0


def test_null_may_stand_in_environments_and_sections_of_them_need_not_be_whole() -> None:
    properties = json_schema()["properties"]
    for one in (properties["defaults"], properties["environments"]["additionalProperties"]):
        assert one["properties"]["limits"]["type"] == ["object", "null"]
        assert one["properties"]["limits"]["properties"]["memory"]["type"] == ["string", "null"]
        assert one["properties"]["config"]["additionalProperties"]["type"] == ["string", "number", "boolean", "null"]
        assert "required" not in one["properties"]["secrets"]["additionalProperties"]
        assert one["properties"]["network"]["properties"]["allow"]["items"]["required"] == ["to"]
    assert properties["service"]["properties"]["limits"]["type"] == "object"
    assert "listen" not in properties["defaults"]["properties"]


def test_the_example_of_the_page_is_sound() -> None:
    found = parse(EXAMPLE.read_text("utf-8"), "example.yaml").definition
    assert f"```yaml\n{EXAMPLE.read_text('utf-8')}```" in reference()
    assert found.environments["production"].config == {"GREETING": "hello", "WORKERS": "2"}


@pytest.mark.parametrize("name", ["hello", "a", "null", "true", "x" * 31])
def test_the_starter_is_a_sound_definition_of_that_name(name: str) -> None:
    files = starter(name)
    assert set(files) == {"instar.yaml", "site/index.html"}
    found = parse(files["instar.yaml"], "instar.yaml").definition
    assert found.name == name and f"{name} is running" in files["site/index.html"]
    assert found.service.health.path == "/" and found.service.port == 8080
    assert [(file.source, file.to) for file in found.image.files] == [("site", "/srv/site")]
    dev, production = found.environments["dev"], found.environments["production"]
    assert (dev.listen, production.listen) == (("127.0.0.1:8080",), ("127.0.0.1:8090",))
    assert (production.instances, production.promote_from) == (2, "dev")


def test_what_the_starter_comments_out_is_sound_too() -> None:
    lines = starter("hello")["instar.yaml"].splitlines()
    body = lines[lines.index("name: hello") :]
    opened = [line.replace("# ", "", 1) if line.startswith("  ") and line.lstrip()[0] == "#" else line for line in body]
    text = "\n".join(opened).replace("\u2026", "ab" * 32).replace("protocol: tcp", "protocol: http")
    found = parse(text, "instar.yaml").definition
    assert found.image.run and found.image.fetch and found.service.volumes
    assert found.environments["production"].secrets == {"TOKEN": SecretSource(file="secrets/token")}


def test_a_name_that_is_none_starts_nothing() -> None:
    with pytest.raises(UsageError, match="cannot name a service 'My Site'"):
        starter("My Site")

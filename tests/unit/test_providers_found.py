"""Providers are found by their entry points, and bring a section of the definition, read as strictly as the rest."""

from __future__ import annotations

import importlib.metadata
import sys
import tomllib
from pathlib import Path

import pytest

from instar import entry_points
from instar.definition import json_schema, parse, reference
from instar.errors import DefinitionError, ProviderMissing, UsageError
from instar.ledger import Ledger
from instar.model.codec import from_json, to_json
from instar.model.environment import Settings
from instar.model.release import EnvironmentId
from instar.workspace import MachineWorkspace
from simulated.values import configuration, image

SOURCE = """\
from dataclasses import dataclass, field

from instar.model.declaration import key
from instar.providers.traits import Traits


@dataclass(frozen=True, kw_only=True, slots=True)
class ToySettings:
    region: str = field(metadata=key("Where it runs.", "name"))
    wait_ms: int = field(default=1000, metadata=key("How long it may take.", low=100, high=5000))


class ToyPackage:
    traits = Traits(needs_root=False)
    settings = ToySettings

    def components(self): return ()
    def warnings(self, site): return ("toys break",)
    def open(self, site): return ("opened", site.state_id)


TOY = ToyPackage()
"""
BEFORE = "name: shop\nimage: {base: debian:bookworm}\nservice: {command: [x]}\nenvironments:\n  dev:\n"


def declare(folder: Path, name: str, target: str) -> None:
    info = folder / f"instar_{name}-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: instar-{name}\nVersion: 1\n")
    (info / "entry_points.txt").write_text(f"[console_scripts]\nlocal = x:y\n\n[instar.providers]\n{name} = {target}\n")


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "instar_toy.py").write_text(SOURCE)
    declare(tmp_path, "toy", "instar_toy:TOY")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "instar_toy", raising=False)
    return tmp_path


def problems(text: str) -> list[str]:
    with pytest.raises(DefinitionError) as caught:
        parse(BEFORE + text, "instar.yaml")
    return [str(problem) for problem in caught.value.problems]


def test_what_was_made_before_there_was_an_id_goes_on(toy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A provider that asks for none did not have one made by an older Instar."""
    (toy / "instar_plain.py").write_text(SOURCE.replace("site.state_id", "site.find_state_id()"))
    declare(toy, "plain", "instar_plain:TOY")
    monkeypatch.delitem(sys.modules, "instar_plain", raising=False)
    entry_points._declared.cache_clear()
    environment = EnvironmentId(service="shop", name="dev")

    def opened(home: str) -> object:
        workspace = MachineWorkspace({"INSTAR_HOME": str(toy / home)}, lambda progress: None)
        with workspace.ledger:
            return workspace.provider("plain")

    with Ledger(toy / "older/ledger/instar.db", actor="ann") as ledger:
        ledger.save_settings(environment, Settings(provider="plain"))
        ledger.add_release(environment, image().digest, configuration())
        ledger.add_instances(environment, 1, 1)
    assert opened("older") == ("opened", None)
    assert opened("new") == ("opened", (toy / "new/id").read_text().strip())


def test_what_is_declared_is_found_as_the_library_finds_it(toy: Path) -> None:
    found = {one.name for one in importlib.metadata.entry_points(group="instar.providers")}
    assert found == set(entry_points.provider_names()) == {"kubernetes", "local", "toy"}
    assert entry_points.find_provider("toy").traits.needs_root is False  # type: ignore[union-attr]
    assert entry_points.find_provider("local").traits.needs_root is True  # type: ignore[union-attr]
    assert entry_points.find_provider("nobody") is None


def test_the_sources_declare_what_the_project_does() -> None:
    root = Path(__file__).parents[2]
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    (entries,) = importlib.metadata.distributions(name="instar", path=[str(root / "src")])
    assert (entries.metadata["Name"], entries.version) == (project["name"], project["version"])
    found = {one.name: one.value for one in entries.entry_points if one.group == "instar.providers"}
    assert found == project["entry-points"]["instar.providers"]


def test_a_provider_that_cannot_be_had_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    declare(tmp_path, "broken", "instar_broken.nowhere:X")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(
        UsageError, match=r"cannot use provider 'broken', which 'instar_broken.nowhere:X' is to be: Mod"
    ):
        entry_points.find_provider("broken")


def test_whatever_its_package_does_when_it_is_imported_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "instar_sick.py").write_text("raise RuntimeError('no\\nway')\n")
    declare(tmp_path, "sick", "instar_sick:X")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ProviderMissing, match=r"cannot use provider 'sick', .* is to be: RuntimeError: no way") as told:
        entry_points.find_provider("sick")
    assert "uninstall it" in str(told.value.hint)
    with pytest.raises(ProviderMissing):
        json_schema()
    workspace = MachineWorkspace({"INSTAR_HOME": str(tmp_path / "home")}, lambda progress: None)
    (sick,) = (one for one in workspace.components() if one.name == "provider sick")
    assert sick.found is None and sick.required and "RuntimeError: no way" in sick.get
    assert any(one.name == "runc" for one in workspace.components()) and workspace.warnings() is not None


def test_two_packages_of_one_name_are_refused_and_no_one_takes_the_place_of_local(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    declare(tmp_path, "local", "instar_evil:X")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ProviderMissing, match=r"several packages have one of that name: .*instar_local.*instar_evil:X"):
        entry_points.find_provider("local")


def test_a_key_of_its_settings_that_names_no_value_is_told_as_its_package_s(
    toy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (toy / "instar_other.py").write_text(SOURCE.replace('"name"))', '"a path"))'))
    declare(toy, "other", "instar_other:TOY")
    monkeypatch.delitem(sys.modules, "instar_other", raising=False)
    entry_points._declared.cache_clear()
    with pytest.raises(
        ProviderMissing, match="the settings that provider 'other' declares: no value is called 'a path"
    ):
        json_schema()


def test_the_workspace_opens_whom_it_finds(toy: Path, tmp_path: Path) -> None:
    workspace = MachineWorkspace({"INSTAR_HOME": str(tmp_path / "home")}, lambda progress: None)
    assert workspace.provider("toy") == ("opened", workspace.state_id)  # type: ignore[comparison-overlap]
    assert "toys break" in workspace.warnings()
    with pytest.raises(UsageError, match="cannot find provider 'nobody': installed here: 'kubernetes', 'local', 'toy'"):
        workspace.provider("nobody")


def test_its_section_is_read_strictly_and_kept_as_json(toy: Path) -> None:
    text = "    provider: toy\n    toy: {region: north, wait: 2s}\n"
    found = Settings.of(parse(BEFORE + text, "instar.yaml").definition.environments["dev"])
    assert (found.provider, found.provider_settings) == ("toy", {"region": "north", "wait_ms": 2000})
    assert from_json(Settings, to_json(found)) == found
    assert "provider_settings" not in to_json(Settings()), "what was written before has the same digest"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            "    provider: toyy\n",
            "6:15: environments.dev.provider: expected kubernetes, local or toy, found 'toyy'; did",
        ),
        (
            "    provider: vm\n",
            "6:15: environments.dev.provider: 'vm' is not in this version; expected kubernetes, local or",
        ),
        ("    provider: toy\n", "5:3: environments.dev: 'toy' is missing; it needs 'region', "),
        (
            "    provider: toy\n    toy: {regoin: x}\n",
            "7:11: environments.dev.toy: unknown key 'regoin'; did you mean 'reg",
        ),
        (
            "    provider: toy\n    toy: {region: x, wait: 9s}\n",
            "environments.dev.toy.wait: expected 100ms to 5s, found '9s'",
        ),
        ("    toy: {region: x}\n", "6:5: environments.dev.toy: this environment's provider is 'local'; remove it, or"),
        (
            "    provider: toy\n    toyy: {region: x}\n",
            "7:5: environments.dev: unknown key 'toyy'; did you mean 'toy'?",
        ),
    ],
)
def test_what_is_wrong_with_it_is_told_with_its_place(toy: Path, text: str, told: str) -> None:
    found = problems(text)
    assert any(told in one for one in found), found


def test_it_is_in_the_schema_and_the_page(toy: Path) -> None:
    environment = json_schema()["properties"]["environments"]["additionalProperties"]
    assert environment["properties"]["provider"]["enum"] == ["kubernetes", "local", "toy", None]
    assert "region" in environment["properties"]["toy"]["properties"]  # which may stand in 'defaults' alone
    assert "## `environments.NAME.toy`" in reference() and "| `wait` | How long it may take." in reference()

"""The machine's npm configuration, read as data: which registry has a package, and which password goes to whom."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from instar.ecosystems.npm_registry import NpmConfiguration, read_configuration
from instar.errors import FetchError


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "global").write_text("registry = https://global.example/npm/\ncafile=/etc/ca.pem\n")
    return tmp_path


def read(home: Path, text: str = "", **environ: str) -> NpmConfiguration:
    (home / ".npmrc").write_text(text)
    return read_configuration({"HOME": str(home), "NPM_CONFIG_GLOBALCONFIG": str(home / "global"), **environ})


def test_the_callers_file_goes_before_the_machines_and_the_environment_before_both(home: Path) -> None:
    assert read(home).registry("a") == "https://global.example/npm"
    assert read(home, "registry=https://own.example\n").registry("a") == "https://own.example"
    told = read(home, "registry=https://own.example\n", npm_config_registry="http://127.0.0.1:4873/")
    assert told.registry("a") == "http://127.0.0.1:4873"
    assert told.settings["cafile"] == "/etc/ca.pem"


def test_a_scope_has_a_registry_of_its_own(home: Path) -> None:
    found = read(home, "; a comment\n# another\n@team:registry=https://team.example/\n")
    assert found.registry("@team/a") == "https://team.example"
    assert found.registry("@other/a") == found.registry("team") == "https://global.example/npm"


def test_a_password_goes_to_the_host_and_path_that_it_is_for_and_nowhere_else(home: Path) -> None:
    password = base64.b64encode(b"secret").decode()
    found = read(
        home,
        "//one.example/npm/:_authToken=${TOKEN}\n//two.example:8443/:_auth=YTpi\n"
        f"//three.example/:username=me\n//three.example/:_password={password}\n_authToken=for-nobody\n",
        TOKEN="t0k3n",
    )
    assert found.authorisation("https://one.example/npm/a/-/a-1.tgz") == "Bearer t0k3n"
    assert found.authorisation("https://two.example:8443/a") == "Basic YTpi"
    assert found.authorisation("https://three.example/x/y") == f"Basic {base64.b64encode(b'me:secret').decode()}"
    for other in (
        "https://one.example/other/a",
        "https://one.example/npm",
        "https://one.example.evil.example/npm/a",
        "https://one.example@evil.example/npm/a",
        "https://two.example/a",
        "https://evil.example/npm/a?//one.example/npm/",
    ):
        assert found.authorisation(other) is None


def test_a_password_that_cannot_be_read_is_not_shown(home: Path) -> None:
    found = read(home, "//one.example/:username=me\n//one.example/:_password=s3cret!\n")
    with pytest.raises(FetchError, match="its '_password' is not base64") as caught:
        found.authorisation("https://one.example/a")
    assert "s3cret" not in str(caught.value)


def test_a_project_file_beside_a_definition_is_not_read(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = tmp_path / "project"
    project.mkdir()
    (project / ".npmrc").write_text("registry=https://evil.example\n")
    monkeypatch.chdir(project)
    assert read(home).registry("a") == "https://global.example/npm"


def test_proxies_are_npms_where_it_names_some(home: Path) -> None:
    found = read(home, "https-proxy=http://proxy.example:3128\nproxy=null\n")
    assert found.proxies({"http_proxy": "http://own.example"}) == {
        "http_proxy": "http://own.example",
        "https_proxy": "http://proxy.example:3128",
    }

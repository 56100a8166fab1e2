"""Who we are to a registry, by the files of docker and podman, and nothing of it in what is said."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from instar import process
from instar.errors import HostError
from instar.model.reference import Repository
from instar.registry.credentials import Credentials, find_credentials

REPOSITORY = Repository(host="registry.example:5000", path="team/shop")


def entry(user: str, password: str = "word") -> dict[str, str]:
    return {"auth": base64.b64encode(f"{user}:{password}".encode()).decode()}


def written(folder: Path, data: Any, name: str = "auth.json") -> dict[str, str]:
    (folder / name).write_text(data if isinstance(data, str) else json.dumps(data))
    return {"REGISTRY_AUTH_FILE": str(folder / name)}


def user(environ: dict[str, str], repository: Repository = REPOSITORY) -> str | None:
    found = find_credentials(repository, environ)
    return found.user if found else None


def test_nobody_without_a_file(tmp_path: Path) -> None:
    assert find_credentials(REPOSITORY, {}) is None
    assert find_credentials(REPOSITORY, {"HOME": str(tmp_path), "REGISTRY_AUTH_FILE": str(tmp_path / "none")}) is None


@pytest.mark.parametrize(
    ("key", "known"),
    [
        ("registry.example:5000", True),
        ("https://registry.example:5000", True),
        ("https://registry.example:5000/v2/", True),
        ("http://registry.example:5000/v1/", True),
        ("registry.example:5000/team", True),
        ("registry.example:5000/team/shop", True),
        ("registry.example:5000/team/sho", False),
        ("registry.example:5000/other", False),
        ("registry.example", False),
        ("registry.example:50001", False),
        ("evil-registry.example:5000", False),
    ],
)
def test_which_entry_is_a_registrys(tmp_path: Path, key: str, known: bool) -> None:
    assert user(written(tmp_path, {"auths": {key: entry("ann")}})) == ("ann" if known else None)


@pytest.mark.parametrize("key", ["https://index.docker.io/v1/", "docker.io", "docker.io/library/shop"])
def test_dockers_own_registry_goes_by_the_name_that_docker_login_writes(tmp_path: Path, key: str) -> None:
    environ = written(tmp_path, {"auths": {key: entry("ann")}})
    assert user(environ, Repository(host="docker.io", path="library/shop")) == "ann"
    assert user(environ, Repository(host="index.docker.io.example", path="shop")) is None


def test_the_longest_name_wins(tmp_path: Path) -> None:
    auths = {
        "registry.example:5000": entry("all"),
        "registry.example:5000/team/shop": entry("shop"),
        "registry.example:5000/team": entry("team"),
    }
    assert user(written(tmp_path, {"auths": auths})) == "shop"


def test_the_order_of_the_files(tmp_path: Path) -> None:
    host = REPOSITORY.host
    places = (".docker/config.json", ".config/containers/auth.json", "run/containers/auth.json", "own.json")
    environ = {"HOME": str(tmp_path), "XDG_RUNTIME_DIR": str(tmp_path / "run")}
    environ["REGISTRY_AUTH_FILE"] = str(tmp_path / "own.json")
    for number, place in enumerate(places):
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        written(tmp_path, {"auths": {host: entry(f"user-{number}")}}, place)
        assert user(environ) == f"user-{number}"
    written(tmp_path, {"auths": {}}, "own.json")
    assert user(environ) == "user-2"


def test_a_password_may_have_colons_and_a_token_no_password(tmp_path: Path) -> None:
    found = find_credentials(REPOSITORY, written(tmp_path, {"auths": {REPOSITORY.host: entry("ann", "a:b:c")}}))
    assert found == Credentials(user="ann", password="a:b:c")
    assert found.basic == "Basic " + base64.b64encode(b"ann:a:b:c").decode()
    token = {"auths": {REPOSITORY.host: {"identitytoken": "long-word"}}}
    found = find_credentials(REPOSITORY, written(tmp_path, token))
    assert found is not None and found.identity_token == "long-word"
    assert "word" not in repr(found)


@pytest.mark.parametrize(
    "data", ["", "{", "[]", "null", '{"auths": []}', '{"auths": {"registry.example:5000": "ann"}}', "\0" * 10]
)
def test_a_file_of_another_form_is_said_or_has_nothing(tmp_path: Path, data: str) -> None:
    try:
        assert find_credentials(REPOSITORY, written(tmp_path, data)) is None
    except HostError as error:
        assert str(tmp_path / "auth.json") in error.message


@pytest.mark.parametrize("auth", ["not base64 secret", base64.b64encode(b"secretwithoutcolon").decode()])
def test_a_damaged_entry_is_said_without_what_is_in_it(tmp_path: Path, auth: str) -> None:
    with pytest.raises(HostError) as caught:
        find_credentials(REPOSITORY, written(tmp_path, {"auths": {REPOSITORY.host: {"auth": auth}}}))
    assert auth not in str(caught.value) and "secret" not in str(caught.value)


def test_a_file_that_others_may_write_to_is_refused(tmp_path: Path) -> None:
    environ = written(tmp_path, {"auths": {REPOSITORY.host: entry("ann")}})
    (tmp_path / "auth.json").chmod(0o666)
    with pytest.raises(HostError) as caught:
        find_credentials(REPOSITORY, environ)
    assert "everybody may write to it" in caught.value.message


# helpers


@pytest.fixture
def helper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A program among this machine's."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setattr(process, "PATH", f"{folder}:{process.PATH}")
    path = folder / "docker-credential-test"
    path.touch(0o755)
    yield path


def saying(helper: Path, text: str, status: int = 0) -> None:
    helper.write_text(
        f'#!/bin/sh\ncat > {helper}.asked\necho "$1 $HOME $SECRET_OF_OURS" > {helper}.called\n{text}\nexit {status}\n'
    )


def test_a_helper_is_asked_for_its_registry(helper: Path, tmp_path: Path) -> None:
    saying(helper, """echo '{"ServerURL": "x", "Username": "ann", "Secret": "long-word"}'""")
    environ = written(tmp_path, {"credHelpers": {REPOSITORY.host: "test"}, "auths": {REPOSITORY.host: entry("other")}})
    found = find_credentials(REPOSITORY, {**environ, "HOME": "/home/ann", "SECRET_OF_OURS": "x"})
    assert found == Credentials(user="ann", password="long-word")
    assert Path(f"{helper}.asked").read_text() == REPOSITORY.host
    assert Path(f"{helper}.called").read_text() == "get /home/ann \n"
    assert user({**environ}, Repository(host="other.example", path="x")) is None


def test_the_helper_for_all_goes_after_what_the_file_has(helper: Path, tmp_path: Path) -> None:
    saying(helper, """echo '{"Username": "<token>", "Secret": "identity"}'""")
    environ = written(tmp_path, {"credsStore": "test", "auths": {REPOSITORY.host: entry("ann"), "b.example": {}}})
    assert user(environ) == "ann"
    found = find_credentials(Repository(host="b.example", path="x"), environ)
    assert found == Credentials(user="", password="", identity_token="identity")


def test_a_helper_is_asked_for_dockers_own_registry_by_each_of_its_names(helper: Path, tmp_path: Path) -> None:
    saying(helper, f"cat {helper}.asked >> {helper}.all; echo >> {helper}.all; echo credentials not found", 1)
    shop = Repository(host="docker.io", path="library/shop")
    assert user(written(tmp_path, {"credsStore": "test"}), shop) is None
    names = ["https://index.docker.io/v1/", "index.docker.io", "docker.io"]
    assert Path(f"{helper}.all").read_text().split() == names
    saying(helper, """echo '{"Username": "ann", "Secret": "word"}'""")
    for name in names:
        assert user(written(tmp_path, {"credHelpers": {name: "test"}}), shop) == "ann"
        assert Path(f"{helper}.asked").read_text() == name


@pytest.mark.parametrize(
    ("text", "status"),
    [
        ("echo long-word", 0),
        ('echo \'{"Username": 1, "Secret": "long-word"}\'', 0),
        ("echo '[\"long-word\"]'", 0),
        ("echo long-word; echo long-word >&2", 3),
        ("kill -9 $$", 0),
    ],
)
def test_a_helper_that_fails_is_named_and_not_quoted(helper: Path, tmp_path: Path, text: str, status: int) -> None:
    saying(helper, text, status)
    with pytest.raises(HostError) as caught:
        find_credentials(REPOSITORY, written(tmp_path, {"credHelpers": {REPOSITORY.host: "test"}}))
    assert "docker-credential-test" in caught.value.message
    assert "long-word" not in str(caught.value) and caught.value.__cause__ is None


def test_a_helper_that_knows_nobody(helper: Path, tmp_path: Path) -> None:
    saying(helper, "echo credentials not found in native keychain", 1)
    assert user(written(tmp_path, {"credHelpers": {REPOSITORY.host: "test"}})) is None


def test_a_helper_has_a_time(helper: Path, tmp_path: Path) -> None:
    saying(helper, "echo long-word; sleep 60")
    environ = written(tmp_path, {"credHelpers": {REPOSITORY.host: "test"}})
    with pytest.raises(HostError) as caught:
        find_credentials(REPOSITORY, environ, timeout_s=0.5)
    assert "has not ended in 0.5 s" in caught.value.message and "long-word" not in str(caught.value)


@pytest.mark.parametrize("name", ["../x", "/bin/sh", "a/b", "", ".x", "a b", "x" * 80, 3, ["test"], None])
def test_a_helper_is_a_word(name: Any, tmp_path: Path) -> None:
    environ = written(tmp_path, {"credHelpers": {REPOSITORY.host: name}})
    if name is None:
        assert user(environ) is None
        return
    with pytest.raises(HostError) as caught:
        find_credentials(REPOSITORY, environ)
    assert "never by a path" in caught.value.message


def test_a_helper_that_is_not_here(tmp_path: Path) -> None:
    with pytest.raises(HostError) as caught:
        find_credentials(REPOSITORY, written(tmp_path, {"credsStore": f"none-{os.getpid()}"}))
    assert "is not here" in caught.value.message

"""Age files: for whom they are written, with whose keys they are read, and what is told when they can't be."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from instar.cli.backup import _identities
from instar.cli.options import any_workspace
from instar.errors import HostError, InstarError, Refused, UsageError
from instar.model.environment import Environment, SecretSource
from instar.operations.age_files import (
    decrypted,
    encrypted_for,
    find_identities,
    find_recipients,
    make_identity,
    public_keys,
    recipients_of,
)
from instar.operations.secret_sources import Sources, read_secrets


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    """Of a caller with an identity of their own."""
    make_identity(tmp_path / "home/.config/instar/age-identities")
    return {"HOME": str(tmp_path / "home"), "INSTAR_HOME": str(tmp_path / "state")}


def by_passphrase(armored: bool) -> bytes:
    import pyrage

    made = pyrage.passphrase.encrypt(b"value", "a passphrase", armored=armored)
    assert isinstance(made, bytes)
    return made


def told(data: bytes, environ: dict[str, str]) -> InstarError:
    with pytest.raises(Refused) as caught:
        decrypted(data, find_identities(None, environ), "cannot read secret 'TOKEN' from 't.age'")
    assert caught.value.message.startswith("cannot read secret 'TOKEN' from 't.age': ")
    return caught.value


def test_what_is_encrypted_for_several_each_of_them_reads(tmp_path: Path, environ: dict[str, str]) -> None:
    make_identity(tmp_path / "machine")
    both = (*find_identities(str(tmp_path / "machine"), {}), *find_identities(None, environ))
    assert public_keys(find_identities(str(tmp_path / "machine"), environ)) == public_keys(both)
    data = encrypted_for(public_keys(both), b"\x00\xffvalue\n")
    assert data.startswith(b"-----BEGIN AGE ENCRYPTED FILE-----\n") and b"value" not in data
    assert [decrypted(data, [one], "x") for one in both] == [b"\x00\xffvalue\n"] * 2


def test_a_secret_of_an_environment_is_what_its_age_file_holds(tmp_path: Path, environ: dict[str, str]) -> None:
    (tmp_path / "t.age").write_bytes(encrypted_for(public_keys(find_identities(None, environ)), b"value\n"))
    environment = Environment(name="dev", secrets={"TOKEN": SecretSource(age="t.age")})
    assert read_secrets(tmp_path, environment, Sources(environ=environ)) == {"TOKEN": b"value\n"}
    with pytest.raises(HostError, match="cannot find an age identity") as caught:
        read_secrets(tmp_path, environment, Sources(environ={"HOME": str(tmp_path), "INSTAR_HOME": str(tmp_path)}))
    assert f"age.identities in {tmp_path}/config.yaml" in (caught.value.hint or "")
    make_identity(tmp_path / "other")
    with pytest.raises(Refused, match=r"cannot read secret 'TOKEN' from 't\.age': it is for other keys than the ones"):
        read_secrets(tmp_path, environment, Sources(environ={}, identities=str(tmp_path / "other")))


def test_what_is_damaged_is_told_and_nothing_of_it_is_given(environ: dict[str, str]) -> None:
    data = encrypted_for(public_keys(find_identities(None, environ)), b"value")
    lines = data.splitlines(keepends=True)
    for damaged in (
        data[:-60],
        b"".join(lines[:3]),
        b"".join([lines[0], lines[1].swapcase(), *lines[2:]]),
        b"".join([*lines[:-2], b"A" * 44 + b"\n", lines[-1]]),
        b"age-encryption.org/v1\n",
        b"age-encryption.org/v1\n-> X25519 \xff\n---\n",
    ):
        assert "it is damaged: " in told(damaged, environ).message
    for other in (b"", b"value", b"\x00" * 100):
        assert "it is no age file" in told(other, environ).message


@pytest.mark.parametrize("armored", [False, True])
def test_nobody_is_asked_for_a_passphrase(environ: dict[str, str], armored: bool) -> None:
    assert "it is encrypted by a passphrase" in told(by_passphrase(armored), environ).message


def test_identities_are_not_everybodys_and_no_message_repeats_one(tmp_path: Path) -> None:
    file = tmp_path / "identities"
    make_identity(file)
    assert file.stat().st_mode & 0o777 == 0o600
    key = file.read_text()
    make_identity(file)
    assert file.read_text() == key, "one that is there stays"
    file.chmod(0o644)
    with pytest.raises(HostError, match="everybody on this machine may read it"):
        find_identities(str(file), {})
    file.chmod(0o600)
    for text, expected in (
        ("# nothing\n\n", "there is none in it"),
        (key + key.splitlines()[1][:-1] + "\n", "line 3 is no identity"),
        ("ssh-ed25519 AAAA\n", "line 1 is no identity"),
        (by_passphrase(True).decode(), "it is itself encrypted"),
        ("#" * 70_000, "it is larger than 65,536 bytes"),
    ):
        file.write_text(text)
        with pytest.raises(HostError) as caught:
            find_identities(str(file), {})
        assert expected in caught.value.message
        assert "AGE-SECRET-KEY-1" not in caught.value.message
    with pytest.raises(HostError, match="there is no such file"):
        find_identities(str(tmp_path / "gone"), {})


def test_recipients_are_public_keys_and_nothing_else(tmp_path: Path, environ: dict[str, str]) -> None:
    assert find_recipients(tmp_path) == ()
    [mine] = public_keys(find_identities(None, environ))
    file = tmp_path / "age-recipients"
    file.write_text(f"# ann\n{mine}\n\n  {mine}\n")
    assert find_recipients(tmp_path) == (mine,)
    secret = (tmp_path / "home/.config/instar/age-identities").read_text().splitlines()[1]
    for text, expected in (
        ("", "names no public key"),
        (f"{mine}\n{mine}x\n", "line 2: 'age1"),
        ("ssh-ed25519 AAAA\n", "line 1: 'ssh-ed25519 AAAA' is no public key of age"),
        (f"{secret}\n", "line 1: it is a secret key"),
    ):
        file.write_text(text)
        with pytest.raises(Refused) as caught:
            find_recipients(tmp_path)
        assert expected in caught.value.message
        assert secret not in caught.value.message


def test_a_backup_is_read_with_the_identity_that_it_is_for_not_with_a_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    monkeypatch.setenv("INSTAR_HOME", str(tmp_path / "home"))
    with pytest.raises(HostError, match="cannot read the backup, which is encrypted: cannot find") as caught:
        _identities(any_workspace(), ())
    assert caught.value.hint == "name the file with the identity that it was made for: instar restore -i FILE …"


@pytest.mark.parametrize(
    ("words", "content", "said"),
    [
        (["age1abc"], None, "the public key in --recipient: 'age1abc' is not whole"),
        ([], "", "names no public key"),
        ([], "age1abc\n", "line 1: 'age1abc' is not whole"),
        ([], None, "No such file"),
    ],
)
def test_a_key_that_is_wrong_on_the_command_line_is_wrong_usage(
    tmp_path: Path, words: list[str], content: str | None, said: str
) -> None:
    path = tmp_path / "keys"
    if content is not None:
        path.write_text(content)
    with pytest.raises(UsageError, match=re.escape(said)):
        recipients_of(words, [] if words else [path])

"""Backups of a real state directory, put back on a machine that has nothing; and each thing that is no such."""

from __future__ import annotations

import dataclasses
import os
import tarfile
import threading
from pathlib import Path

import pyrage
import pytest
from backup_home import DEV, KEY, OTHER_KEY, Home, changed, fill, image_of, write

from instar.backup.contents import FORMAT
from instar.errors import (
    BackupDamaged,
    BackupError,
    BackupNewer,
    BlobDamaged,
    EnvironmentBusy,
    HostError,
    LedgerDamaged,
    NotFound,
    Refused,
    UsageError,
)
from instar.model.environment import Settings
from instar.model.release import EnvironmentId
from instar.operations import backup as making
from instar.operations import restore as restoring
from instar.operations.gc import gc
from instar.operations.locks import keep_from_gc
from instar.operations.restore import check_backup
from instar.store import room

pytestmark = pytest.mark.root


@pytest.fixture
def home(tmp_path: Path) -> Home:
    made = Home(tmp_path / "home")
    fill(made)
    return made


@pytest.fixture
def empty(tmp_path: Path) -> Home:
    return Home(tmp_path / "empty")


@pytest.fixture
def plain(home: Home, tmp_path: Path) -> Path:
    home.back_up(tmp_path / "plain.tar", secrets=False)
    return tmp_path / "plain.tar"


@pytest.fixture
def encrypted(home: Home, tmp_path: Path) -> Path:
    home.back_up(tmp_path / "backup.age")
    return tmp_path / "backup.age"


def move_away(home: Home) -> None:
    """Have the machine burn down."""
    home.path.rename(home.path.with_name("burnt"))


def test_all_that_is_needed_is_there_again(home: Home, empty: Home, encrypted: Path) -> None:
    image, before = image_of(home), home.files()
    history = home.open().ledger.history()
    identifier = (home.path / "id").read_text()
    move_away(home)
    restored = empty.restore(encrypted)
    assert image_of(empty) == image
    assert empty.open().ledger.history()[: len(history)] == history
    assert [one.kind for one in empty.open().ledger.history()[len(history) :]] == ["ledger-restored"]
    assert (empty.path / "id").read_text() == identifier and restored.state_id == identifier.strip()
    after = empty.files()
    assert {name: data for name, data in before.items() if name in after and name != "store/index.json"} == {
        name: data for name, data in after.items() if name != "store/index.json"
    }
    assert {name.partition("/")[0] for name in after} == {
        *("store", "secrets", "certificates", "recordings", "evidence", "config.yaml")
    }
    assert list(empty.open().store.tags()) == ["kept"] and len(empty.open().store.images()) == 1
    modes = {path.stat().st_mode & 0o077 for path in empty.path.rglob("*") if path.name not in ("id", "config.yaml")}
    assert modes == {0}


def test_the_machines_own_file_is_put_there_only_when_somebody_wants_it(
    home: Home, empty: Home, encrypted: Path, tmp_path: Path
) -> None:
    """Root runs what it names."""
    asked: list[tuple[Path, str]] = []

    def no(path: Path, text: str) -> bool:
        asked.append((path, text))
        return False

    def nobody(path: Path, text: str) -> bool:
        raise UsageError("nobody can be asked")

    move_away(home)
    with pytest.raises(UsageError):
        empty.restore(encrypted, wants=nobody)
    assert not (empty.path / "ledger").exists() and not (empty.path / ".restore").exists()
    assert empty.restore(encrypted, wants=no).machine_file == "left"
    assert asked == [(empty.path / "config.yaml", "{}\n")] and not (empty.path / "config.yaml").exists()
    other = Home(tmp_path / "other", {"INSTAR_CONFIG": str(tmp_path / "mine.yaml")})
    (tmp_path / "mine.yaml").write_text("{}\n# mine\n")
    assert other.restore(encrypted, machine="new", wants=nobody).machine_file == "other"
    assert (tmp_path / "mine.yaml").read_text() == "{}\n# mine\n"


def test_where_nobody_can_be_asked_nothing_is_restored(
    home: Home, empty: Home, encrypted: Path, tmp_path: Path
) -> None:
    identity = tmp_path / "identity"
    identity.write_text(f"{KEY}\n")
    identity.chmod(0o600)
    words = ("restore", "-i", str(identity), "--machine", "new", str(encrypted))
    assert empty.command(*words) == 64
    assert not (empty.path / "ledger").exists() and not (empty.path / "config.yaml").exists()
    assert empty.command(*words, "--no-machine-file") == 0
    assert not (empty.path / "config.yaml").exists() and image_of(empty) == image_of(home)


def test_what_is_encrypted_shows_nothing_and_age_alone_reads_it(encrypted: Path, tmp_path: Path) -> None:
    data = encrypted.read_bytes()
    assert data.startswith(b"age-encryption.org/v1\n") and b"swordfish" not in data and b"web/dev" not in data
    assert encrypted.stat().st_mode & 0o777 == 0o600
    (tmp_path / "plain.tar").write_bytes(pyrage.decrypt(data, [KEY]))
    with tarfile.open(tmp_path / "plain.tar") as opened:
        names = opened.getnames()
    assert names[0] == "backup.json" and names[1] == "ledger/instar.db" and names[-1] == "manifest.json"


def test_without_secrets_none_is_in_it(home: Home, empty: Home, plain: Path) -> None:
    data = plain.read_bytes()
    assert b"swordfish" not in data and (home.path / "secrets/key").read_bytes() not in data
    assert b"BEGIN CERTIFICATE" not in data
    restored = empty.restore(plain, machine="new")
    assert not restored.summary.secrets and not (empty.path / "secrets").exists()
    assert [one.secrets for one in restored.summary.environments] == [True]


def test_secrets_never_stand_in_the_clear(home: Home, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="nothing says for whom to encrypt"):
        restoring_file = tmp_path / "backup.age"
        making.backup(home.open(), restoring_file, keys=(), key_files=(), secrets=True)
    assert not (tmp_path / "backup.age").exists()


def test_a_file_of_keys_that_has_none_leaves_nothing_in_the_clear(home: Home, tmp_path: Path) -> None:
    keys, file = tmp_path / "keys", tmp_path / "backup.age"
    for text in ("", "# nobody yet\n"):
        keys.write_text(text)
        with pytest.raises(UsageError, match="names no public key"):
            making.backup(home.open(), file, keys=(), key_files=[keys], secrets=False)
        assert not file.exists()
    keys.write_text(f"# ann\n{KEY.to_public()}\n{OTHER_KEY.to_public()}\n")
    making.backup(home.open(), file, keys=(), key_files=[keys], secrets=True)
    Home(tmp_path / "empty").restore(file, key=OTHER_KEY, machine="new")


def test_a_backup_is_of_something_and_replaces_nothing(home: Home, empty: Home, plain: Path) -> None:
    before = plain.read_bytes()
    with pytest.raises(Refused, match="there is such a file"):
        home.back_up(plain)
    assert plain.read_bytes() == before
    with pytest.raises(UsageError, match="there is no folder"):
        home.back_up(plain.parent / "missing" / "file")
    with pytest.raises(NotFound, match="nothing of Instar's"):
        empty.back_up(plain.parent / "other")
    assert not empty.path.exists()


def test_what_is_damaged_here_is_found_before_it_is_needed(home: Home, tmp_path: Path) -> None:
    blob = max((home.path / "store/blobs/sha256").iterdir(), key=lambda path: path.stat().st_size)
    image = home.open().store.find("kept")
    blob = home.open().store.path(image.layers[0].digest)
    data = blob.read_bytes()
    blob.chmod(0o600)
    blob.write_bytes(bytes(len(data)))
    with pytest.raises(BlobDamaged):
        home.back_up(tmp_path / "backup.age")
    blob.unlink()
    with pytest.raises(BlobDamaged, match="it is missing"):
        home.back_up(tmp_path / "backup.age")
    home.open().store.remove(image.digest)
    with pytest.raises(BackupError, match="the store has no image"):
        home.back_up(tmp_path / "backup.age")
    assert [path.name for path in tmp_path.iterdir() if "backup.age" in path.name] == []
    assert [path.name for path in home.path.iterdir() if path.name.startswith(".backup")] == []


def test_nothing_is_collected_while_a_backup_is_made(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = threading.Event()

    class Collector(threading.Thread):
        def run(self) -> None:
            asked.set()
            gc(home.open(), dry_run=False)

    collector = Collector()
    seen = []
    real = making.write

    def write_slowly(*words: object) -> int:
        collector.start()
        asked.wait(10)
        collector.join(1.0)
        seen.append(collector.is_alive())
        return real(*words)  # type: ignore[arg-type]

    monkeypatch.setattr(making, "write", write_slowly)
    home.back_up(tmp_path / "backup.age")
    collector.join(60)
    assert seen == [True] and not collector.is_alive()
    with keep_from_gc(home.open()):
        pass


def test_what_is_decided_meanwhile_is_not_in_it(home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, other = making.write, EnvironmentId(service="web", name="other")

    def write_beside(*words: object) -> int:
        home.open().ledger.save_settings(other, Settings())
        return real(*words)  # type: ignore[arg-type]

    monkeypatch.setattr(making, "write", write_beside)
    home.back_up(tmp_path / "backup.age")
    empty = Home(tmp_path / "empty")
    empty.restore(tmp_path / "backup.age", machine="new")
    assert [state.id for state in empty.open().ledger.environments()] == [DEV]


def test_a_check_changes_nothing(encrypted: Path, plain: Path, tmp_path: Path) -> None:
    for file, secret in ((encrypted, True), (plain, False)):
        folder = tmp_path / file.stem
        folder.mkdir()
        checked = check_backup(file, lambda: [KEY], folder)
        assert checked.encrypted == secret and checked.events > 3
        assert ("secrets" in checked.parts) == secret
        assert checked.parts["ledger"].members == 1


@pytest.mark.parametrize("place", [600, 0.02, 0.2, 0.4, 0.6, 0.8, 0.97])
@pytest.mark.parametrize("kind", ["plain", "encrypted"])
def test_one_bit_is_enough(
    place: float, kind: str, tmp_path: Path, empty: Home, request: pytest.FixtureRequest
) -> None:
    file: Path = request.getfixturevalue(kind)
    at = int(place if place > 1 else place * file.stat().st_size)

    def flip(data: bytearray) -> None:
        data[at] ^= 1

    bad = changed(file, tmp_path / "bad", flip)
    if kind == "plain" and _is_padding(file, at):
        return
    _is_refused(bad, empty, tmp_path)


def _is_padding(file: Path, at: int) -> bool:
    """Tell whether a byte of a tar is part of no member: what fills up a block says nothing."""
    with tarfile.open(file) as opened:
        for one in opened:
            if one.offset <= at < one.offset_data + one.size:
                return False
    return True


@pytest.mark.parametrize("part", [0.001, 0.3, 0.9, 0.9999])
@pytest.mark.parametrize("kind", ["plain", "encrypted"])
def test_what_is_cut_off_is_refused(
    part: float, kind: str, tmp_path: Path, empty: Home, request: pytest.FixtureRequest
) -> None:
    file: Path = request.getfixturevalue(kind)

    def cut(data: bytearray) -> None:
        del data[int(part * len(data)) :]
        if kind == "plain" and part > 0.99:  # the zeros at the end of a tar say nothing
            del data[-2048:]

    _is_refused(changed(file, tmp_path / "bad", cut), empty, tmp_path)


def _is_refused(bad: Path, empty: Home, tmp_path: Path) -> None:
    (tmp_path / "check").mkdir()
    with pytest.raises((BackupError, LedgerDamaged)):
        check_backup(bad, lambda: [KEY], tmp_path / "check")
    with pytest.raises((BackupError, LedgerDamaged)):
        empty.restore(bad, machine="new")
    assert not (empty.path / "ledger").exists() and not (empty.path / "store").exists()
    assert not (empty.path / "config.yaml").exists() and not (empty.path / ".restore").exists()
    assert empty.open().ledger.environments() == (), "what is there works as before"


def test_what_is_no_backup_is_told_from_a_damaged_one(tmp_path: Path, empty: Home, encrypted: Path) -> None:
    other = tmp_path / "other"
    for data, words in ((b"x" * 4096, "no backup of Instar's"), (b"", "it is empty")):
        other.write_bytes(data)
        with pytest.raises(BackupError, match=words):
            empty.restore(other)
    with pytest.raises(UsageError, match="no such file"):
        empty.restore(tmp_path / "missing")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UsageError, match="not a regular file"):
        empty.restore(tmp_path / "pipe")
    with pytest.raises(BackupError, match="for other keys than the ones here") as error:
        empty.restore(encrypted, key=OTHER_KEY)
    assert error.value.exit_status == 1 and not empty.path.exists()


def test_one_of_a_newer_instar_is_refused(
    home: Home, tmp_path: Path, empty: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr("instar.operations.backup.FORMAT", FORMAT + 1)
        home.back_up(tmp_path / "newer.age")
    with pytest.raises(BackupNewer, match=f"in format {FORMAT + 1}, and format {FORMAT} is the newest"):
        empty.restore(tmp_path / "newer.age")
    home.back_up(tmp_path / "schema.age")
    monkeypatch.setattr("instar.operations.restore_rules.latest", lambda engine: 1)
    with pytest.raises(BackupNewer, match="whose ledger has schema"):
        empty.restore(tmp_path / "schema.age")
    assert not empty.path.exists()


def test_without_room_nothing_is_begun(empty: Home, encrypted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("instar.operations.restore_rules.free_room", lambda place: (Path("/"), 10))
    with pytest.raises(HostError, match="has room for"):
        empty.restore(encrypted, machine="new")
    assert not (empty.path / ".restore").exists()
    assert room.free_room(empty.path)[1] > 0


def test_a_restore_is_on_top_of_nothing(home: Home, empty: Home, encrypted: Path, tmp_path: Path) -> None:
    before = home.files()
    with pytest.raises(Refused, match="a ledger with a history"):
        home.restore(encrypted)
    assert home.files() == before and image_of(home) is not None
    write(empty.path / "secrets/key", b"k" * 32)
    empty.path.chmod(0o700)
    with pytest.raises(Refused, match=r"there is something already: .*secrets/key"):
        empty.restore(encrypted, machine="new")
    assert not (empty.path / ".restore").exists()


def test_a_machine_that_was_only_looked_at_is_restored(home: Home, empty: Home, encrypted: Path) -> None:
    workspace = empty.open()
    assert workspace.ledger.environments() == () and workspace.store.images() == ()
    workspace.state_id  # noqa: B018  it is made
    workspace.ledger.close()
    write(empty.path / "volumes/web/dev/data/file", b"kept")
    empty.restore(encrypted, machine="new")
    assert image_of(empty) == image_of(home)
    assert (empty.path / "volumes/web/dev/data/file").read_bytes() == b"kept"


def test_beside_its_original_it_is_another(home: Home, empty: Home, encrypted: Path) -> None:
    with pytest.raises(Refused, match="is here still"):
        empty.restore(encrypted)
    assert not empty.path.exists()
    empty.restore(encrypted, machine="new")
    assert (empty.path / "id").read_text() != (home.path / "id").read_text()


def test_what_runs_elsewhere_has_one_keeper(home: Home, empty: Home, tmp_path: Path) -> None:
    ledger = home.open().ledger
    cluster = EnvironmentId(service="web", name="cluster")
    ledger.save_settings(cluster, Settings(provider="kubernetes"))
    ledger.close()
    home.back_up(tmp_path / "backup.age")
    with pytest.raises(Refused, match="cannot restore 'web/cluster' beside its original") as error:
        empty.restore(tmp_path / "backup.age", machine="new")
    assert error.value.hint is not None and "--original-is-gone" in error.value.hint
    empty.restore(tmp_path / "backup.age", machine="new", alone=True)


def test_while_a_restore_is_half_done_nobody_works_there(
    home: Home, empty: Home, encrypted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(state: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(restoring, "_move_in", refuse)
        empty.restore(encrypted, machine="new")
    for asked in (lambda: empty.open().ledger, lambda: empty.open().store, lambda: empty.open().look_at_ledger()):
        with pytest.raises(Refused, match="a restore is not done with it"):
            asked()
    home.back_up(encrypted.with_name("second.age"))
    with pytest.raises(Refused, match="of another backup"):
        empty.restore(encrypted.with_name("second.age"), machine="new")
    empty.restore(encrypted, machine="new")
    assert image_of(empty) == image_of(home)
    assert [path.name for path in empty.path.iterdir() if path.name.startswith(".")] == []
    with pytest.raises(Refused, match=r"what was restored of the backup made .*, whole"):
        empty.restore(encrypted, machine="new")


def test_two_at_a_time_take_turns(home: Home, encrypted: Path) -> None:
    from instar import locks

    with locks.hold(home.path / "run/lock/backup", "a backup"), pytest.raises(EnvironmentBusy):
        home.back_up(encrypted.with_name("second.age"))


@pytest.mark.parametrize(
    "wrong", [{"id": "../../etc"}, {"state_id": "0a1b2c\n"}, {"machine": "web1\nweb2"}, {"machine": ""}, {"id": 7}]
)
def test_what_it_says_of_itself_is_held_against_its_form(
    wrong: dict[str, object], home: Home, tmp_path: Path, empty: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = making._summary

    def other(*words: object, **named: bool) -> object:
        return dataclasses.replace(real(*words, **named), **wrong)  # type: ignore[arg-type]

    monkeypatch.setattr(making, "_summary", other)
    home.back_up(tmp_path / "bad.age")
    with pytest.raises(BackupDamaged, match="what it says of itself cannot be read"):
        empty.restore(tmp_path / "bad.age", machine="new")
    assert not empty.path.exists()


def test_a_ledger_that_no_definition_can_have_made_is_not_gone_by(home: Home, tmp_path: Path, empty: Home) -> None:
    """Whoever has the public key can make a backup: its ledger is held against the definition's rules."""
    with home.open().ledger as ledger:
        ledger.save_settings(DEV, Settings(listen=("127.0.0.1:80\\n  bind :22",)))
    home.back_up(tmp_path / "bad.age")
    with pytest.raises(LedgerDamaged):
        empty.restore(tmp_path / "bad.age", machine="new")
    assert not (empty.path / "ledger").exists()

"""Each state file has one reader, which says that it is damaged, leaves alone what was made with it, and what to do."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from instar.bake.records import Records
from instar.errors import HostError, InstarError, LedgerDamaged, RouterError, StoreError
from instar.fetch.needs import Needs
from instar.host.filesystems import erofs, immutable
from instar.host.isolation import conmon
from instar.host.processes import processes
from instar.ledger import Ledger
from instar.model.codec import parse
from instar.model.digest import Digest
from instar.model.environment import Environment, SecretSource, Settings
from instar.model.release import EnvironmentId
from instar.model.state import StateDirectory
from instar.operations.secrets import keep_secrets, look_at_secrets
from instar.process import Process
from instar.providers.local import allocations, observation, record
from instar.providers.local.inspection import facts
from instar.providers.local.names import Names
from instar.providers.local.subnet import Subnet
from instar.router.config import read_plan, read_slots
from instar.router.files import RouterFiles
from instar.store import Store
from instar.store.hashed_files import HashedFiles
from instar.terminal.recording import last_event_s, read_events, read_header
from instar.workspace import MachineWorkspace
from simulated.damages import DAMAGES
from simulated.values import configuration, image

DEV = EnvironmentId(service="web", name="dev")


@pytest.fixture
def state(tmp_path: Path) -> StateDirectory:
    return StateDirectory.from_environment({"INSTAR_HOME": str(tmp_path / "home")})


@pytest.fixture
def names(state: StateDirectory) -> Names:
    return Names(state, "abc123")


@pytest.mark.parametrize("damage", [one for one in DAMAGES if one not in ("list", "nothing", "text", "wrong-shape")])
def test_what_is_no_json_is_a_value_error(damage: str) -> None:
    with pytest.raises(ValueError):
        parse(DAMAGES[damage])


@pytest.mark.parametrize("damage", DAMAGES)
def test_the_index_of_the_store(state: StateDirectory, damage: str) -> None:
    store = Store(state.store)
    (state.store / "index.json").write_bytes(DAMAGES[damage])
    with pytest.raises(StoreError, match=r"index.json': it is damaged \(.{1,200}\); no image was touched") as caught:
        store.tags()
    assert "the blobs are not lost" in (caught.value.hint or "")


@pytest.mark.parametrize("annotations", ["[]", '"a"', "5"])
def test_an_entry_of_the_index_that_is_none(state: StateDirectory, annotations: str) -> None:
    store = Store(state.store)
    digest = Digest.of(b"1")
    text = f'{{"manifests": [{{"digest": "{digest}", "annotations": {annotations}}}]}}'
    (state.store / "index.json").write_text(text)
    with pytest.raises(StoreError, match="it is damaged"):
        store.tags()


@pytest.mark.parametrize("damage", DAMAGES)
def test_the_network(names: Names, damage: str) -> None:
    names.state.root.mkdir()
    names.network_file.write_bytes(DAMAGES[damage])
    with pytest.raises(HostError, match=r"network.json': it is damaged") as caught:
        Subnet(names).network()
    assert "what runs goes on" in (caught.value.hint or "")
    assert "ip -4 address show inabc123" in (caught.value.hint or "")
    assert names.network_file.read_bytes() == DAMAGES[damage]
    assert Subnet(names).find() is None


@pytest.mark.parametrize("damage", DAMAGES)
def test_what_can_be_made_again_is_taken_for_lost(state: StateDirectory, tmp_path: Path, damage: str) -> None:
    state.steps.mkdir(parents=True)
    (state.steps / f"{'a' * 64}.json").write_bytes(DAMAGES[damage])
    assert Records(state.steps, Store(state.store)).find("a" * 64) is None
    needs = Needs(state.cache)
    needs.write("service-web", [])
    needs._folder.joinpath("service-web").write_bytes(DAMAGES[damage])
    assert needs.find("service-web") in (None, frozenset())
    sealed, hashed_files = tmp_path / "file", HashedFiles(state.sealed)
    sealed.write_text("x")
    with hashed_files.sealing(sealed):
        pass
    assert hashed_files.holds(sealed)
    (state.sealed / "file").write_bytes(DAMAGES[damage])
    assert not hashed_files.holds(sealed)


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_recording(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "one.cast"
    path.write_bytes(DAMAGES[damage])
    with pytest.raises(HostError, match="does not begin as a recording does"):
        read_header(path)
    path.write_bytes(b'{"version": 2, "width": 1, "height": 1}\n' + DAMAGES[damage] + b"\n")
    with pytest.raises(HostError, match="line 2 is not an event"):
        list(read_events(path))
    assert last_event_s(path) == 0.0


@pytest.mark.parametrize("damage", DAMAGES)
def test_the_file_of_a_router(state: StateDirectory, damage: str) -> None:
    text = DAMAGES[damage].decode(errors="replace")
    for line in (text, f"# plan {text}"):
        with pytest.raises(RouterError):
            read_plan(line)
    with pytest.raises(RouterError):
        read_slots(f"  server s{'9' * 5000} 127.0.0.1:1 weight 1 disabled\n{text}")
    router = RouterFiles(state, DEV)
    router.make()
    router.config.write_bytes(DAMAGES[damage])
    if damage == "no-utf8":
        with pytest.raises(RouterError, match="cannot read"):
            router.read()


@pytest.mark.parametrize("damage", DAMAGES)
def test_the_id(state: StateDirectory, damage: str) -> None:
    state.root.mkdir()
    state.id_file.write_bytes(DAMAGES[damage])
    workspace = MachineWorkspace({"INSTAR_HOME": str(state.root)}, lambda progress: None)
    with pytest.raises(HostError, match="it does not hold six hexadecimal digits"):
        workspace.state_id  # noqa: B018
    assert any("six hexadecimal digits" in told for told in workspace.warnings()), "doctor says it, and goes on"
    assert state.id_file.read_bytes() == DAMAGES[damage]


def test_a_lost_id_is_not_made_anew_where_something_carries_it(state: StateDirectory) -> None:
    def workspace() -> MachineWorkspace:
        return MachineWorkspace({"INSTAR_HOME": str(state.root)}, lambda progress: None)

    assert workspace().ledger.environments() == ()
    first = workspace().state_id
    state.id_file.unlink()
    assert workspace().state_id != first, "nothing was made with it yet"
    (state.root / "network.json").write_text('{"subnet": "10.9.0.0/24"}')
    state.id_file.unlink()
    with pytest.raises(HostError, match=r"cannot find '.*/id'.*") as caught:
        workspace().state_id  # noqa: B018
    assert "ls -d /run/instar-*" in (caught.value.hint or "")
    assert not state.id_file.exists()


@pytest.fixture
def kept(state: StateDirectory, tmp_path: Path) -> Callable[[], Any]:
    (tmp_path / "token").write_text("one")
    (tmp_path / "other").write_text("two")
    environment = Environment(
        name="dev", secrets={"TOKEN": SecretSource(file="token"), "OTHER": SecretSource(file="other")}
    )
    keep_secrets(state, tmp_path, environment)
    return lambda: (look_at_secrets(state, tmp_path, environment), keep_secrets(state, tmp_path, environment))


@pytest.mark.parametrize("damage", [*DAMAGES, "other-key", "lost"])
def test_the_key_of_the_secrets(state: StateDirectory, kept: Callable[[], Any], damage: str) -> None:
    first = kept()
    path, before = state.secrets / "key", sorted(state.secrets.iterdir())
    right = path.read_bytes()
    path.unlink()
    if damage != "lost":
        path.write_bytes(DAMAGES.get(damage, os.urandom(32)))
    with pytest.raises(
        HostError, match=r"key': it(, or every .* beside it,)? is (lost|damaged), and the digests of all kept secrets"
    ) as caught:
        kept()
    assert "put it back from a copy" in (caught.value.hint or "")
    path.write_bytes(right)
    assert sorted(state.secrets.iterdir()) == before, "nothing was written"
    assert kept() == first


@pytest.mark.parametrize("damage", [*DAMAGES, "lost"])
def test_an_instance_whose_folder_is_damaged_is_the_one_that_was_allocated(names: Names, damage: str) -> None:
    own = processes.identify(os.getpid())
    assert own is not None
    one = names.instance("web-dev-1-1", 1)
    gone = Process(boot_id=own.boot_id, pid=own.pid, start_time=own.start_time + 1)
    address = allocations.allocate(one, DEV, IPv4Network("10.9.0.0/24"))
    for known, state in ((own, "running"), (gone, "absent"), (None, "absent")):
        allocations.set_process(one, known)
        one.folder.mkdir(parents=True, exist_ok=True)
        if damage != "lost":
            one.process.write_bytes(DAMAGES[damage])
            one.intent.write_bytes(DAMAGES[damage])
            one.made.write_bytes(DAMAGES[damage])
        assert observation.observe(one).state == state
        assert allocations.get_address(one) == address
        assert record.find_intent(one.folder) is None
        assert facts.read(one) is None


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda path: path.symlink_to("/dev/zero")])
def test_what_is_no_regular_file_is_not_waited_for(
    state: StateDirectory, names: Names, tmp_path: Path, make: Callable[[Path], None]
) -> None:
    """A pipe, a folder or a device where a file of the state was."""
    (tmp_path / "token").write_text("one")
    environment, store = Environment(name="dev", secrets={"TOKEN": SecretSource(file="token")}), Store(state.store)
    keep_secrets(state, tmp_path, environment)
    one, router = names.instance("web-dev-1-1", 1), RouterFiles(state, DEV)
    router.make()
    in_place = (state.id_file, state.store / "index.json", names.network_file, state.secret_key, state.ledger)
    own = (names.last_address, names.tables_file, router.config, router.log)
    records = (*own, one.allocation, one.intent, one.process, one.made, one.keeping.pid_file)
    for path in (*in_place, *records):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        make(path)
    reads: tuple[Callable[[], Any], ...] = (
        lambda: MachineWorkspace({"INSTAR_HOME": str(state.root)}, lambda progress: None).state_id,
        store.tags,
        lambda: Subnet(names).network(),
        lambda: keep_secrets(state, tmp_path, environment),
        lambda: Ledger(state.ledger, actor="ann"),
        router.read,
        lambda: read_header(state.id_file),
    )
    for read in reads:
        with pytest.raises(InstarError, match="it is not a regular file"):
            read()
    assert record.find_intent(one.folder) is record.find_process(one) is facts.read(one) is None
    assert conmon.find_keeper(one.keeping) is None and router.last_words() == ""


def test_a_pipe_in_the_place_of_a_layer_or_of_what_is_known_of_it(state: StateDirectory, tmp_path: Path) -> None:
    layer, hashed_files = tmp_path / "layer", HashedFiles(state.sealed)
    state.sealed.mkdir(parents=True)
    os.mkfifo(state.sealed / "layer")
    layer.write_text("x")
    with hashed_files.sealing(layer):
        pass
    assert hashed_files.holds(layer), "what was a pipe is a note"
    layer.unlink()
    os.mkfifo(layer)
    with pytest.raises(OSError, match="it is not a regular file"):
        erofs.digest_of(layer)
    assert not immutable.is_marked(layer)
    immutable.remove(layer)
    assert not layer.exists()


def test_no_more_is_read_than_a_file_of_the_state_can_have(state: StateDirectory) -> None:
    state.root.mkdir()
    with state.id_file.open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(HostError, match="larger than 67,108,864 bytes"):
        MachineWorkspace({"INSTAR_HOME": str(state.root)}, lambda progress: None).state_id  # noqa: B018


_DAMAGED_ROWS = {
    "settings": "UPDATE settings SET value = ?",
    "releases": "UPDATE releases SET configuration = ?",
    "events": "UPDATE events SET detail = ?",
    "rollouts": "UPDATE rollouts SET stage = ?",
    "taints": "UPDATE instances SET taint = ?",
    "times": "UPDATE environments SET created_at = ?",
    "moments": "UPDATE events SET at = ?",
    "images": "UPDATE releases SET image = ?",
}


def _ledger(path: Path) -> None:
    with Ledger(path, actor="ann") as ledger:
        ledger.save_settings(DEV, Settings())
        ledger.add_release(DEV, image().digest, configuration())
        ledger.set_active(DEV, 1)
        ledger.add_instances(DEV, 1, 1)
        ledger.taint("web-dev-1-1", "person", "why")
        ledger.begin_rollout(DEV, "deploy", 1)


def _everything(ledger: Ledger) -> None:
    ledger.environments()
    ledger.find_environment(DEV)
    ledger.releases(DEV)
    ledger.recent(DEV, 3)
    ledger.instances()
    ledger.instances(DEV)
    ledger.tasks(DEV, 1)
    ledger.history()
    ledger.events_after(0, 9)
    ledger.verify()
    ledger.now()
    ledger.replacements(DEV, 1, ledger.now())
    ledger.add_instances(DEV, 1, 1)


class Written(bytes):
    """Bytes of which a failing test shows nothing."""

    def __repr__(self) -> str:
        return f"{len(self)} bytes"


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Written:
    path = tmp_path_factory.mktemp("written") / "ledger" / "instar.db"
    _ledger(path)
    return Written(path.read_bytes())


@pytest.mark.parametrize("rows", _DAMAGED_ROWS)
@pytest.mark.parametrize("damage", DAMAGES)
def test_rows_of_the_ledger(tmp_path: Path, written: Written, rows: str, damage: str) -> None:
    path = _changed(tmp_path, written, _DAMAGED_ROWS[rows], DAMAGES[damage])
    if damage == "wrong-shape" and rows in ("settings", "rollouts"):
        return  # an object of keys that another version may have written: its own have their defaults
    with pytest.raises(LedgerDamaged), Ledger(path, actor="ann") as ledger:
        _everything(ledger)


_NO_TIMES = ("9999-99-99T99:99:99.999999Z", "9999-12-31T23:59:59.999999Z", "2026-11-29T01:02:03", "0001-01-01T00:00Z")


@pytest.mark.parametrize(
    ("rows", "value"),
    [*(("moments", one) for one in _NO_TIMES), *(("times", one) for one in _NO_TIMES)],
)
def test_values_that_cannot_be(tmp_path: Path, written: Written, rows: str, value: str) -> None:
    """They look as what was written does."""
    path = _changed(tmp_path, written, _DAMAGED_ROWS[rows], value.encode())
    with pytest.raises(LedgerDamaged, match="it is damaged"), Ledger(path, actor="ann") as ledger:
        _everything(ledger)


def _changed(folder: Path, written: Written, statement: str, value: bytes) -> Path:
    """Return a ledger in which a value was written over, past all guards."""
    path = folder / "instar.db"
    path.write_bytes(written)
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA synchronous = OFF")
    connection.execute("PRAGMA ignore_check_constraints = ON")
    connection.execute("BEGIN")
    triggers = connection.execute("SELECT name, sql FROM sqlite_schema WHERE type = 'trigger'").fetchall()
    for name, _ in triggers:
        connection.execute(f"DROP TRIGGER {name}")
    connection.execute(statement.replace("?", "CAST(? AS TEXT)"), (value,))
    for _, sql in triggers:
        connection.execute(sql)
    connection.execute("COMMIT")
    connection.close()
    return path


_bytes = st.lists(st.tuples(st.integers(0, 200_000), st.integers(1, 255)), min_size=1, max_size=3)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(_bytes)
def test_other_bytes_in_the_ledger_are_never_a_traceback(
    tmp_path: Path, written: Written, flips: list[tuple[int, int]]
) -> None:
    _read_flipped(tmp_path, written, flips)


@pytest.mark.long
def test_every_byte_of_the_schema(tmp_path: Path, written: Written) -> None:
    for at in range(0, min(len(written), 60_000), 97):
        _read_flipped(tmp_path, written, [(at, 1 << (at % 8))])


def _read_flipped(folder: Path, written: Written, flips: list[tuple[int, int]]) -> None:
    """Open and read a ledger with other bits in some bytes: it is as it was, or an error of Instar's tells of it."""
    path, content = folder / "instar.db", bytearray(written)
    for at, bits in flips:
        content[at % len(content)] ^= bits
    path.with_name("instar.db-journal").unlink(missing_ok=True)
    path.write_bytes(content)
    try:
        with Ledger(path, actor="ann") as ledger:
            _everything(ledger)
            ledger.set_alarm(DEV, "why")
    except InstarError as error:
        assert str(error)


def test_where_every_kept_secret_was_changed_the_key_alone_is_not_blamed(
    state: StateDirectory, kept: Callable[[], Any]
) -> None:
    first, secrets = kept(), [path for path in state.secrets.iterdir() if path.name != "key"]
    content = {path: path.read_bytes() for path in secrets}
    for path in secrets:
        path.write_bytes(content[path] + b"x")
    with pytest.raises(HostError, match="it, or every secret that is kept beside it, is damaged"):
        kept()
    secrets[0].write_bytes(content[secrets[0]])
    assert kept() == first, "one of them says that the key is right"
    assert [path.read_bytes() for path in secrets] == list(content.values()), "and the other is kept anew"

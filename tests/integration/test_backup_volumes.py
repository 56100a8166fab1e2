"""The data of volumes in a backup: all that a service can have put there, and what it may not lead to."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import socket
import stat
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from backup_home import DEV, KEY, Home, fill, write
from leases import lease_held

from deep_folders import depth_of, nest
from instar.backup import trees
from instar.backup.outcomes import Made
from instar.backup.trees import DEEPEST, Planting, Tree
from instar.backup.writing import Member
from instar.errors import BackupDamaged, Refused
from instar.model.release import EnvironmentId
from instar.operations import backup as making
from instar.operations.backup_volumes import VolumeData
from instar.operations.restore import check_backup
from instar.store.header import HARD_LINK, REGULAR, SYMLINK, Entry
from instar.views.backups import made_json, made_notes, restored_page

pytestmark = pytest.mark.root
NAME = b"volumes/web/dev/data/"


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    made = tmp_path / "data"
    made.mkdir(mode=0o750)
    os.chown(made, 10001, 10002)
    (made / "below").mkdir(mode=0o700)
    write(made / "below/file", b"content")
    os.chown(made / "below/file", 10001, 10001)
    (made / "below/file").chmod(0o4755)
    os.utime(made / "below/file", (1_700_000_000, 1_700_000_000))
    os.setxattr(made / "below/file", "user.note", b"of the service")
    os.link(made / "below/file", made / "same")
    (made / "link").symlink_to("/etc/shadow")
    (made / ".wh.strange").write_text("a name like any other")
    (made / "name\nof two lines \udcff").write_bytes(b"")
    with (made / "holes").open("wb") as file:
        file.truncate(3 << 20)
        file.write(b"x")
    os.mkfifo(made / "pipe")
    yield made
    left = [tmp_path / name for name in ("data", "moved", "empty/volumes")]
    subprocess.run(["rm", "-rf", "--", *left], check=True)  # what is nested so deep is more than Python can remove


def members(folder: Path) -> Iterator[tuple[Entry, bytes]]:
    for entry, content, regions in Tree(folder, NAME).members():
        data, whole, at = b"".join(content()), bytearray(entry.size if regions is not None else 0), 0
        for offset, length in regions or ():
            whole[offset : offset + length] = data[at : at + length]
            at += length
        yield entry, data if regions is None else bytes(whole)


def plant(root: Path, found: Iterator[tuple[Entry, bytes]]) -> None:
    root.mkdir(mode=0o700, exist_ok=True)
    planting = Planting(root)
    try:
        for entry, data in found:
            planting.add(entry, [(0, memoryview(data))])
    finally:
        planting.close()


def listed(folder: Path) -> dict[str, tuple[object, ...]]:
    found = {}
    for path in [folder, *sorted(folder.rglob("*"))]:
        status = path.lstat()
        what: object = None
        if stat.S_ISREG(status.st_mode):
            what = (path.read_bytes(), int(status.st_mtime), status.st_nlink, os.listxattr(path))
        elif path.is_symlink():
            what = path.readlink()
        found[str(path.relative_to(folder))] = (status.st_mode, status.st_uid, status.st_gid, what)
    return found


def test_all_of_it_is_there_again_but_pipes(folder: Path, tmp_path: Path) -> None:
    plant(tmp_path / "root", members(folder))
    (folder / "pipe").unlink()
    made = tmp_path / "root" / os.fsdecode(NAME)
    assert listed(made) == listed(folder)
    assert (made / "holes").stat().st_blocks * 512 < 1 << 20


def test_what_is_left_out_is_said(home: Home, folder: Path, tmp_path: Path) -> None:
    os.mknod(folder / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(folder / "socket"))
    os.mkfifo(folder / "below/pipe")
    tree = Tree(folder, NAME)
    names = {member.entry.name for member in tree.members()}
    assert tree.left_out == {"pipe": 2, "socket": 1, "device": 1}
    assert not names & {NAME + b"null", NAME + b"socket", NAME + b"pipe"} and NAME + b"same" in names
    keys, file = [str(KEY.to_public())], tmp_path / "backup.age"
    made = making.backup(home.open(), file, keys=keys, key_files=(), secrets=True, volumes=True)
    assert made.left_out == {"web/dev data": tree.left_out}
    assert any("left out of web/dev data: 1 device, 2 pipes, 1 socket" in line for line in made_notes(made))


def test_what_changes_meanwhile_keeps_its_length(folder: Path) -> None:
    write(folder / "a-log", b"x" * 100)
    write(folder / "zz-gone", b"x")
    found = Tree(folder, NAME).members()
    entries = {}
    for entry, content, _ in found:
        if entry.name == NAME + b"a-log":
            (folder / "a-log").write_bytes(b"short")
            (folder / "zz-gone").unlink()
        entries[entry.name] = b"".join(content())
    assert entries[NAME + b"a-log"] == b"short" + bytes(95)
    assert NAME + b"zz-gone" not in entries


def test_a_folder_that_becomes_a_link_leads_nowhere(folder: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    write(secret / "shadow", b"of root")
    found = []
    for entry, content, _ in Tree(folder, NAME).members():
        if entry.name == NAME:
            (folder / "below/file").unlink()
            (folder / "below").rmdir()
            (folder / "below").symlink_to(secret)
        found.append((entry.name, entry.kind, b"".join(content())))
    assert (NAME + b"below", SYMLINK, b"") in found
    assert not any(b"of root" in data for _, _, data in found)


def back_up(home: Home, file: Path) -> Made:
    return making.backup(home.open(), file, keys=(), key_files=(), secrets=False, volumes=True)


def test_folders_that_are_nested_deep_are_there_again(home: Home, folder: Path, tmp_path: Path) -> None:
    """Deeper than Python can call itself, than a process may have files open, and than a path can say."""
    nest(folder, 3_000, last="last")
    (folder / "z").write_text("after it")
    made = back_up(home, tmp_path / "backup.tar")
    assert made.lost == {}
    empty = Home(tmp_path / "empty")
    assert empty.restore(tmp_path / "backup.tar", machine="new").lost == {}
    there = empty.path / "volumes/web/dev/data"
    assert depth_of(there) == (3_000, ["last"]) and (there / "z").read_text() == "after it"
    data = bytearray((tmp_path / "backup.tar").read_bytes())
    data[-10_000] ^= 1
    (tmp_path / "damaged.tar").write_bytes(data)
    other = Home(tmp_path / "other")
    with pytest.raises(BackupDamaged):
        other.restore(tmp_path / "damaged.tar", machine="new")
    assert not (other.path / ".restore").exists()


def test_what_is_nested_without_end_is_left_out_and_said(home: Home, folder: Path, tmp_path: Path) -> None:
    nest(folder, DEEPEST + 2, last="last")
    (folder / "z").write_text("after it")
    made = back_up(home, tmp_path / "backup.tar")
    (text,) = made.lost["web/dev data"]
    assert text.startswith("d/d/d/") and text.endswith("…: it is nested too deep") and len(text) < 300
    assert any(text in line for line in made_notes(made)) and made_json(made)["lost"] == {"web/dev data": (text,)}
    empty = Home(tmp_path / "empty")
    restored = empty.restore(tmp_path / "backup.tar", machine="new")
    assert restored.lost == made.lost == check_backup(tmp_path / "backup.tar", list, tmp_path).lost
    assert f"DATA OF web/dev data THAT IS NOT IN IT: {text}" in list(restored_page(restored, "/there"))
    there = empty.path / "volumes/web/dev/data"
    assert depth_of(there) == (DEEPEST, []) and (there / "z").read_text() == "after it"


@pytest.mark.parametrize("both", [False, True])
@pytest.mark.parametrize("to", ["../moved", "other/moved"])
def test_a_folder_that_is_moved_while_it_is_read_leads_nowhere(
    folder: Path, tmp_path: Path, to: str, both: bool
) -> None:
    """What is above it is somebody else's by then."""
    (tmp_path / "theirs").write_text("of root")
    (folder / "other").mkdir()
    nest(folder, 3, last="last")
    (folder / "d/d/z").write_text("after it")
    (folder / "z").write_text("after it")
    tree, found = Tree(folder, NAME), []
    for entry, content, _ in tree.members():
        if entry.name == NAME + b"d/d/d/":
            if both:
                (folder / "d/d/d").rename(tmp_path / "apart")
            (folder / "d/d").rename(folder / to)
        found.append((entry.name, b"".join(content())))
    assert (NAME + b"z", b"after it") in found
    assert not any(data == b"of root" for _, data in found)
    assert ((NAME + b"d/d/z", b"after it") in found) == (not both)
    assert tree.lost == (["d/d/: it was moved while it was read"] if both else [])


def test_a_file_of_very_many_pieces_is_there_again(
    home: Home, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those with the least holes between them are one piece."""
    monkeypatch.setattr("instar.backup.trees._REGIONS", 10)
    with (folder / "pieces").open("wb") as file:
        for number in range(100):
            file.seek((number * 64 << 10) + (1 << 20) * (number // 25))
            file.write(b"%04d" % number * 1_024)
        file.truncate(64 << 20)
    made = back_up(home, tmp_path / "backup.tar")
    assert made.lost == {} and (tmp_path / "backup.tar").stat().st_size < 16 << 20
    empty = Home(tmp_path / "empty")
    empty.restore(tmp_path / "backup.tar", machine="new")
    there = empty.path / "volumes/web/dev/data/pieces"
    assert there.read_bytes() == (folder / "pieces").read_bytes()
    assert there.stat().st_blocks * 512 < 4 << 20


def test_nothing_is_put_through_a_link(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    write(outside / "file", b"kept")
    link = Entry(name=NAME + b"link", kind=SYMLINK, link=os.fsencode(outside))
    through = Entry(name=NAME + b"link/new", kind=REGULAR, size=1)
    hard = Entry(name=NAME + b"hard", kind=HARD_LINK, link=NAME + b"link/file")
    twice = Entry(name=NAME + b"link", kind=REGULAR, size=1)
    for bad in (through, hard, twice):
        with pytest.raises(OSError, match=r"."):
            plant(tmp_path / f"root-{bad.name!r}".replace("/", "-"), iter([(link, b""), (bad, b"x")]))
    assert [path.name for path in outside.iterdir()] == ["file"]


@pytest.fixture
def home(tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    made = Home(tmp_path / "home")
    fill(made)

    class Keeper:
        @contextlib.contextmanager
        def shown(self, environment: EnvironmentId, name: str) -> Iterator[Path]:
            yield folder

    one = VolumeData(environment=DEV, name="data", keeper=Keeper(), size_bytes=1)  # type: ignore[arg-type]
    monkeypatch.setattr(making, "stored_volumes", lambda workspace: (one,))
    return made


def test_they_are_put_back_beside_all_else(home: Home, folder: Path, tmp_path: Path) -> None:
    file, empty = tmp_path / "backup.age", Home(tmp_path / "empty")
    made = making.backup(home.open(), file, keys=[str(KEY.to_public())], key_files=(), secrets=True, volumes=True)
    assert made.summary.volumes == ("web/dev data",)
    write(empty.path / "volumes/web/dev/data/file", b"somebody's")
    empty.path.chmod(0o700)
    with pytest.raises(Refused, match=r"there is something already: .*volumes/web/dev/data/file"):
        empty.restore(file, machine="new")
    (empty.path / "volumes/web/dev/data/file").unlink()
    empty.restore(file, machine="new")
    (folder / "pipe").unlink()
    assert listed(empty.path / "volumes/web/dev/data") == listed(folder)


def test_holes_take_no_room_in_a_backup_and_are_there_again(home: Home, folder: Path, tmp_path: Path) -> None:
    parts = {0: b"first", 200 << 20: b"middle" * 10_000, (1 << 28) - 4: b"last"}
    with (folder / "large").open("wb") as large:
        for at, data in parts.items():
            large.seek(at)
            large.write(data)
    with (folder / "nothing").open("wb") as nothing:
        nothing.truncate(1 << 28)
    file, empty = tmp_path / "backup.tar", Home(tmp_path / "empty")
    making.backup(home.open(), file, keys=(), key_files=(), secrets=False, volumes=True)
    assert file.stat().st_size < 4 << 20
    with tarfile.open(file) as opened:
        read = {one.name: one for one in opened.getmembers()}
        assert read["volumes/web/dev/data/large"].size == read["volumes/web/dev/data/nothing"].size == 1 << 28
        inside = opened.extractfile("volumes/web/dev/data/large")
        assert inside is not None
        inside.seek(200 << 20)
        assert inside.read(6) == b"middle"
    empty.restore(file, machine="new")
    made = empty.path / "volumes/web/dev/data"
    for name in ("large", "nothing"):
        assert (made / name).stat().st_size == 1 << 28 and (made / name).stat().st_blocks * 512 < 1 << 20
    with (made / "large").open("rb") as found:
        for at, data in parts.items():
            found.seek(at)
            assert found.read(len(data)) == data
    whole = file.read_bytes()
    for before, after in ((b"middlemiddle", b"muddlemiddle"), (b"\n%d\n" % (200 << 20), b"\n%d\n" % (201 << 20))):
        assert whole.count(before) >= 1 and len(before) == len(after)
        file.write_bytes(whole.replace(before, after, 1))
        with pytest.raises(BackupDamaged):
            Home(tmp_path / "other").restore(file, machine="new")


def test_holes_cost_nothing_and_where_they_are_is_part_of_the_hash(home: Home, folder: Path, tmp_path: Path) -> None:
    """Two tebibytes of zeros would take a quarter of an hour each way."""
    parts = []
    for number, at in enumerate((1 << 20, 1 << 40)):
        with (folder / "holes").open("wb") as file:
            file.seek(at)
            file.write(b"something" * 10_000)
            file.truncate(1 << 41)
        os.utime(folder / "holes", (1_700_000_000, 1_700_000_000))
        back_up(home, tmp_path / f"{number}.tar")
        parts.append(check_backup(tmp_path / f"{number}.tar", tuple, tmp_path).parts["volumes"])
        (tmp_path / "instar.db").unlink()
    assert parts[0].size_bytes == parts[1].size_bytes > 1 << 41 and parts[0].sha256 != parts[1].sha256
    empty = Home(tmp_path / "empty")
    empty.restore(tmp_path / "1.tar", machine="new")
    with (empty.path / "volumes/web/dev/data/holes").open("rb") as made:
        assert os.lseek(made.fileno(), 0, os.SEEK_DATA) == 1 << 40 and os.fstat(made.fileno()).st_size == 1 << 41
        made.seek((1 << 40) - 1)
        assert made.read(10) == b"\0something"


def test_a_file_of_pieces_far_from_each_other_is_left_out(
    home: Home, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A service could have hundreds of times what it wrote be written, or nothing of the machine be backed up."""
    monkeypatch.setattr(trees, "_REGIONS", 10)
    with (folder / "scattered").open("wb") as file:
        for number in range(12):
            file.seek(number << 30)
            file.write(b"piece")
    with (folder / "near").open("wb") as file:
        for number in range(12):
            file.seek(number << 20)
            file.write(b"piece")
    made = back_up(home, tmp_path / "backup.tar")
    assert made.lost == {
        "web/dev data": (
            "scattered: it has more than 10 pieces, and 2.0 GiB of the holes between them would be written",
        )
    }
    empty = Home(tmp_path / "empty")
    empty.restore(tmp_path / "backup.tar", machine="new")
    assert (empty.path / "volumes/web/dev/data/near").read_bytes() == (folder / "near").read_bytes()


def test_what_is_no_file_of_a_volumes_has_no_holes(home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They would be written out: a backup of a few bytes that somebody else made could fill the disk."""
    file, entry = tmp_path / "backup.tar", Entry(name=b"recordings/x.cast", kind=REGULAR, mode=0o600, size=1 << 27)
    holes = Member(entry, tuple, ())
    monkeypatch.setattr(making, "_state_files", lambda state, **_: iter([holes]))
    making.backup(home.open(), file, keys=(), key_files=(), secrets=False)
    with pytest.raises(BackupDamaged, match="it has a file with holes where no backup has any"):
        check_backup(file, tuple, tmp_path)
    with pytest.raises(BackupDamaged, match="with holes"):
        Home(tmp_path / "empty").restore(file, machine="new")


def test_a_file_of_holes_without_end_is_left_out_with_all_its_names(home: Home, folder: Path, tmp_path: Path) -> None:
    with (folder / "endless").open("wb") as file:
        file.truncate(1 << 43)
    os.link(folder / "endless", folder / "same-endless")
    made = back_up(home, tmp_path / "backup.tar")
    assert [text.partition(":")[0] for text in made.lost["web/dev data"]] == ["endless", "same-endless"]
    assert "with its holes it has 8.0 TiB" in made.lost["web/dev data"][0]
    assert made.size_bytes < 1 << 30
    empty = Home(tmp_path / "empty")
    assert empty.restore(tmp_path / "backup.tar", machine="new").lost == made.lost
    there = empty.path / "volumes/web/dev/data"
    assert not (there / "endless").exists() and (there / "below/file").read_bytes() == b"content"


@pytest.mark.parametrize(("name", "by"), [("swapped", "a link"), ("swapped", "a socket"), ("link", "a file")])
def test_what_becomes_something_else_meanwhile_is_left_out(
    folder: Path, name: str, by: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A service that has files change places for ever keeps no machine from being backed up."""
    write(folder / "swapped", b"x")
    seen, real = (folder / name).lstat(), os.stat
    (folder / name).unlink()
    if by == "a link":
        (folder / name).symlink_to("/etc/shadow")
    elif by == "a file":
        write(folder / name, b"x")
    else:
        with contextlib.chdir(folder), socket.socket(socket.AF_UNIX) as made:
            made.bind(name)
    tree = Tree(folder, NAME)
    with monkeypatch.context() as patched:
        patched.setattr(os, "stat", lambda one, **how: seen if one == name.encode() else real(one, **how))
        names = {member.entry.name for member in tree.members()}
    assert NAME + name.encode() not in names and NAME + b"same" in names and tree.lost == []


def test_a_file_that_somebody_has_a_lease_on_costs_that_file_alone(
    home: Home, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("instar.backup.trees._LEASE_S", 0.2)
    write(folder / "leased", b"x")
    with lease_held(folder / "leased"):
        made = back_up(home, tmp_path / "backup.tar")
    assert made.lost == {"web/dev data": ("leased: a process holds a lease on it",)}
    empty = Home(tmp_path / "empty")
    assert empty.restore(tmp_path / "backup.tar", machine="new").lost == made.lost
    there = empty.path / "volumes/web/dev/data"
    assert not (there / "leased").exists() and (there / "below/file").read_bytes() == b"content"


def test_a_lease_that_is_given_up_costs_nothing(folder: Path) -> None:
    descriptor = os.open(folder / "below/file", os.O_RDONLY)
    before = signal.signal(signal.SIGIO, lambda *_: fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK))
    try:
        (folder / "same").unlink()
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_WRLCK)
        tree = Tree(folder, NAME)
        assert NAME + b"below/file" in {member.entry.name for member in tree.members()} and tree.lost == []
    finally:
        signal.signal(signal.SIGIO, before)
        os.close(descriptor)


@pytest.mark.parametrize("call", ["stat", "open", "listdir", "readlink"])
def test_what_the_file_system_refuses_costs_that_alone(
    folder: Path, call: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, name = getattr(os, call), {"listdir": b"below", "readlink": b"link"}.get(call, b"same")
    which = (folder / os.fsdecode(name)).lstat().st_ino

    def refused(what: str | bytes | int, *arguments: object, **named: object) -> object:
        if what == name or (isinstance(what, int) and os.fstat(what).st_ino == which):
            raise OSError(5, "Input/output error")
        return real(what, *arguments, **named)

    tree = Tree(folder, NAME)
    members = tree.members()
    names = [next(members).entry.name]
    monkeypatch.setattr(os, call, refused)
    names += [member.entry.name for member in members]
    assert tree.lost == [f"{os.fsdecode(name)}: input/output error"]
    assert NAME + name not in names and NAME + b".wh.strange" in names and NAME + b"name\nof two lines \xff" in names

"""Packages and wheels over what somebody else has installed: real apt, a small archive of our own, no network."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from base_kit import Machine, Vendor, machine
from local_archive import LocalArchive, fill, make_wheel, served

from instar.definition import Loaded
from instar.errors import InstarError, LockMissing, LockStale, ResolveError
from instar.lock.file import read
from instar.lock.fit import require_fit
from instar.model.lock import Lock
from instar.operations.bake import plan
from instar.store import listing
from registries import RealRegistry, running

pytestmark = pytest.mark.root
__all__ = ["machine"]

ON_BASE = "base: {image: ../base/instar.yaml}\n"
OS_RELEASE = b'PRETTY_NAME="x"\nID=debian\nVERSION_CODENAME="bookworm"\n'
Files = dict[str, bytes | str | None]
PACKAGES = {"libc6": "2.36-9", "bash": "5.2-1", "dpkg": "1.21"}


@pytest.fixture
def archive(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalArchive]:
    folder = machine.path / "archive"
    folder.mkdir()
    with served(folder) as address:
        made = LocalArchive(folder, address)
        fill(made)
        made.add("liba", "1.0", depends="libc6")
        made.add("libb", "1.0", depends="liba (= 1.0)")
        made.publish()
        monkeypatch.setenv("INSTAR_APT_SOURCES", str(made.sources(machine.path / "sources.list")))
        monkeypatch.setenv("PIP_NO_INDEX", "1")
        monkeypatch.setenv("PIP_FIND_LINKS", str(machine.path))
        make_wheel(machine.path, "flower", "1.0")
        yield made


def base(machine: Machine, packages: str = "liba", more: str = "") -> Loaded:
    loaded = machine.write(f"base: debian:bookworm\npackages: [{packages}]\n{more}", "base", "base")
    machine.lock(loaded)
    return loaded


def over(machine: Machine, image: str, on: str = ON_BASE) -> Loaded:
    return machine.write(on + image, "web", "web")


def locked(machine: Machine, loaded: Loaded, update: object = None) -> Lock:
    lock = machine.lock(loaded, update).lock
    require_fit(lock, loaded)
    assert read(loaded.folder / "instar.lock") == lock
    return lock


def refused(machine: Machine, loaded: Loaded, kind: type[InstarError] = ResolveError) -> str:
    with pytest.raises(kind) as caught:
        machine.lock(loaded)
    assert not (loaded.folder / "instar.lock").exists()
    return f"{caught.value.message}\n{caught.value.hint}"


def names(lock: Lock) -> list[str]:
    return [f"{one.name} {one.version} {one.step} ({one.why})" for one in lock.packages]


@pytest.mark.usefixtures("archive")
def test_only_what_the_base_has_not_is_in_the_lock(machine: Machine) -> None:
    base(machine)
    loaded = over(machine, "packages: [libb, liba, bash]")
    lock = locked(machine, loaded)
    assert names(lock) == ["libb 1.0 packages (asked for)"] and lock.suite == "bookworm"
    assert lock.installed is not None and lock.installed.versions["liba"] == "1.0"
    assert {one.name for one in lock.all_packages} == {"bash", "init-helpers", "liba", "libb", "libc6", "usr-is-merged"}
    assert not machine.lock(loaded).changed


def test_versions_of_the_base_stay(machine: Machine, archive: LocalArchive) -> None:
    base(machine)
    for name in ("liba", "libb"):
        depends = {"depends": "liba (= 1.1)"} if name == "libb" else {}
        archive.add(name, "1.1", suite="bookworm-security", **depends)
    archive.publish()
    assert names(locked(machine, over(machine, "packages: [libb]"))) == ["libb 1.0 packages (asked for)"]
    archive.remove("libb", "1.0")
    archive.publish()
    (machine.folder / "web/instar.lock").unlink()
    said = refused(machine, over(machine, "packages: [libb]"))
    assert "cannot lock 'libb' (" in said and "web/instar.yaml:4:14)" in said
    assert "the base has 'liba' 1.0, and 1.1 is needed" in said and "nothing of a base is changed over it" in said


def test_what_goes_with_no_package_of_the_base(machine: Machine, archive: LocalArchive) -> None:
    base(machine)
    archive.add("libz", "1.0", conflicts="liba")
    archive.publish()
    assert "the base has 'liba' 1.0, and it would have to go" in refused(machine, over(machine, "packages: [libz]"))
    said = refused(machine, over(machine, "packages: [liba=1.1]"))
    assert "web/instar.yaml:4:14: cannot lock 'liba=1.1': the base has 'liba' 1.0, which stays" in said
    assert names(locked(machine, over(machine, "packages: [liba=1.*]"))) == []
    assert "no such package" in refused_anew(machine, over(machine, "packages: [nosuch]"))


def refused_anew(machine: Machine, loaded: Loaded) -> str:
    (loaded.folder / "instar.lock").unlink()
    return refused(machine, loaded)


def test_a_base_that_moved_is_said_by_those_above(machine: Machine, archive: LocalArchive) -> None:
    stood_on, loaded = base(machine, "perl"), over(machine, "packages: [liba]")
    first = locked(machine, loaded)
    plan(machine.workspace, loaded)
    archive.add("libc6", "2.36-10", suite="bookworm-security")
    archive.publish()
    machine.lock(stood_on, "all")
    with pytest.raises(LockStale) as caught:
        plan(machine.workspace, loaded)
    assert "it has 'libc6' 2.36-10 now, and had 2.36-9" in caught.value.message
    assert read(machine.folder / "web/instar.lock") == first
    moved = machine.lock(loaded)
    assert moved.changes == ("  libc6 2.36-9 → 2.36-10  (of the base)",)
    plan(machine.workspace, loaded)
    with pytest.raises(ResolveError, match="cannot update 'libc6': the base has it"):
        machine.lock(loaded, frozenset(["libc6"]))


def test_versions_that_the_archive_dropped(machine: Machine, archive: LocalArchive) -> None:
    """What the base has is known by its file, where the archive does not know it any more."""
    base(machine)
    archive.add("liba", "1.1")
    archive.remove("liba", "1.0")
    archive.publish()
    said = refused(machine, over(machine, "packages: [perl]"))
    assert "cannot lock over 'liba' 1.0, which the base has: the archive has dropped" in said


@pytest.mark.usefixtures("archive")
def test_wheels_for_the_python_of_the_base(machine: Machine) -> None:
    base(machine, "python3")
    loaded = over(machine, "python: r.txt")
    (machine.folder / "web/r.txt").write_text("flower\n")
    lock = locked(machine, loaded)
    assert (lock.packages, lock.suites, lock.python) == ((), (), "3.11")
    assert [one.name for one in lock.wheels] == ["flower"]
    assert not machine.lock(loaded).changed


@pytest.mark.usefixtures("archive")
def test_wheels_bring_a_python_where_there_is_none(machine: Machine) -> None:
    base(machine)
    loaded = over(machine, "python: r.txt")
    (machine.folder / "web/r.txt").write_text("flower\n")
    assert names(locked(machine, loaded)) == ["python3 3.11.2-1 packages (asked for)"]


@pytest.mark.usefixtures("archive")
def test_a_base_on_a_base_and_one_on_nothing(machine: Machine) -> None:
    base(machine)
    machine.lock(machine.write(f"{ON_BASE}packages: [libb]", "middle", "middle"))
    on = "base: {image: ../middle/instar.yaml}\n"
    assert names(locked(machine, over(machine, "packages: [libb, perl]", on))) == ["perl 5.36 packages (asked for)"]
    machine.lock(machine.write("base: scratch", "nothing", "nothing"))
    said = refused_anew(machine, over(machine, "packages: [perl]", "base: {image: ../nothing/instar.yaml}\n"))
    assert "stands on 'scratch', and has no packages of Debian" in said
    (machine.folder / "middle/instar.lock").unlink()
    assert "not locked yet" in refused(machine, over(machine, "packages: [perl]", on), LockMissing)


@pytest.mark.usefixtures("archive")
def test_a_base_that_is_left_with_too_little(machine: Machine) -> None:
    base(machine, more="strip: [shell]")
    assert "says 'strip: [shell]', which leaves too little" in refused(machine, over(machine, "packages: [perl]"))


def status(packages: dict[str, str], **more: str) -> bytes:
    lines = {"Status": "install ok installed", "Architecture": "amd64", **more}
    rest = "".join(f"{key}: {value}\n" for key, value in lines.items())
    return "\n".join(f"Package: {name}\nVersion: {one}\n{rest}" for name, one in packages.items()).encode() + b"\n"


def on_image(machine: Machine, vendor: Vendor, *layers: Files, **config: object) -> str:
    """Write an archive of an image of others; return how a definition stands on it."""
    (machine.folder / "web").mkdir(exist_ok=True)
    file = machine.folder / "web/base.tar"
    file.unlink(missing_ok=True)
    vendor.archive(vendor.image(*layers, **config), file)
    return "base: {oci: ./base.tar}\n"


def debian(text: bytes | None = None) -> Files:
    found = status(PACKAGES) if text is None else text
    return {"etc/os-release": OS_RELEASE, "var/lib/dpkg/status": found, "usr/bin/dpkg": b"\x7fELF"}


@pytest.fixture
def vendor(tmp_path: Path) -> Vendor:
    return Vendor(tmp_path / "vendor")


@pytest.mark.usefixtures("archive")
def test_over_an_image_of_others(machine: Machine, vendor: Vendor) -> None:
    on = on_image(machine, vendor, debian(b""), {"var/lib/dpkg/status": status({**PACKAGES, "liba": "1.0"})})
    loaded = over(machine, "packages: [libb, bash]", on)
    lock = locked(machine, loaded)
    assert names(lock) == ["libb 1.0 packages (asked for)"]
    assert lock.installed is not None and lock.installed.release == "debian:bookworm"
    assert lock.installed.versions == {**PACKAGES, "liba": "1.0"}
    assert not machine.lock(loaded).changed
    newer = on_image(machine, vendor, debian(status({**PACKAGES, "liba": "0.9"})))
    assert machine.lock(over(machine, "packages: [bash]", newer), frozenset(["base"])).changes[1:] == (
        "  liba 1.0 → 0.9  (of the base)",
        "- libb 1.0",
    )


@pytest.mark.usefixtures("archive")
@pytest.mark.parametrize(
    ("layers", "said"),
    [
        ([{"bin/sh": b"x"}], "there is no os-release in it"),
        ([debian() | {"etc/os-release": b"ID=alpine\n"}], "it is of 'alpine', and only Debian and Ubuntu"),
        ([debian() | {"etc/os-release": b"ID=debian\n"}], "its os-release names no release of Debian: ''"),
        ([debian() | {"etc/os-release": b"ID=debian\nVERSION_CODENAME=../x\n"}], "no release of Debian: '../x'"),
        ([debian(), {"var/lib/dpkg/status": None}], "it has no status of dpkg"),
        ([debian(), {"var/lib/dpkg": None}], "it has no status of dpkg"),
        ([debian(b"\n")], "no package that is installed"),
        ([debian(b"\xff\0 nonsense")], "a package that is called ''"),
        ([debian(status({"a b": "1"}))], "a package that is called 'a b'"),
        ([debian(status({"-oDir": "1"}))], "a package that is called '-oDir'"),
        ([debian(status({"liba": "1 (evil)"}))], "'liba' in a version '1 (evil)' that none can have"),
        ([debian(status({"liba": "1"}) + status({"liba": "2"}))], "dpkg's status has 'liba' twice"),
        ([debian(status({"liba": "1"}, Status="install ok half-installed"))], "'liba' is half-installed"),
        ([debian(status({"liba": "1"}, Status="install ok unpacked"))], "'liba' is unpacked"),
        ([debian(status({"liba": "1"}, Status="install reinstreq installed"))], "has to be installed again"),
        ([debian(status({"liba": "1"}, Status="rubbish"))], "dpkg's status says 'rubbish' of 'liba'"),
        ([debian(status({"liba": "1"}, Architecture="i386"))], "another architecture than amd64: 'liba' is for 'i386'"),
        ([debian() | {"etc/os-release": OS_RELEASE.replace(b"bookworm", b"noble")}], "cannot find 'noble': none of"),
        ([debian(status({"liba": "1", "libc6": "2"}, Depends="nosuch"))], "does not fit together"),
        ([debian(), {"usr/bin/dpkg": None}], "its dpkg was taken out"),
        ([debian(), {"var/lib/dpkg/status": "/etc/passwd"}], "its '/var/lib/dpkg/status' is no regular file"),
        ([debian(), {"var/lib/dpkg": "/etc"}], "it has no status of dpkg"),
    ],
)
def test_what_nothing_can_be_installed_over(machine: Machine, vendor: Vendor, layers: list[Files], said: str) -> None:
    loaded = over(machine, "packages: [libb]", on_image(machine, vendor, *layers))
    message = refused(machine, loaded, InstarError)
    assert said in message and "web/instar.yaml:" in message
    (machine.folder / "web/r.txt").write_text("flower\n")


@pytest.mark.usefixtures("archive")
def test_a_status_cannot_say_more_than_a_status(machine: Machine, vendor: Vendor) -> None:
    """Fields that a solver does not need, and lines that would begin another paragraph, never reach apt."""
    evil = status(
        PACKAGES, Depends="libc6,\n .\n Package: evil\n\x1b[1m", Filename="/etc/shadow", Description="x\n .\n"
    )
    loaded = over(machine, "packages: [liba]", on_image(machine, vendor, debian(evil)))
    said = refused(machine, loaded)
    assert "cannot lock" in said
    [told] = machine.path.glob("home/cache/apt/*/status")
    assert "shadow" not in told.read_text() and "\nPackage: evil" not in told.read_text()


@pytest.mark.usefixtures("archive")
def test_held_and_removed_packages(machine: Machine, vendor: Vendor) -> None:
    text = status({"libc6": "2.36-9"}, Status="hold ok installed") + b"\n" + status({"dpkg": "1"}) + b"\n"
    text += status({"liba": "0.1"}, Status="deinstall ok config-files")
    lock = locked(machine, over(machine, "packages: [liba]", on_image(machine, vendor, debian(text))))
    assert names(lock) == ["liba 1.0 packages (asked for)"]


@pytest.mark.usefixtures("archive")
def test_a_python_that_no_package_brought(machine: Machine, vendor: Vendor) -> None:
    python: Files = {"usr/local/bin/python3.12": b"\x7fELF", "usr/local/bin/python3": "python3.12"}
    on = on_image(machine, vendor, debian(), python)
    (machine.folder / "web/r.txt").write_text("flower\n")
    lock = locked(machine, over(machine, "python: r.txt", on))
    assert lock.installed is not None and (lock.installed.python, lock.python) == ("/usr/local/bin/python3.12", "3.12")
    assert lock.packages == ()
    named = locked(machine, over(machine, "python: r.txt\npackages: [python3]", on))
    assert (named.installed and named.installed.python, named.python) == (None, "3.11")


@pytest.mark.usefixtures("archive")
def test_an_image_that_was_put_together_without_dpkg(machine: Machine, vendor: Vendor) -> None:
    parts: Files = {f"var/lib/dpkg/status.d/{name}": status({name: one}) for name, one in PACKAGES.items()}
    parts["var/lib/dpkg/status.d/python3"] = status({"python3": "3.11.2-1"})
    on = on_image(machine, vendor, {"etc/os-release": OS_RELEASE, **parts})
    assert "put together without dpkg" in refused(machine, over(machine, "packages: [liba]", on))
    (machine.folder / "web/r.txt").write_text("flower\n")
    assert locked(machine, over(machine, "python: r.txt", on)).python == "3.11"


def test_what_is_remembered_of_an_image_is_looked_for_again_where_it_is_damaged(
    machine: Machine, vendor: Vendor, archive: LocalArchive
) -> None:
    loaded = over(machine, "packages: [liba]", on_image(machine, vendor, debian()))
    first = locked(machine, loaded)
    [kept] = machine.path.glob("home/cache/installed/*.json")
    kept.write_text("{}")
    assert locked(machine, loaded) == first and kept.read_text() != "{}"


@pytest.mark.usefixtures("archive")
def test_only_what_says_something_is_read_and_not_more_than_can_be(
    machine: Machine, vendor: Vendor, monkeypatch: pytest.MonkeyPatch
) -> None:
    large: Files = {"usr/local/bin/python3.12": b"x" * 4096, "usr/local/bin/python3": "python3.12"}
    loaded = over(machine, "packages: [liba]", on_image(machine, vendor, debian(), large))
    monkeypatch.setattr(listing, "READ_LIMIT_BYTES", 2048)
    lock = locked(machine, loaded)
    assert lock.installed is not None and lock.installed.python == "/usr/local/bin/python3.12"
    parts: Files = {f"var/lib/dpkg/status.d/{name}": status({name: "1"}) for name in ("a1", "b1", "c1")}
    loaded = over(machine, "packages: [liba]", on_image(machine, vendor, {"etc/os-release": OS_RELEASE}, parts))
    (machine.folder / "web/instar.lock").unlink()
    monkeypatch.setattr(listing, "_CONTENTS_LIMIT_BYTES", 200)
    assert "and others are too large to be read" in refused(machine, loaded, InstarError)


@pytest.mark.usefixtures("archive")
def test_an_image_of_a_registry_is_looked_into_when_it_is_locked(
    machine: Machine, vendor: Vendor, tmp_path: Path
) -> None:
    image = vendor.image(debian(), {"srv/large": b"x" * 100_000})
    with running(RealRegistry(tmp_path / "registry")) as registry:
        vendor.push(image, registry.host, "1.0")
        on = f"base: {{oci: '{registry.host}/team/base:1.0'}}\n"
        plain = over(machine, "", on)
        assert locked(machine, plain).installed is None
        assert not machine.workspace.store.holds(image.layers[0])  # where nothing goes onto it nothing is fetched
        loaded = over(machine, "packages: [liba]", on)
        with pytest.raises(LockStale, match="what the base has installed is not in"):
            plan(machine.workspace, loaded)
        assert names(locked(machine, loaded)) == ["liba 1.0 packages (asked for)"]
    again = over(machine, "packages: [liba, perl]", on)
    assert [one.name for one in locked(machine, again).packages] == ["liba", "perl"]  # known by now

"""What runc is told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from instar.host.isolation.bundle import Bind, Bundle, Users, config
from instar.host.kernel.cgroups import Hierarchy
from instar.host.kernel.namespaces import IdRange
from instar.model.definition import Limits, Tmp


def made(**changes: Any) -> dict[str, Any]:
    values: dict[str, Any] = {
        "root": Path("/run/x/root"), "hostname": "web-1", "command": ("/.instar/init", "--", "app"), "workdir": "/srv",
        "environment": {"B": "2", "A": "1"}, "uid": 10001, "gid": 10002, "capabilities": (), "seccomp": {},
        "limits": Limits(memory_bytes=1 << 26, cpus_milli=1500, pids=50), "swap_is_limited": True,
        "rlimits": None, "group": "instar-abc/web-1", "network": Path("/run/netns/n"), "users": None,
        "tmp": Tmp(), "shm_bytes": 64 << 20, "binds": (), "hierarchies": (),
    }  # fmt: skip
    return config(Bundle(**(values | changes)))


def _options(configuration: dict[str, Any], target: str) -> set[str]:
    return set(next(mount["options"] for mount in configuration["mounts"] if mount["destination"] == target))


def test_nothing_is_granted_that_was_not_asked_for() -> None:
    process = made()["process"]
    assert set(map(tuple, process["capabilities"].values())) == {()}
    assert process["noNewPrivileges"] is True
    assert process["user"] == {"uid": 10001, "gid": 10002, "umask": 0o022}
    assert process["env"] == ["A=1", "B=2"]
    assert made(capabilities=("CAP_B", "CAP_A"))["process"]["capabilities"]["ambient"] == ["CAP_A", "CAP_B"]


def test_limits_are_those_of_the_definition() -> None:
    resources = made()["linux"]["resources"]
    assert resources["memory"] == {"limit": 1 << 26, "swap": 1 << 26}
    assert (resources["cpu"]["quota"], resources["cpu"]["period"]) == (150_000, 100_000)
    assert resources["pids"] == {"limit": 51}
    assert "swap" not in made(swap_is_limited=False)["linux"]["resources"]["memory"]


def test_what_is_writable_is_not_executable_unless_asked() -> None:
    configuration = made(binds=(Bind(source=Path("/v"), target="/data", writable=True),))
    for target in ("/tmp", "/run", "/dev/shm", "/data"):
        assert {"noexec", "nosuid", "nodev"} <= _options(configuration, target)
    open_tmp = made(
        tmp=Tmp(exec=True), binds=(Bind(source=Path("/v"), target="/data", writable=True, executable=True),)
    )
    assert "noexec" not in _options(open_tmp, "/tmp")
    assert "noexec" not in _options(open_tmp, "/data")
    assert "noexec" in _options(open_tmp, "/run")


def test_shared_memory_is_as_large_as_is_asked_for() -> None:
    assert "size=67108864" in _options(made(), "/dev/shm")
    assert "size=1048576" in _options(made(shm_bytes=1 << 20), "/dev/shm")


def test_the_root_and_what_the_kernel_shows_are_read_only() -> None:
    unified = Hierarchy(mount=Path("/sys/fs/cgroup"), controllers=frozenset(), unified=True)
    configuration = made(hierarchies=(unified,))
    assert configuration["root"]["readonly"] is True
    assert "ro" in _options(configuration, "/sys")
    assert "ro" in _options(configuration, "/sys/fs/cgroup")
    assert "/proc/sys" in configuration["linux"]["readonlyPaths"]
    assert "/proc/kcore" in configuration["linux"]["maskedPaths"]


def test_of_cgroups_there_is_what_says_the_limits() -> None:
    """Debian mounts cpu and cpuacct as one, under its own name and with a link for each."""
    mounts = {"cpu,cpuacct": {"cpu", "cpuacct"}, "memory": {"memory"}, "devices": {"devices"}, "systemd": set()}
    found = [Hierarchy(mount=Path(f"/sys/fs/cgroup/{name}"), controllers=frozenset(controllers), unified=False)
             for name, controllers in mounts.items()]  # fmt: skip
    beside = Hierarchy(mount=Path("/sys/fs/cgroup/unified"), controllers=frozenset(), unified=True)
    shown = {mount["destination"]: mount for mount in made(hierarchies=[*found, beside])["mounts"]}
    names = ("cpu", "cpu,cpuacct", "cpuacct", "memory")
    assert [one for one in shown if one.startswith("/sys/fs")] == [
        "/sys/fs/cgroup", *(f"/sys/fs/cgroup/{name}" for name in names)
    ]  # fmt: skip
    assert shown["/sys/fs/cgroup/cpu"]["source"] == "/sys/fs/cgroup/cpu,cpuacct/instar-abc/web-1"
    assert all("ro" in shown[one]["options"] for one in shown if one.startswith("/sys"))
    assert not [mount for mount in made()["mounts"] if "cgroup" in mount["destination"]]


def test_no_bind_hides_another() -> None:
    binds = [Bind(source=Path("/v"), target=target) for target in ("/data/sub", "/run/secrets", "/data")]
    targets = [mount["destination"] for mount in made(binds=binds)["mounts"]]
    assert targets.index("/data") < targets.index("/data/sub")
    assert targets.index("/run") < targets.index("/run/secrets")


def test_namespaces_are_joined_where_they_were_made() -> None:
    users = Users(path=Path("/run/i/users"), ids=IdRange.number(3))
    linux = made(users=users)["linux"]
    paths = {item["type"]: item.get("path") for item in linux["namespaces"]}
    assert (paths["network"], paths["user"]) == ("/run/netns/n", "/run/i/users")
    assert linux["uidMappings"] == [{"containerID": 0, "hostID": 0x7003_0000, "size": 65_536}]
    assert {kind for kind, path in paths.items() if path is None} == {"pid", "ipc", "uts", "mount", "cgroup"}
    assert "uidMappings" not in made()["linux"]

"""What scripts/cluster decides before it touches the machine."""

from __future__ import annotations

from pathlib import Path

import pytest
from clusters import box, compiler, parts, programs
from clusters.configuration import _write_text
from clusters.images import digest_of, write_image
from clusters.layout import MOST_NODES, Unusable, layout

MOUNTS = """\
1 0 8:1 / / rw - ext4 /dev/vda rw
2 1 8:2 / /var rw - ext4 /dev/vdb rw
3 2 8:3 / /var/cache/other rw - ext4 /dev/vdc rw
4 1 0:1 / /proc rw - proc proc rw
5 1 0:2 / /sys rw - sysfs sysfs rw
6 5 0:3 / /sys/fs/cgroup rw - cgroup2 cgroup rw
7 1 0:4 / /srv/a\\040b rw - tmpfs tmpfs rw
"""


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("INSTAR_CLUSTER_NAME", "a-name-too-long-for-a-link"),
        ("INSTAR_CLUSTER_NAME", "../up"),
        ("INSTAR_CLUSTER_NETWORK", "10.300"),
        ("INSTAR_CLUSTER_NETWORK", "10.1.2"),
        ("INSTAR_CLUSTER_HOME", "relative"),
        ("INSTAR_CLUSTER_HOME", "/var/lib/cluster"),
    ],
)
def test_a_cluster_that_cannot_be_is_refused_by_the_variable_that_asks_for_it(name: str, value: str) -> None:
    with pytest.raises(Unusable, match=name):
        layout({name: value})


def test_names_of_links_are_short_enough_for_the_kernel() -> None:
    longest = layout({"INSTAR_CLUSTER_NAME": "a" * 12})
    assert all(len(longest.node(number).name) <= 15 for number in range(MOST_NODES))
    assert len(longest.bridge) <= 15


def test_two_clusters_have_nothing_in_common_but_programs(tmp_path: Path) -> None:
    one = layout({"INSTAR_CLUSTER_HOME": "/srv/clusters"})
    other = layout(
        {"INSTAR_CLUSTER_HOME": "/srv/clusters", "INSTAR_CLUSTER_NAME": "other", "INSTAR_CLUSTER_NETWORK": "10.9"}
    )
    assert one.programs == other.programs
    for part in parts.ON_CONTROL + parts.ON_EVERY_NODE:
        said = " ".join(parts.argv(other.control, part)).replace(str(other.programs), "")
        assert one.name not in said and one.network not in said, part


def test_what_simulates_nodes_is_started_on_demand_where_the_api_is_and_manages_no_others() -> None:
    where = layout({})
    assert "kwok" not in parts.parts_of(where.control)
    assert {"--manage-all-nodes=false", f"--manage-nodes-with-annotation-selector={parts.SIMULATED}=yes"} <= set(
        parts.argv(where.control, "kwok")
    )
    with pytest.raises(Unusable, match="node 1 has no part 'kwok'"):
        parts.argv(where.node(1), "kwok")


def test_a_part_that_a_node_has_not_is_named_with_those_that_it_has() -> None:
    with pytest.raises(Unusable, match="node 1 has no part 'etcd'; it has containerd, kubelet, kube-proxy"):
        parts.argv(layout({}).node(1), "etcd")


def test_a_box_lets_go_of_mounts_that_it_does_not_stand_on() -> None:
    assert box._foreign(MOUNTS, ["/var/cache/instar-cluster/programs", "/usr"]) == ["/srv/a b", "/var/cache/other"]


def test_every_program_set_is_pinned_and_built_from_packages_of_its_own_pins() -> None:
    for name, wanted in programs.commands().items():
        pins = (programs.MODULES / name / "go.mod").read_text()
        assert pins.startswith(f"module instar.test/cluster/{name}\n")
        for package in (one for command in wanted for one in command.packages if one != "."):
            assert any(package.startswith(line.split()[0]) for line in requirements(pins)), package


def requirements(pins: str) -> list[str]:
    lines = [line.strip().removeprefix("require ") for line in pins.splitlines()]
    return [line for line in lines if " v" in line and "=>" not in line and not line.endswith("// indirect")]


def test_the_same_program_makes_the_same_image(tmp_path: Path) -> None:
    program = tmp_path / "hello"
    program.write_bytes(b"\x7fELF")
    made = [write_image(tmp_path / f"{number}.tar", "hello:1", program) for number in (1, 2)]
    assert made[0] == made[1] == digest_of(tmp_path / "1.tar")
    assert write_image(tmp_path / "3.tar", "hello:1", program, environ={"VERSION": "2"}) != made[0]


def test_a_file_that_says_the_same_is_not_touched(tmp_path: Path) -> None:
    file = tmp_path / "kube-proxy.json"
    _write_text(file, "{}")
    before = file.stat()
    _write_text(file, "{}")
    assert (file.stat().st_ino, file.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    _write_text(file, "[]")
    assert file.read_text() == "[]"


def test_the_go_that_is_pinned_builds_every_program_set() -> None:
    for name in programs.commands():
        lines = (programs.MODULES / name / "go.mod").read_text().splitlines()
        (wanted,) = (line for line in lines if line.startswith("go "))
        assert compiler.numbers(wanted) <= compiler.numbers(compiler.VERSION), name


def test_versions_of_go_are_compared_by_their_numbers() -> None:
    told = ("go version go1.19.8 linux/amd64", "go version go1.26rc1 linux/arm64", "1.26.8", "go1.26.10")
    assert [compiler.numbers(one) for one in told] == [(1, 19, 8), (1, 26, 0), (1, 26, 8), (1, 26, 10)]


def test_a_toolchain_out_of_an_archive_is_made_usable(tmp_path: Path) -> None:
    """Archives of modules have no programs, and no modules in modules."""
    made = ["bin/go", "pkg/tool/linux_amd64/compile", "src/_go.mod", "src/cmd/_go.mod", "src/main.go"]
    for name in made:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
        (tmp_path / name).chmod(0o444)
    (tmp_path / "src").chmod(0o555)
    for _ in range(2):
        compiler.make_usable(tmp_path)
    usable = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    assert usable == {*made, "src/go.mod", "src/cmd/go.mod"}
    runnable = {name for name in usable if (tmp_path / name).stat().st_mode & 0o111}
    assert runnable == {"bin/go", "pkg/tool/linux_amd64/compile"}
    assert (tmp_path / "src").stat().st_mode & 0o777 == 0o555

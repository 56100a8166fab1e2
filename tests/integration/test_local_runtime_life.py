"""Instances from creation to removal, with the real runc and conmon."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tiny_world import TinyWorld, tiny_tree, wait_until

from instar.errors import HostError, ProviderError
from instar.host.kernel import mounts
from instar.model.definition import Health, Limits, Stop, Volume
from instar.providers.local.names import Names

pytestmark = pytest.mark.root
QUICK = Stop(grace_ms=2_000)


@pytest.fixture
def world(one_world: TinyWorld) -> Iterator[TinyWorld]:
    yield one_world
    one_world.sweep()


def test_an_instance_waits_until_it_is_started_and_leaves_nothing(world: TinyWorld) -> None:
    release = world.release(["sh", "-c", "echo begun; exec sleep 1000"], stop=QUICK)
    instance = world.instance(release)
    assert world.observe(instance).state == "absent"

    world.runtime.create(instance, release, world.image)
    process = world.process(instance)
    assert (world.observe(instance).state, process is None) == ("created", False)
    assert list(world.runtime.log_lines(instance.id)) == []
    world.another_runtime().create(instance, release, world.image)
    assert world.process(instance) == process

    world.runtime.start(instance)
    world.runtime.start(instance)
    world.printed(instance, "begun")
    assert (world.observe(instance).state, world.process(instance)) == ("running", process)

    world.destroy(instance, release)
    assert world.observe(instance).state == "absent"
    assert world.traces() == []
    assert [line.split(" ", 1)[1] for line in world.runtime.log_lines(instance.id)] == ["stdout begun"]
    world.destroy(instance, release)
    world.runtime.forget(release.environment, [instance.id], volumes=True)
    assert list(world.runtime.log_lines(instance.id)) == []


def test_several_are_made_at_once(world: TinyWorld) -> None:
    release = world.release(["sleep", "1000"], stop=QUICK)
    with ThreadPoolExecutor(4) as threads:
        instances = list(threads.map(lambda serial: world.run(release, serial), range(1, 5)))
        assert [seen.state for seen in world.runtime.observe(instances)] == ["running"] * 4
        list(threads.map(lambda one: world.destroy(one, release), instances))
    assert world.traces() == []


def test_a_stop_signal_reaches_the_command_and_has_its_grace(world: TinyWorld) -> None:
    release = world.release(["sh", "-c", "trap 'echo told; exit 7' TERM; echo ready; while :; do sleep 0.05; done"])
    instance = world.run(release)
    world.printed(instance, "ready")
    process = world.process(instance)
    assert process is not None
    os.kill(process.pid, signal.SIGTERM)
    ended = world.ended(instance)
    assert (ended.exit_status, ended.reason) == (7, None)
    world.printed(instance, "told")
    world.destroy(instance, release)


def test_the_init_collects_the_dead(world: TinyWorld) -> None:
    script = "sh -c 'sleep 0.05 & exec true'; sleep 0.3; ps -o stat,comm | grep -c '^Z' ; exit 0"
    assert world.output(script) == ["0"]


@pytest.mark.parametrize(
    ("command", "status", "reason"),
    [
        (["sh", "-c", "exit 3"], 3, None),
        (["sh", "-c", "kill -9 $$"], 137, "killed: SIGKILL"),
        (["dd", "if=/dev/zero", "of=/dev/null", "bs=300M", "count=1"], 137, "killed: out of memory"),
    ],
)
def test_how_it_ended_is_known(world: TinyWorld, command: list[str], status: int, reason: str | None) -> None:
    release = world.release(command, limits=Limits(memory_bytes=64 << 20))
    instance = world.run(release)
    ended = world.ended(instance)
    assert (ended.exit_status, ended.reason) == (status, reason)
    with pytest.raises(ProviderError, match="cannot start 'tiny-dev-1-1'"):
        world.runtime.start(instance)
    world.destroy(instance, release)


def test_a_killed_conmon_ends_no_instance(world: TinyWorld) -> None:
    release = world.release(["sleep", "1000"], stop=QUICK)
    instance = world.run(release)
    conmon = int((world.state.instances / instance.id / "conmon.pid").read_text())
    os.kill(conmon, signal.SIGKILL)
    wait_until(lambda: b"conmon" not in _words(conmon))
    process = world.process(instance)
    assert process is not None
    os.kill(process.pid, signal.SIGKILL)
    ended = world.ended(instance)
    assert (ended.exit_status, ended.reason) == (None, "it ended, and nobody saw how")
    world.destroy(instance, release)
    assert world.traces() == []


def test_health_over_http_and_its_causes(world: TinyWorld) -> None:
    health = Health(kind="http", path="/well", timeout_ms=500)
    serve = "mkdir /tmp/w; echo yes >/tmp/w/well; exec httpd -f -p {} -h /tmp/w"
    good = world.release(["sh", "-c", serve.format("8080")], port=8080, health=health, stop=QUICK)
    instance = world.run(good)
    wait_until(lambda: world.runtime.probe(instance, good).healthy)
    missing = world.release(["true"], port=8080, health=Health(kind="http", path="/ill"))
    assert world.runtime.probe(instance, missing).cause == "GET /ill answered 404"
    elsewhere = world.release(["true"], port=8081, health=health)
    assert world.runtime.probe(instance, elsewhere).cause == (
        "nothing listens on port 8081; the service listens on [::]:8080"
    )
    tcp = world.release(["true"], port=8080, health=Health(kind="tcp"))
    assert world.runtime.probe(instance, tcp).healthy
    world.destroy(instance, good)
    assert world.runtime.probe(instance, good).cause == "it is not running"


def test_a_service_that_listens_only_inside_is_told_so(world: TinyWorld) -> None:
    command = ["httpd", "-f", "-p", "127.0.0.1:8080", "-h", "/srv"]
    release = world.release(command, port=8080, health=Health(kind="http", path="/"), stop=QUICK)
    instance = world.run(release)
    advice = "nothing listens on port 8080; the service listens on 127.0.0.1:8080, which cannot be reached from outside"
    wait_until(lambda: world.runtime.probe(instance, release).cause.startswith(advice))
    world.destroy(instance, release)


def test_what_answers_too_late_or_not_in_http_is_told_so(world: TinyWorld) -> None:
    health = Health(kind="http", path="/", timeout_ms=300)
    script = "while :; do nc -l -p 8080 -e sleep 5; done & while :; do nc -l -p 8081 -e echo hello; done"
    release = world.release(["sh", "-c", script], port=8080, health=health, stop=QUICK)
    instance = world.run(release)
    wait_until(lambda: world.runtime.probe(instance, release).cause == "GET / did not answer within 0.3 s")
    other = world.release(["true"], port=8081, health=health)
    wait_until(lambda: "not HTTP" in world.runtime.probe(instance, other).cause)
    world.destroy(instance, release)


def test_health_by_command(world: TinyWorld) -> None:
    def asking(*command: str) -> Health:
        return Health(kind="command", command=command, timeout_ms=1_500)

    release = world.release(["sleep", "1000"], health=asking("true"), stop=QUICK)
    instance = world.run(release)
    assert world.runtime.probe(instance, release).healthy
    ill = world.release(["true"], health=asking("sh", "-c", "echo no; exit 4"))
    assert world.runtime.probe(instance, ill).cause == "'sh -c echo no; exit 4' ended with exit status 4: no"
    slow = world.release(["true"], health=asking("sleep", "77"))
    assert world.runtime.probe(instance, slow).cause == "'sleep 77' did not end within 1.5 s"
    wait_until(lambda: not any("sleep 77" in words for words in world.processes()))
    world.destroy(instance, release)


def test_dead_worker_is_not_well(world: TinyWorld) -> None:
    release = world.release(["sh", "-c", "exit 5"])
    instance = world.run(release)
    world.ended(instance)
    assert world.runtime.probe(instance, release).cause == "it has ended (exit status 5)"
    world.destroy(instance, release)


@pytest.mark.parametrize(
    ("command", "cause"),
    [
        (["nosuch"], "command 'nosuch' is not in the image (looked in /bin)"),
        (["/srv/nosuch"], "command '/srv/nosuch' is not in the image"),
        (
            ["/srv/plain"],
            "command '/srv/plain' may not be executed by the image's user (the mode of '/srv/plain' is 644)",
        ),
        (["/srv/script"], "command '/srv/script' begins with '#!/usr/bin/python', and that is not in the image"),
        (["/srv"], "command '/srv' is not a file"),
    ],
)
def test_a_command_that_cannot_run_is_named(world: TinyWorld, command: list[str], cause: str) -> None:
    extra = world.home / "extra"
    if not extra.exists():
        (extra / "srv").mkdir(parents=True)
        (extra / "srv/plain").write_text("x")
        (extra / "srv/script").write_text("#!/usr/bin/python\n")
        (extra / "srv/script").chmod(0o755)
    image = world.image_of(world.home / "tree", extra)
    release = world.release(command)
    with pytest.raises(ProviderError) as failure:
        world.runtime.create(world.instance(release), release, image)
    assert failure.value.message == f"cannot create 'tiny-dev-1-1': {cause}"
    assert world.traces() == []


@pytest.mark.parametrize(
    ("link", "target", "cause"),
    [("proc", "srv", "'/proc' in the image is a link"), ("etc", "/srv", "'/etc' in the image is a link")],
)
def test_an_image_that_leads_mounts_astray_is_refused(
    world: TinyWorld, tmp_path: Path, link: str, target: str, cause: str
) -> None:
    tree = tiny_tree(tmp_path / "tree")
    (tree / link).symlink_to(target)
    release = world.release(["true"])
    with pytest.raises(ProviderError, match=cause):
        world.runtime.create(world.instance(release), release, world.image_of(tree))
    assert world.traces() == []


def test_the_volume_outlives_instances_and_releases(world: TinyWorld) -> None:
    volumes = (Volume(name="data", path="/var/lib/tiny"),)
    assert world.output("echo kept >/var/lib/tiny/file; ls -ln /var/lib/tiny | grep -o '10001 *10001'", volumes=volumes)
    assert world.output("cat /var/lib/tiny/file", volumes=volumes) == ["kept"]
    kept = world.state.volumes / "tiny/dev/data/file"
    assert (kept.stat().st_uid, kept.stat().st_gid) == (10_001, 10_001)
    release = world.release(["true"])
    world.runtime.forget(release.environment, [], volumes=True)
    assert not kept.exists()


def test_the_umask_of_whoever_starts_it_makes_no_difference(world: TinyWorld) -> None:
    before = os.umask(0o077)
    try:
        volumes = (Volume(name="masked", path="/var/lib/masked"),)
        assert world.output("touch /var/lib/masked/x && cat /etc/hostname; umask", volumes=volumes) == [
            "tiny-dev-1-1",
            "0022",
        ]
    finally:
        os.umask(before)


def test_layers_are_unmounted_only_when_the_root_that_is_made_of_them_stands(
    world: TinyWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    genuine, waited = mounts.mount_overlay, []
    collection = threading.Thread(target=world.layers.prune, args=((), tuple))

    def late(lowers: Sequence[Path], target: Path) -> None:
        collection.start()
        collection.join(0.3)
        waited.append(collection.is_alive())
        genuine(lowers, target)

    monkeypatch.setattr(mounts, "mount_overlay", late)
    assert world.output("echo well") == ["well"]
    collection.join()
    assert waited == [True]


def test_configuration_and_secrets_reach_the_command(world: TinyWorld) -> None:
    digest = world.keep_secret(b"hush\n")
    script = "env; cat /run/secrets/TOKEN; ls -ln /run/secrets"
    release = world.release(["sh", "-c", script], config={"GREETING": "hello"}, port=8080)
    configuration = release.configuration
    object.__setattr__(configuration, "secrets", {"TOKEN": digest, "KEY": world.keep_secret(b"as a variable")})
    object.__setattr__(configuration, "secret_variables", ("KEY",))
    instance = world.run(release)
    world.ended(instance)
    lines = [line.split(" ", 2)[2] for line in world.runtime.log_lines(instance.id)]
    wanted = {"GREETING=hello", "PORT=8080", "INSTAR_SERVICE=tiny", "INSTAR_ENVIRONMENT=dev", "INSTAR_RELEASE=1"}
    assert wanted | {f"INSTAR_INSTANCE={instance.id}", "hush", "KEY=as a variable"} <= set(lines)
    assert not any(line.startswith("TOKEN=") for line in lines)
    assert any(line.startswith("-r--------") and "10001" in line for line in lines)
    world.destroy(instance, release)


def test_log_lines_survive_full_files(world: TinyWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("instar.providers.local.names.LOG_LIMIT_BYTES", 64 << 10)
    script = (
        "i=0; while [ $i -lt 3000 ]; do i=$((i+1)); echo line-$i; [ $((i%250)) = 0 ] && sleep 0.1; done; sleep 1000"
    )
    release = world.release(["sh", "-c", script], stop=QUICK)
    instance = world.run(release)
    followed = world.runtime.log_lines(instance.id, follow=True)
    texts = []
    for line in followed:
        texts.append(line.split(" ", 2)[2])
        if texts[-1] == "line-3000":
            break
    assert texts == [f"line-{number}" for number in range(1, 3001)]
    last = [line.split(" ", 2)[2] for line in world.runtime.log_lines(instance.id, last=1000)]
    assert last == texts[-1000:]
    sizes = [path.stat().st_size for path in world.state.logs.glob(f"{instance.id}.log*")]
    assert sum(sizes) < 4 * (64 << 10)
    world.destroy(instance, release)


def test_a_long_line_is_one_line(world: TinyWorld) -> None:
    script = "head -c 30000 /dev/zero | busybox tr '\\0' x; echo; echo short"
    lines = world.output(script)
    assert [len(line) for line in lines] == [30_000, 5]


def test_orphans_are_found_and_only_ours(world: TinyWorld) -> None:
    release = world.release(["sleep", "1000"], stop=QUICK)
    kept, lost = world.run(release, 1), world.run(release, 2)
    intent = world.state.instances / lost.id / "instance.json"
    intent.write_text(intent.read_text().replace(f'"pid": {os.getpid()}', '"pid": 4194304'))
    assert world.another_runtime().clear_orphans(lambda: [kept]) == (lost.id,)
    assert world.observe(kept).state == "running"
    assert world.observe(lost).state == "absent"
    assert not any(lost.id in trace for trace in world.traces())
    world.destroy(kept, release)


def test_what_instances_share_stays_for_none_that_was_made_on_another_machine(world: TinyWorld) -> None:
    release = world.release(["sleep", "1000"], stop=QUICK)
    instance = world.run(release)
    planned = dataclasses.replace(instance, id="tiny-dev-1-9", serial=9)
    runtime, bridge = world.another_runtime(), Path("/sys/class/net", Names(world.state, world.id).bridge)
    world.destroy(instance, release)
    runtime.clear_orphans(lambda: [planned])
    assert bridge.exists(), "one that is planned may be made here in a moment"
    runtime.clear_orphans(lambda: [dataclasses.replace(planned, made=True)])
    assert not bridge.exists()


def test_what_lost_its_folder_is_found_too(world: TinyWorld) -> None:
    release = world.release(["sleep", "1000"], stop=QUICK)
    instance = world.run(release)
    subprocess.run(["rm", "-r", world.state.instances / instance.id], check=True)
    assert world.traces() != []
    world.another_runtime().clear_orphans(lambda: [])
    assert world.traces() == []


def test_the_subnet_is_asked_for_kept_and_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = TinyWorld(tmp_path)
    monkeypatch.setenv("INSTAR_SUBNET", "127.0.0.0/16")
    with pytest.raises(
        HostError, match=r"cannot use the subnet '127.0.0.0/16': no machine has addresses of its own in it"
    ):
        world.runtime.network()
    monkeypatch.setenv("INSTAR_SUBNET", "10.99.16.0/20")
    assert str(world.runtime.network()) == "10.99.16.0/20"
    monkeypatch.delenv("INSTAR_SUBNET")
    assert str(world.another_runtime().network()) == "10.99.16.0/20"
    monkeypatch.setenv("INSTAR_SUBNET", "10.99.32.0/20")
    with pytest.raises(HostError, match=r"already uses 10.99.16.0/20"):
        world.another_runtime().network()


def _words(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def test_lines_of_a_flood_follow_on_one_another_though_nobody_looks(world: TinyWorld) -> None:
    """26 MB, as fast as they come: conmon fills three files, and each is kept before the next is full."""
    text = "x" * 1000
    flood = f"n=0; while [ $n -lt 24000 ]; do echo {text} $n; n=$((n + 1)); done; exec sleep 1000"
    instance = world.run(release := world.release(["sh", "-c", flood], stop=QUICK))
    log = world.state.logs / f"{instance.id}.log"
    wait_until(lambda: f" {23999}\n".encode() in log.read_bytes()[-200:], timeout_s=60)
    numbers = [int(line.rpartition(" ")[2]) for line in world.runtime.log_lines(instance.id)]
    assert numbers == list(range(numbers[0], 24000))
    assert len(numbers) > 16_000, "fewer than two full files were kept"
    world.destroy(instance, release)


def test_what_keeps_full_logs_is_started_again_and_says_what_it_missed(world: TinyWorld) -> None:
    text = "x" * 1000
    more = f"n=0; while [ $n -lt 9000 ]; do echo {text} $n; n=$((n + 1)); done"
    waiting = f"trap go=1 USR1; echo ready; while [ -z $go ]; do sleep 0.05; done; {more}; echo filled; exec sleep 1000"
    instance = world.run(release := world.release(["sh", "-c", waiting], stop=QUICK))
    world.printed(instance, "ready")
    keepers = [int(line.split()[1]) for line in world.processes() if "log_keeper" in line]
    assert len(keepers) == 1
    assert os.sched_getscheduler(keepers[0]) == os.SCHED_FIFO or os.getpriority(os.PRIO_PROCESS, keepers[0]) == -20
    os.kill(keepers[0], signal.SIGKILL)
    process = world.process(instance)
    assert process is not None
    os.kill(process.pid, signal.SIGUSR1)
    world.printed(instance, "filled")
    world.runtime.clear_orphans(lambda: [instance])
    wait_until(
        lambda: any("instar (lines may be missing here" in line for line in world.runtime.log_lines(instance.id))
    )
    world.destroy(instance, release)

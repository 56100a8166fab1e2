"""Two machines, that is two state directories, with one ledger in PostgreSQL: what each may do, and what it is told."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import cast

import pytest

from cutting_proxy import CuttingProxy
from instar.control.lease import with_lease
from instar.control.loop import Loop
from instar.definition import parse
from instar.errors import (
    EnvironmentBusy,
    ImageNotFound,
    LeaseLost,
    LedgerDamaged,
    LedgerUnreachable,
    Refused,
    UsageError,
)
from instar.ledger import Ledger
from instar.ledger.copying import move
from instar.model.digest import Digest
from instar.model.environment import Environment, SecretSource, Settings
from instar.model.happenings import VolumeRemoved
from instar.model.progress import silent
from instar.model.release import Instance
from instar.operations.converge import clear_orphans
from instar.operations.deploy import deploy
from instar.operations.gc import gc, remove_image
from instar.operations.ledger import require_in_ledger, which_ledger
from instar.operations.locks import hold_environment, is_here
from instar.operations.plan import plan
from instar.operations.promote import image_of, promoted
from instar.operations.secret_key import export_key, import_key, require_key
from instar.operations.secrets import keep_secrets
from instar.providers.base import Provider
from instar.workspace import MachineWorkspace
from postgres import PASSWORD, PostgresServer
from simulated import Behaviour, Simulation
from simulated.values import ENV, configuration, image
from simulated.workspace import SimulatedWorkspace


@pytest.fixture
def address(postgres: PostgresServer) -> str:
    return postgres.address(postgres.wiped())


class Machines:
    def __init__(self, folder: Path, address: str) -> None:
        self.one, self.other = (self._open(folder / name, address) for name in ("one", "other"))

    def _open(self, home: Path, address: str) -> MachineWorkspace:
        return MachineWorkspace({"INSTAR_HOME": str(home), "INSTAR_LEDGER": address}, silent)


@pytest.fixture
def machines(tmp_path: Path, address: str) -> Iterator[Machines]:
    made = Machines(tmp_path, address)
    yield made
    made.one.ledger.close()
    made.other.ledger.close()


def test_they_read_one_ledger_and_make_none_of_their_own(machines: Machines) -> None:
    machines.one.ledger.save_settings(ENV, Settings())
    assert [state.id for state in machines.other.ledger.environments()] == [ENV]
    assert not machines.one.state.ledger.exists()


def test_one_holds_an_environment_and_the_other_is_told_who(machines: Machines) -> None:
    with hold_environment(machines.one, ENV):
        held = pytest.raises(EnvironmentBusy, match=r"on .+ \([0-9a-f]{6}\) \(process \d+\) works on it since 20")
        with held as caught, hold_environment(machines.other, ENV):
            pass
        assert caught.value.exit_status == 75
    with hold_environment(machines.other, ENV):
        pass


def test_who_takes_over_from_another_machine_ends_what_it_does(machines: Machines) -> None:
    with hold_environment(machines.one, ENV):
        with hold_environment(machines.other, ENV, take_over=True):
            machines.other.ledger.save_settings(ENV, Settings())
            with pytest.raises(LeaseLost):
                machines.one.ledger.save_settings(ENV, Settings(instances=2))
        with pytest.raises(LeaseLost):
            machines.one.ledger.require_lease(ENV)


def test_an_environment_of_one_machine_is_refused_on_another(machines: Machines) -> None:
    one, other = machines.one, machines.other
    one.ledger.save_settings(ENV, Settings())
    here = one.machine_of("local")
    assert here is not None and here != other.machine_of("local")
    one.ledger.set_machine(ENV, here)
    one.ledger.set_machine(ENV, here)
    with pytest.raises(Refused, match="its instances are on") as caught, hold_environment(other, ENV):
        pass
    assert here in caught.value.message
    with pytest.raises(Refused):
        other.ledger.set_machine(ENV, other.machine)
    state = other.ledger.get_environment(ENV)
    assert is_here(one, state) and not is_here(other, state)
    assert [event.kind for event in one.ledger.history(ENV)] == ["environment", "machine"]


def test_a_loop_that_has_lost_its_lease_calls_no_provider_any_more(machines: Machines, address: str) -> None:
    world = Simulation()
    one, other = machines.one, machines.other
    assert one.ledger.leases is not None and other.ledger.leases is not None
    with hold_environment(one, ENV):
        one.ledger.save_settings(ENV, Settings(listen=("127.0.0.1:8080",)))
        one.ledger.add_release(ENV, image().digest, configuration())
        one.ledger.begin_rollout(ENV, "deploy", 1)
        run = Loop(ledger=one.ledger, provider=world.provider, find_image=lambda digest: image(), report=silent).begin(
            ENV
        )
        while not any(event.kind == "created" for event in one.ledger.history(ENV)):
            run.advance()
        with other.ledger.leases.holding(ENV, "bob", machine="other", take_over=True):
            before = (len(one.ledger.history()), world.effects.names.copy())
            with pytest.raises(LeaseLost):
                for _ in range(20):
                    run.advance()
            assert (len(one.ledger.history()), world.effects.names) == before


def test_a_machine_of_its_own_asks_for_no_lease(tmp_path: Path) -> None:
    world = Simulation()
    with Ledger(tmp_path / "instar.db", actor="ann") as ledger:
        provider = world.provider
        assert with_lease(ledger, provider, ENV) is provider


def test_what_is_no_address_of_a_database_is_refused_and_not_shown(tmp_path: Path) -> None:
    for address in ("mysql://ann:hunter2@db/x", "/var/lib/instar.db", "db:hunter2"):
        with pytest.raises(UsageError) as caught:
            MachineWorkspace({"INSTAR_HOME": str(tmp_path), "INSTAR_LEDGER": address}, silent).ledger  # noqa: B018
        assert "hunter2" not in caught.value.message


def test_a_promotion_from_another_ledger_is_refused(machines: Machines) -> None:
    require_in_ledger(machines.one, ENV)
    with Ledger(machines.one.state.ledger, actor="ann") as own:
        own.save_settings(ENV, Settings())
    with pytest.raises(Refused, match="it is in another ledger") as caught:
        require_in_ledger(machines.one, ENV)
    assert caught.value.hint and "instar ledger copy" in caught.value.hint
    machines.one.ledger.save_settings(ENV, Settings())
    require_in_ledger(machines.one, ENV)


def test_which_ledger_is_read_and_which_is_not(machines: Machines, address: str) -> None:
    assert list(which_ledger(machines.one)) == [f"{machines.one.ledger.address} is read"]
    with Ledger(machines.one.state.ledger, actor="ann") as own:
        own.save_settings(ENV, Settings())
        _, told = which_ledger(machines.one)
        assert told.startswith(f"{own.address} is not, with {ENV}: instar ledger copy {own.address} postgresql://")
        move(own, machines.one.ledger, {"local": machines.one.machine})
    assert list(which_ledger(machines.one)) == [f"{machines.one.ledger.address} is read"]
    alone = MachineWorkspace({"INSTAR_HOME": str(machines.one.state.root)}, silent)
    (told,) = which_ledger(alone)
    assert "was moved, and goes on at postgresql://" in told
    with pytest.raises(Refused, match="this ledger was moved"):
        alone.ledger.save_settings(ENV, Settings(instances=2))
    alone.ledger.close()


class Swept:
    """A provider of which only is known that it was swept."""

    def __init__(self) -> None:
        self.sweeps, self.known = self, list[tuple[str, ...]]()

    def sweep(self, groups: Callable[[], Sequence[Instance]], environments: object) -> tuple[str, ...]:
        self.known.append(tuple(one.id for one in groups()))
        return ()


def test_nothing_is_cleared_away_that_the_ledger_knows_which_is_not_read(machines: Machines) -> None:
    one, provider = machines.one, Swept()
    with Ledger(one.state.ledger, actor="ann") as own:
        own.save_settings(ENV, Settings())
        does: tuple[Callable[[], object], ...] = (
            lambda: clear_orphans(one, cast(Provider, provider)),
            lambda: gc(one, dry_run=False),
            lambda: remove_image(one, "guestbook"),
        )
        for do in does:
            with pytest.raises(Refused, match=f"this machine's own ledger, .* has {ENV}") as caught:
                do()
            assert caught.value.hint and "instar ledger copy" in caught.value.hint
        assert provider.known == []
        move(own, one.ledger, {"local": one.machine})
    clear_orphans(one, cast(Provider, provider))
    assert provider.known == [()]


def test_nothing_is_cleared_away_by_another_shared_ledger(machines: Machines, postgres: PostgresServer) -> None:
    one, provider = machines.one, cast(Provider, Swept())
    one.state.root.mkdir()
    one.ledger.save_settings(ENV, Settings())
    clear_orphans(one, provider)
    (one.state.routers / ENV.service / ENV.name).mkdir(parents=True)
    misnamed = MachineWorkspace(
        {
            "INSTAR_HOME": str(one.state.root),
            "INSTAR_LEDGER": postgres.address(postgres.database(template=postgres.template)),
        },
        silent,
    )
    try:
        for _ in range(2):
            with pytest.raises(Refused, match="what runs on this machine was deployed by another ledger") as caught:
                clear_orphans(misnamed, provider)
            assert one.ledger.address in caught.value.message
            assert str(one.state.shared_ledger) in (caught.value.hint or "")
            with pytest.raises(Refused):
                gc(misnamed, dry_run=True)
            misnamed.ledger.record(VolumeRemoved(volume="v"))  # it need not be empty
        (one.state.routers / ENV.service / ENV.name).rmdir()
        clear_orphans(misnamed, provider)
        (one.state.routers / ENV.service / ENV.name).mkdir()
        clear_orphans(misnamed, provider)
    finally:
        misnamed.ledger.close()
    with pytest.raises(Refused):
        clear_orphans(one, provider)


def test_nothing_is_cleared_away_by_the_ledger_that_was_moved(machines: Machines, address: str) -> None:
    one, provider = machines.one, Swept()
    with Ledger(one.state.ledger, actor="ann") as own:
        own.save_settings(ENV, Settings())
        move(own, one.ledger, {"local": one.machine})
    clear_orphans(one, cast(Provider, provider))
    alone = MachineWorkspace({"INSTAR_HOME": str(one.state.root)}, silent)
    try:
        for do in (lambda: clear_orphans(alone, cast(Provider, provider)), lambda: gc(alone, dry_run=True)):
            with pytest.raises(Refused, match="this ledger was moved, and goes on at postgresql://"):
                do()
    finally:
        alone.ledger.close()
    assert provider.known == [()] and one.state.shared_ledger.exists()


def test_a_machine_that_goes_back_to_a_ledger_of_its_own_forgets_the_shared_one(machines: Machines) -> None:
    one, provider = machines.one, cast(Provider, Swept())
    one.state.root.mkdir()
    one.ledger.save_settings(ENV, Settings())
    clear_orphans(one, provider)
    (one.state.routers / ENV.service / ENV.name).mkdir(parents=True)
    Ledger(one.state.ledger, actor="ann").close()
    alone = MachineWorkspace({"INSTAR_HOME": str(one.state.root)}, silent)
    with pytest.raises(Refused, match="what runs on this machine was deployed by another ledger"):
        clear_orphans(alone, provider)
    move(one.ledger, alone.ledger, {})
    clear_orphans(alone, provider)
    alone.ledger.close()
    assert not one.state.shared_ledger.exists()


def test_a_database_that_goes_away_in_a_rollout_says_what_goes_on_with_it(
    postgres: PostgresServer, tmp_path: Path
) -> None:
    database, world = postgres.wiped(), Simulation()
    password, proxy = tmp_path / "pass", CuttingProxy(postgres.port)
    password.write_text(f"*:*:*:*:{PASSWORD}\n")
    password.chmod(0o600)
    postgres.execute("DROP ROLE IF EXISTS fay", f"CREATE ROLE fay LOGIN SUPERUSER PASSWORD '{PASSWORD}'")
    loaded = parse(SERVED, str(tmp_path / "instar.yaml"))

    def gone() -> None:
        proxy.close()
        proxy.cut_all()

    address = postgres.tcp_address(database, user="fay", port=proxy.port, passfile=password)
    with Ledger(address, actor="ann", clock=world.clock.now) as ledger:
        workspace = SimulatedWorkspace(tmp_path / "home", world, ledger=ledger)
        digest = workspace.bake("one").digest
        world.runtime.behave(1, Behaviour(healthy_after_probes=2))
        workspace.meanwhile = gone
        with pytest.raises(LedgerUnreachable, match="the rollout to release 1 of 'web/dev' is half done") as caught:
            deploy(workspace, loaded, "dev", image=digest)
    assert "nothing is moved or removed until" in (caught.value.hint or "")
    with Ledger(postgres.address(database), actor="ann", clock=world.clock.now) as ledger:
        workspace = SimulatedWorkspace(tmp_path / "home", world, ledger=ledger)
        outcome = deploy(workspace, loaded, "dev", image=digest)
        assert (outcome.outcome, outcome.release) == ("done", 1)


def test_a_machine_that_lost_the_name_of_its_ledger_is_told_it(machines: Machines) -> None:
    one = machines.one
    one.state.root.mkdir()
    one.state.id_file.write_text("0a1b2c\n")
    one.ledger.save_settings(ENV, Settings())
    clear_orphans(one, cast(Provider, Swept()))
    alone = MachineWorkspace({"INSTAR_HOME": str(one.state.root)}, silent)
    with pytest.raises(LedgerDamaged, match="cannot find the ledger") as caught:
        alone.ledger.environments()
    assert f"this machine worked by {one.ledger.address}: name it again" in (caught.value.hint or "")


def test_what_runs_on_another_machine_needs_no_image_here(machines: Machines) -> None:
    one, other = machines.one, machines.other
    one.ledger.save_settings(ENV, Settings())
    one.ledger.set_machine(ENV, one.machine)
    one.ledger.add_release(ENV, image().digest, configuration())
    one.ledger.begin_rollout(ENV, "deploy", 1)
    assert gc(other, dry_run=False).images == ()
    with pytest.raises(ImageNotFound):
        gc(one, dry_run=False)


DEFINITION = f"""
name: {ENV.service}
image: {{base: debian:bookworm}}
service: {{command: [serve]}}
environments:
  {ENV.name}: {{}}
  next: {{promote_from: {ENV.name}}}
"""


def test_what_another_machine_would_refuse_its_plan_refuses(machines: Machines, tmp_path: Path) -> None:
    one, other = machines.one, machines.other
    loaded = parse(DEFINITION, str(tmp_path / "instar.yaml"))
    one.ledger.save_settings(ENV, Settings())
    one.ledger.set_machine(ENV, one.machine)
    release = one.ledger.add_release(ENV, image().digest, configuration())
    one.ledger.begin_rollout(ENV, "deploy", release.number)
    with pytest.raises(Refused, match="its instances are on"):
        plan(other, loaded, ENV.name)
    one.ledger.set_active(ENV, release.number)
    with pytest.raises(ImageNotFound) as caught:
        image_of(other, loaded, promoted(other, loaded, ENV.name, "next")[1])
    assert caught.value.hint and "instar bake" in caught.value.hint and str(one.machine) in caught.value.hint
    with pytest.raises(ImageNotFound) as caught:
        image_of(one, loaded, promoted(one, loaded, ENV.name, "next")[1])
    assert "instar bake" not in (caught.value.hint or "").removeprefix("the store is empty: ")


SERVED = """
name: web
image: {base: debian:bookworm}
service: {command: [serve], port: 8080, health: {path: /healthz}}
environments:
  dev: {listen: 127.0.0.1:8080}
"""


def keep(workspace: MachineWorkspace, folder: Path) -> Mapping[str, Digest]:
    """Keep a secret as a deploy does."""
    environment = Environment(name="dev", secrets={"TOKEN": SecretSource(file="token")})
    require_key(workspace, make=True)
    return keep_secrets(workspace.state, folder, environment)


@pytest.mark.root
def test_one_secret_has_one_digest_on_all_machines_that_share_a_ledger(machines: Machines, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("s3cret")
    one, other = machines.one, machines.other
    with pytest.raises(Refused, match="has none yet"):
        export_key(one)
    first = keep(one, tmp_path)
    for make in (True, False):
        with pytest.raises(Refused, match="this machine has no key yet") as caught:
            require_key(other, make=make)
        assert caught.value.hint and "instar ledger key import" in caught.value.hint
    with pytest.raises(Refused, match="it is not the one of this ledger"):
        import_key(other, "0" * 64)
    with pytest.raises(UsageError):
        import_key(other, "no key")
    import_key(other, export_key(one))
    assert keep(other, tmp_path) == first
    assert other.state.secret_key.stat().st_mode & 0o777 == 0o600
    told = [event for event in one.ledger.history() if event.kind == "secret-key"]
    assert len(told) == 1 and export_key(one) not in str(told)


@pytest.mark.root
def test_a_machine_with_another_key_is_refused_and_keeps_it(machines: Machines, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("s3cret")
    keep_secrets(machines.other.state, tmp_path, Environment(name="dev", secrets={"TOKEN": SecretSource(file="token")}))
    own = export_key(machines.other)
    keep(machines.one, tmp_path)
    with pytest.raises(Refused, match="this machine has another key"):
        keep(machines.other, tmp_path)
    with pytest.raises(Refused, match="and secrets that are kept by it"):
        import_key(machines.other, export_key(machines.one))
    assert export_key(machines.other) == own

"""Secrets of a ledger that several machines share: encrypted in it, started from anywhere by who has the key."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from instar.errors import Refused
from instar.ledger import Ledger
from instar.ledger.secrets import SecretName
from instar.model.environment import Environment, SecretSource, Settings
from instar.model.outcome import RolloutOutcome
from instar.model.release import EnvironmentId, Release
from instar.operations import converge, deploy
from instar.operations.gc import gc
from instar.operations.ledger import move_ledger
from instar.operations.old_secrets import remove_old_secrets_if_free
from instar.operations.rollback import rollback
from instar.operations.secret_key import export_key, import_key
from instar.operations.secret_values import bring_values, keep_values
from instar.operations.secrets import find_key
from postgres import PostgresServer
from simulated import Simulation
from simulated.values import ENV, ORIGIN, configuration
from simulated.workspace import SimulatedWorkspace

pytestmark = pytest.mark.root
ALONE = Settings(listen=("127.0.0.1:8080",), instances=1)
VALUE = "s3cret of ours"


class Machine(SimulatedWorkspace):
    """One of those that share a ledger, with a state directory of its own."""

    def __init__(self, folder: Path, ledger: Ledger, simulation: Simulation) -> None:
        super().__init__(folder, simulation, ledger=ledger)
        self.image = self.bake("one")

    def release(self, secret: str, environment: EnvironmentId = ENV) -> RolloutOutcome:
        """Deploy with a secret as a person does who has it in a file."""
        (self.state.root / "token").write_text(secret)
        declared = Environment(name="dev", secrets={"TOKEN": SecretSource(file="token")})
        made = replace(configuration(), secrets=keep_values(self, self.state.root, declared, service="shop"))
        found = deploy.begin(self, environment, ALONE, self.image, made, "deploy", project=None, origin=ORIGIN)
        return converge.converge(self, found, time.monotonic())

    def back(self, number: int) -> RolloutOutcome:
        return rollback(self, self.ledger.get_environment(ENV), to=number)

    def has(self, release: Release) -> bool:
        return all(self.state.secret(digest).exists() for digest in release.configuration.secrets.values())

    def lose(self, release: Release) -> None:
        for digest in release.configuration.secrets.values():
            self.state.secret(digest).unlink()


class Machines:
    def __init__(self, folder: Path, address: str) -> None:
        world = Simulation()
        self.one, self.other = (
            Machine(folder / name, Ledger(address, actor=name, clock=world.clock.now), world)
            for name in ("one", "other")
        )

    def share_the_key(self) -> None:
        import_key(self.other, export_key(self.one))


@pytest.fixture
def address(postgres: PostgresServer) -> str:
    return postgres.address(postgres.wiped())


@pytest.fixture
def machines(tmp_path: Path, address: str) -> Iterator[Machines]:
    made = Machines(tmp_path, address)
    yield made
    made.one.ledger.close()
    made.other.ledger.close()


def everything(postgres: PostgresServer, address: str) -> str:
    """Return all that is in the ledger's database."""
    database = address.partition("?")[0].rpartition("/")[2]
    tables = postgres.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'instar'", database=database)
    return "\n".join(str(postgres.execute(f"SELECT * FROM instar.{name}", database=database)) for (name,) in tables)


def test_the_value_is_in_the_ledger_and_nobody_reads_it_there(
    machines: Machines, postgres: PostgresServer, address: str
) -> None:
    assert machines.one.release(VALUE).outcome == "done"
    release = machines.one.ledger.get_release(ENV, 1)
    assert machines.one.ledger.find_secret(SecretName(ENV, "TOKEN", release.configuration.secrets["TOKEN"]))
    found = everything(postgres, address)
    assert "TOKEN" in found
    assert VALUE not in found and export_key(machines.one) not in found
    assert VALUE not in str(machines.one.told)


def test_the_same_from_two_machines_is_one_release(machines: Machines) -> None:
    machines.one.release(VALUE)
    machines.share_the_key()
    assert (machines.other.release(VALUE).outcome, len(machines.one.ledger.releases(ENV))) == ("unchanged", 1)


def test_another_machine_goes_back_to_a_release_whose_secret_it_never_saw(machines: Machines) -> None:
    machines.one.release(VALUE)
    machines.share_the_key()
    machines.other.release("another one")
    first = machines.other.ledger.get_release(ENV, 1)
    for instance in machines.other.ledger.instances(ENV):
        if instance.release == 1:
            machines.other.simulation.runtime.destroy(instance, first)
            machines.other.ledger.remove_instance(instance.id, "over")
    assert not machines.other.has(first)
    assert machines.other.back(1).active == 1
    path = machines.other.state.secret(first.configuration.secrets["TOKEN"])
    assert path.read_text() == VALUE and path.stat().st_mode & 0o777 == 0o600


def test_an_instance_that_is_made_gets_what_the_machine_lacks(machines: Machines) -> None:
    machines.one.release(VALUE)
    machines.share_the_key()
    release, (instance,) = machines.other.ledger.get_release(ENV, 1), machines.other.ledger.instances(ENV)
    machines.other.simulation.runtime.kill(instance.id)
    converge.make_loop(machines.other, machines.other.provider("local")).run(ENV)
    (after,) = machines.other.ledger.instances(ENV)
    assert after.id != instance.id and machines.other.has(release)


def test_without_the_key_it_says_what_to_do_and_nothing_is_lost(machines: Machines) -> None:
    machines.one.release(VALUE)
    release, before = machines.one.ledger.get_release(ENV, 1), machines.one.ledger.history()
    for prepare, what in ((lambda: None, "no key yet"), (lambda: keep_foreign_key(machines.other), "another key")):
        prepare()
        with pytest.raises(Refused, match=what) as caught:
            bring_values(machines.other, release)
        assert caught.value.exit_status == 1 and "instar ledger key import" in str(caught.value.hint)
        with pytest.raises(Refused, match=what):
            machines.other.release(VALUE)
    assert machines.one.ledger.history() == before and machines.one.has(release)
    (machines.other.state.secrets / "key").unlink()
    machines.share_the_key()
    bring_values(machines.other, release)
    assert machines.other.has(release)


def keep_foreign_key(machine: Machine) -> None:
    machine.state.secrets.mkdir(parents=True)
    machine.state.secret_key.write_bytes(bytes(32))


def test_a_machine_that_lost_its_key_gets_it_from_another(machines: Machines) -> None:
    machines.one.release(VALUE)
    machines.share_the_key()
    bring_values(machines.other, machines.other.ledger.get_release(ENV, 1))
    for damage in (machines.other.state.secret_key.unlink, lambda: machines.other.state.secret_key.write_bytes(b"no")):
        damage()
        machines.share_the_key()
        assert find_key(machines.other.state) == find_key(machines.one.state)


def test_a_value_in_the_place_of_another_is_not_read(machines: Machines) -> None:
    stage = EnvironmentId(service=ENV.service, name="stage")
    machines.one.release(VALUE)
    machines.one.release("of the stage", stage)
    machines.share_the_key()
    engine = machines.one.ledger.session.engine
    with machines.one.ledger.transaction(), engine.without_rules():
        machines.one.ledger.session.write("UPDATE secrets SET value = (SELECT max(value) FROM secrets)")
    failures = 0
    for environment in (ENV, stage):
        release = machines.other.ledger.get_release(environment, 1)
        try:
            bring_values(machines.other, release)
        except Refused as error:
            failures += 1
            assert "the ledger's value of its secret 'TOKEN' is damaged" in error.message
            assert not machines.other.has(release)
    assert failures == 1, "one of the two is in its own place"


def test_a_damaged_file_is_put_right_from_the_ledger(machines: Machines) -> None:
    machines.one.release(VALUE)
    release = machines.one.ledger.get_release(ENV, 1)
    path = machines.one.state.secret(release.configuration.secrets["TOKEN"])
    path.write_text("damaged")
    bring_values(machines.one, release)
    assert path.read_text() == VALUE


def test_gc_takes_out_what_no_kept_release_needs(machines: Machines) -> None:
    machines.one.ledger.save_settings(ENV, ALONE)
    for number in range(7):
        machines.one.release(f"{VALUE} {number}")
    release = machines.one.ledger.get_release(ENV, 1)
    secret = SecretName(ENV, "TOKEN", release.configuration.secrets["TOKEN"])
    assert machines.one.ledger.find_secret(secret) is not None
    found = gc(machines.one, dry_run=True).secrets
    assert found and machines.one.ledger.find_secret(secret) is not None
    assert gc(machines.one, dry_run=False).secrets == found
    assert machines.one.ledger.find_secret(secret) is None and not machines.one.has(release)
    active = machines.one.ledger.get_release(ENV, 7)
    assert machines.one.ledger.find_secret(SecretName(ENV, "TOKEN", active.configuration.secrets["TOKEN"]))
    machines.one.release(f"{VALUE} 0")
    assert machines.one.ledger.find_secret(secret) is not None, "it came again, with a release"
    machines.one.ledger.verify()


def test_a_machine_without_secrets_of_its_own_takes_out_what_is_over(machines: Machines) -> None:
    machines.one.release(VALUE)
    release = machines.one.ledger.get_release(ENV, 1)
    for instance in machines.one.ledger.instances(ENV):
        machines.one.ledger.remove_instance(instance.id, "over")
    machines.one.ledger.set_active(ENV, None)
    machines.one.ledger.remove_environment(ENV)
    remove_old_secrets_if_free(machines.other)
    rows = machines.one.ledger.session.rows("SELECT digest, value FROM secrets")
    assert [tuple(row) for row in rows] == [(release.configuration.secrets["TOKEN"], None)]


def test_what_was_shared_before_values_were_kept_is_completed(machines: Machines) -> None:
    machines.one.release(VALUE)
    machines.one.ledger.remove_secrets(())
    release = machines.one.ledger.get_release(ENV, 1)
    secret = SecretName(ENV, "TOKEN", release.configuration.secrets["TOKEN"])
    bring_values(machines.one, release)
    assert machines.one.ledger.find_secret(secret) is not None
    machines.one.ledger.remove_secrets(())
    assert machines.one.release(VALUE).outcome == "unchanged"
    assert machines.one.ledger.find_secret(secret) is not None


def test_a_ledger_that_is_moved_takes_them_with_it_and_back(tmp_path: Path, address: str) -> None:
    world = Simulation()
    home = SimulatedWorkspace(tmp_path / "home").state
    alone = Machine(tmp_path / "home", Ledger(home.ledger, actor="ann", clock=world.clock.now), world)
    alone.release(VALUE)
    release = alone.ledger.get_release(ENV, 1)
    assert alone.ledger.find_secret_key() is None
    move_ledger(alone, str(alone.state.ledger), address)
    other = Machine(tmp_path / "other", Ledger(address, actor="ben", clock=world.clock.now), world)
    with pytest.raises(Refused, match="no key yet"):
        bring_values(other, release)
    import_key(other, export_key(alone))
    bring_values(other, release)
    assert other.has(release)
    other.ledger.close()
    back = tmp_path / "back" / "ledger" / "instar.db"
    move_ledger(alone, address, str(back))
    third = Machine(tmp_path / "back", Ledger(back, actor="cid", clock=world.clock.now), world)
    import_key(third, export_key(alone))
    bring_values(third, release)
    assert third.has(release)
    third.ledger.verify()
    alone.ledger.close()
    third.ledger.close()

"""``instar ledger copy``: a ledger moves into another database."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

from instar import durable
from instar.errors import Refused, UsageError
from instar.ledger import Ledger
from instar.ledger.copying import move, moved_to
from instar.ledger.events import moved
from instar.model.release import EnvironmentId
from instar.model.state import StateDirectory
from instar.operations.locks import hold_environment
from instar.operations.privilege import require_root
from instar.operations.retention import kept_releases
from instar.operations.secret_key import IMPORT_KEY, fingerprint
from instar.operations.secret_values import encrypted, kept_values
from instar.operations.secrets import find_key
from instar.operations.workspace import Workspace


def move_ledger(workspace: Workspace, source: str, target: str) -> int:
    """Move a ledger; return how many events it had. Nobody acts on any of its environments of this machine meanwhile.

    Raises EnvironmentBusy, and what :func:`instar.ledger.copying.move` raises.
    """
    from instar.definition.kept import require_kept  # all commands import this, and few read a definition

    require_root("ledger copy", "it reads and writes the machine's ledger")
    if source == target or not (_is_shared(source) or Path(source).exists()):
        why = "it is the same" if source == target else f"there is no '{source}'"
        raise UsageError(f"cannot copy the ledger: {why}")
    with contextlib.ExitStack() as held:
        old = held.enter_context(Ledger(_address(source), actor=workspace.actor, check=require_kept))
        new = held.enter_context(Ledger(_address(target), actor=workspace.actor, check=require_kept))
        require_readable(old)
        if source == str(workspace.state.ledger):
            for state in old.environments():
                held.enter_context(hold_environment(workspace, state.id, patient=False))
        providers = {state.settings.provider for state in old.environments()}
        complete = _secrets_of(workspace) if new.shared and source == str(workspace.state.ledger) else _nothing
        return move(old, new, {name: workspace.machine_of(name) for name in providers}, complete)


def require_readable(ledger: Ledger) -> None:
    """Raise LedgerDamaged where a ledger that may be somebody else's says what no definition can."""
    ledger.instances_of_removed()
    for state in ledger.environments():
        ledger.releases(state.id)
        ledger.instance_names(state.id)


def which_ledger(workspace: Workspace) -> Iterator[str]:
    """Yield what to say of the ledger that is read, where that does not go without saying, and of one that is not."""
    if not workspace.ledger.shared:
        to = moved_to(workspace.ledger)
        if to is not None:
            yield f"{workspace.ledger.address} was moved, and goes on at {to}: that one is not read here"
        return
    yield f"{workspace.ledger.address} is read"
    unread = _unread(workspace)
    if unread:
        own, names = workspace.state.ledger, ", ".join(map(str, unread))
        yield f"{own} is not, with {names}: instar ledger copy {own} {workspace.ledger.address}"


def require_in_ledger(workspace: Workspace, environment: EnvironmentId) -> None:
    """Raise Refused where an environment is in the machine's own ledger, and another is read."""
    if workspace.ledger.find_environment(environment) is None and environment in _unread(workspace):
        own = workspace.state.ledger
        raise Refused(
            f"cannot promote '{environment}': it is in another ledger, {own}",
            hint=f"a promotion is within one ledger; move that one: instar ledger copy {own} TO",
        )


def require_none_unread(workspace: Workspace) -> None:
    """Raise Refused where another ledger than the one that is read has environments of this machine: what runs of them
    is unknown here, and would be cleared away as nobody's."""
    _require_the_same(workspace)
    unread = _unread(workspace)
    if unread:
        own = workspace.state.ledger
        raise Refused(
            f"cannot go by {workspace.ledger.address}: this machine's own ledger, '{own}', has "
            f"{', '.join(map(str, unread))}",
            hint=f"what runs goes on; move them (instar ledger copy {own} TO), or destroy them before another is named",
        )


def _require_the_same(workspace: Workspace) -> None:
    """Write down by which shared ledger this machine works, if by one. Raises Refused where it was moved, or where the
    machine worked by another one, whatever the two are called, and something runs here."""
    ledger, file = workspace.ledger, workspace.state.shared_ledger
    known, address = last_shared(workspace.state)
    to = None if ledger.shared else moved_to(ledger)
    if to is not None:
        raise moved(ledger.address, to)
    found = ledger.identity()
    if known and known != found and not _deploys_here(ledger) and _something_runs(workspace.state):
        raise Refused(
            f"cannot go by {ledger.address}: what runs on this machine was deployed by another ledger, "
            f"then at {address}",
            hint="name that one again (INSTAR_LEDGER, or 'ledger' in the machine's file), and destroy there what runs "
            f"here before another is named; where it is lost for good, stop what runs and remove '{file}'",
        )
    if not ledger.shared:
        file.unlink(missing_ok=True)
    elif found and known != found and file.parent.exists():
        durable.write(file, f"{found}\n{ledger.address}\n".encode())


def _deploys_here(ledger: Ledger) -> bool:
    """Tell whether a machine's own ledger has environments: then what runs is theirs. By a shared one nothing was
    deployed beside them, and an older Instar left ``shared-ledger`` there when a machine went back to its own."""
    return not ledger.shared and any(ledger.readable_environments())


def last_shared(state: StateDirectory) -> tuple[str, str]:
    """Return the identity of the shared ledger by which the machine worked last, and its address then; "" for none."""
    try:
        identity, _, address = durable.read_text(state.shared_ledger, "replace").partition("\n")
    except FileNotFoundError:
        return "", ""
    return identity, address.strip()


def _something_runs(state: StateDirectory) -> bool:
    return any(state.instances.glob("[!.]*")) or any(state.allocations.glob("*.json")) or any(state.routers.glob("*/*"))


def _unread(workspace: Workspace) -> tuple[EnvironmentId, ...]:
    """Return the environments of the machine's own ledger, where another is read and it was not moved."""
    if not workspace.ledger.shared or not workspace.state.ledger.exists():
        return ()
    with Ledger(workspace.state.ledger, actor=workspace.actor) as other:
        return tuple(state.id for state in other.environments()) if moved_to(other) is None else ()


def _nothing(ledger: Ledger) -> None:
    pass


def _secrets_of(workspace: Workspace) -> Callable[[Ledger], None]:
    """Return what puts the secrets of this machine into a ledger that others share from then on: its key becomes the
    ledger's, and the values of all kept releases are there. They are read now: a transaction waits for no file."""
    key = find_key(workspace.state)
    if key is None:
        return _nothing
    values = kept_values(workspace, key)

    def put(ledger: Ledger) -> None:
        ledger.set_secret_key(fingerprint(key))
        if ledger.find_secret_key() != fingerprint(key):
            raise Refused(
                "cannot copy the ledger: this machine has another key of secrets than the ledger", hint=IMPORT_KEY
            )
        for release in kept_releases(ledger):
            digests = release.configuration.secrets
            ledger.put_secrets(encrypted(ledger, release.environment, digests, key, values.get))

    return put


def _address(word: str) -> Path | str:
    return word if _is_shared(word) else Path(word)


def _is_shared(word: str) -> bool:
    return word.startswith(("postgresql://", "postgres://"))

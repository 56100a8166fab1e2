"""``instar certificates``: those of this machine's https names, what becomes of them, and what a deploy brings.

Certificates are state: no part of a release, so that no rollback brings an old one back. The ledger is told of each
by its fingerprint and its dates.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from instar import locks
from instar.certificates.dns_command import HINT
from instar.certificates.renewals import Renewal, Renewals
from instar.certificates.store import CertificateStore
from instar.certificates.wanted import wanted_certificates
from instar.errors import DefinitionError, InstarError, NotFound, Problem, ProviderMissing
from instar.model.certificate import Certificate, CertificateStatus, WantedCertificate
from instar.model.environment import Environment, Settings
from instar.model.happenings import CertificateFailed, CertificateHeld
from instar.model.host_names import HostNames
from instar.model.machine import MachineSettings
from instar.model.plan import PlannedChange
from instar.model.progress import Progress
from instar.model.release import EnvironmentId, EnvironmentState
from instar.operations.installed import installed_providers
from instar.operations.locks import agent_pid, is_here
from instar.operations.workspace import Workspace
from instar.providers.edge import EdgeCertificate

if TYPE_CHECKING:
    from instar.cancellation import Cancellation
    from instar.certificates.door import Door
    from instar.certificates.pem import Pair
    from instar.definition import Loaded
    from instar.providers.edge import Edge

_FILE_LIMIT_BYTES = 256 * 1024
_PATIENCE_S = 330.0  # an order of somebody else's has ended then


class EdgeDoor:
    """The door of certificates that a provider's edge is."""

    def __init__(self, edge: Edge) -> None:
        self._edge = edge
        self.withdraw = edge.withdraw
        self.served = edge.served
        self.answer_challenges = edge.answer_challenges
        self.answer_nonce = edge.answer_nonce

    def serve(self, names: Sequence[str], chain: bytes, key: bytes) -> None:
        self._edge.serve(EdgeCertificate(names=tuple(names), chain=chain.decode(), key=key.decode()))


def open_renewals(workspace: Workspace, cancellation: Cancellation | None = None) -> Renewals:
    """Return what orders and keeps the certificates of this state directory."""
    settings = workspace.machine_settings or MachineSettings()
    return Renewals(
        CertificateStore(workspace.state.certificates),
        settings.acme,
        machine=workspace.machine,
        cancellation=cancellation or workspace.cancellation,
    )


def wanted_here(workspace: Workspace) -> tuple[WantedCertificate, ...]:
    """Return the certificates that the environments of this machine need for the names that they have, or expect: who
    expects one says what it is to be shown with."""
    states = sorted(_shown_here(workspace), key=lambda one: not one.names.expected)
    return wanted_certificates(
        (one.id, replace(settings, names=_without_others(settings.names, one, states)))
        for one in states
        for settings in _settings_of(one)
    )


def _shown_here(workspace: Workspace) -> Iterator[EnvironmentState]:
    """Yield the environments here, but those for whose names something else has the certificates."""
    for state in _here(workspace):
        with contextlib.suppress(ProviderMissing):  # it is told wherever something is to be done there
            if not workspace.provider_package(state.settings.provider).traits.passes_names:
                yield state


def _without_others(names: HostNames, state: EnvironmentState, states: Iterable[EnvironmentState]) -> HostNames:
    others = {site for one in states if one.id != state.id for site in one.names.held} - set(state.names.expected)
    return names.only([site for site in names.sites if site not in others])


def settings_here(workspace: Workspace) -> Iterator[tuple[EnvironmentId, Settings]]:
    """Yield the settings of the environments here, and those that one falls back to whose rollout fails."""
    yield from ((state.id, settings) for state in _here(workspace) for settings in _settings_of(state))


def _here(workspace: Workspace) -> Iterator[EnvironmentState]:
    states, _ = workspace.ledger.readable_environments()
    yield from (state for state in states if is_here(workspace, state) and not state.destroying)


def _settings_of(state: EnvironmentState) -> Iterator[Settings]:
    yield state.settings
    if state.rollout is not None and state.rollout.stage.settings_before is not None:
        yield state.rollout.stage.settings_before


def doors_here(workspace: Workspace) -> tuple[Door, ...]:
    """Return the edges of all providers that have environments here."""
    known, _ = workspace.ledger.readable_environments()
    states = (state for state in known if is_here(workspace, state))
    edges = (provider.edge for provider in installed_providers(workspace, states).values())
    return tuple(EdgeDoor(edge) for edge in edges if edge is not None)


def find_door(workspace: Workspace, environment: EnvironmentId) -> Door | None:
    """Return the edge that shows the certificates of an environment; None where its provider has none."""
    state = workspace.ledger.find_environment(environment)
    edge = workspace.provider(state.settings.provider).edge if state is not None else None
    return EdgeDoor(edge) if edge is not None else None


def certificates(workspace: Workspace, environment: EnvironmentId | None = None) -> tuple[CertificateStatus, ...]:
    """Return what is known of each certificate that is needed here, or by one environment."""
    renewals, served = open_renewals(workspace), dict[EnvironmentId, Mapping[str, str] | None]()
    found = []
    for wanted in wanted_here(workspace):
        if environment is None or wanted.environment == environment:
            if wanted.environment not in served:
                served[wanted.environment] = _served(workspace, wanted.environment)
            found.append(renewals.status(wanted, served[wanted.environment]))
    return tuple(found)


def _served(workspace: Workspace, environment: EnvironmentId) -> Mapping[str, str] | None:
    """Return what the edge shows, by name; None where it can't be asked."""
    with contextlib.suppress(InstarError):
        door = find_door(workspace, environment)
        return door.served() if door is not None else None
    return None


def renew(
    workspace: Workspace, *, environment: EnvironmentId | None = None, name: str | None = None, force: bool = False
) -> tuple[Renewal, ...]:
    """Order the certificates of an environment, or of one name, that are missing or due, and wait for them.

    ``force``: also those that are not, and whatever the names lead to. Raises NotFound where none is needed.
    """
    chosen = [one for one in wanted_here(workspace) if one.environment == environment or name in one.names]
    if not chosen:
        raise NotFound(
            f"cannot renew the certificates of '{name or environment}': no environment here has such names of https",
            hint="instar certificates lists those there are",
        )
    renewals = open_renewals(workspace)
    return tuple(renew_one(workspace, renewals, wanted, asked=True, force=force) for wanted in chosen)


def renew_one(
    workspace: Workspace, renewals: Renewals, wanted: WantedCertificate, *, asked: bool = False, force: bool = False
) -> Renewal:
    """Order or renew one certificate if it is time, and write down what came of it. One order at a time on a machine.

    Raises Cancelled, EnvironmentBusy (not ``asked``: at once), HostError, RouterError.
    """
    path, what = workspace.state.locks / "certificates", f"the certificate of {wanted.names[0]}"
    with locks.hold(path, what, wait_s=_PATIENCE_S if asked else 0.0, inherited=False):
        renewal = renewals.renew(wanted, find_door(workspace, wanted.environment), asked=asked, force=force)
        record_renewal(workspace, renewals, renewal)
    return renewal


def record_renewal(workspace: Workspace, renewals: Renewals, renewal: Renewal) -> None:
    """Tell the ledger of a certificate that it does not know, and of the first failure in a row."""
    held, wanted = renewal.held, renewal.wanted
    if held is not None and held.fingerprint != renewal.record.recorded:
        what = CertificateHeld(
            names=held.names,
            source=wanted.source,
            issuer=held.issuer,
            fingerprint=held.fingerprint,
            not_after=held.not_after.isoformat(),
        )
        workspace.ledger.record(what, wanted.environment)
        renewals.note(wanted, recorded=held.fingerprint, warned=renewal.record.warned)
    if renewal.outcome == "failed" and renewal.record.failures == 1 and renewal.error is not None:
        failed = CertificateFailed(names=wanted.names, cause=renewal.error.message)
        workspace.ledger.record(failed, wanted.environment)


def read_files(loaded: Loaded, environment: Environment) -> Pair | None:
    """Return the certificate and the key that an environment's definition names, checked; None where it names none.

    Raises DefinitionError, at the key of the definition whose file is wrong.
    """
    if environment.tls.kind != "files" or not environment.names.secure_hosts:
        return None
    from instar.certificates.pem import Unfit, UnfitKey, read_pair
    from instar.certificates.renewals import now_utc

    chain = _content(loaded, environment, "certificate", environment.tls.certificate_file)
    key = _content(loaded, environment, "key", environment.tls.key_file)
    try:
        return read_pair(chain, key, environment.names.secure_hosts, now_utc())
    except UnfitKey as error:
        raise _wrong(loaded, environment, "key", f"cannot use '{environment.tls.key_file}': {error}") from error
    except Unfit as error:
        what = f"cannot use '{environment.tls.certificate_file}': {error}"
        raise _wrong(loaded, environment, "certificate", what) from error


def planned_change(workspace: Workspace, environment: EnvironmentId, files: Pair | None) -> PlannedChange | None:
    """Return what becomes of an environment's certificate when ``files`` are brought; None where it is that already,
    or the environment has no need of one yet."""
    if files is None:
        return None
    for one in wanted_here(workspace):
        if one.environment == environment and one.source == "files":
            held = open_renewals(workspace).record(one).certificate
            before, after = _summary(held) if held is not None else None, _summary(files.certificate)
            change = PlannedChange(kind="certificate", what="certificate", before=before, after=after)
            return change if before != after else None
    return None


def _summary(certificate: Certificate) -> str:
    return f"{certificate.fingerprint[:12]}, until {certificate.not_after:%Y-%m-%d %H:%M} UTC"


def _content(loaded: Loaded, environment: Environment, key: str, file: str | None) -> bytes:
    from instar.definition.author_files import read_author_file, why_unusable

    assert file is not None  # the definition was read
    try:
        return read_author_file(loaded.folder, file, _FILE_LIMIT_BYTES)
    except OSError as error:
        cause = why_unusable(loaded.folder, file) or f"'{file}' cannot be read: {error.strerror}"
        raise _wrong(loaded, environment, key, cause) from error


def _wrong(loaded: Loaded, environment: Environment, key: str, message: str) -> DefinitionError:
    line, column = loaded.places.find("environments", environment.name, "tls", key)
    text = f"environments.{environment.name}.tls.{key}: {message}"
    return DefinitionError([Problem(file=loaded.file, line=line, column=column, message=text)])


def bring_certificates(workspace: Workspace, environment: EnvironmentId, files: Pair | None) -> None:
    """See to the certificates that a deploy's names need: those of ``files`` and of the machine's own authority are
    there at once; others are ordered by the agent, which no deploy waits for, and it is said so.

    What can't be shown yet is told, and shown by the agent.
    """
    wanted = [one for one in wanted_here(workspace) if one.environment == environment]
    if not wanted:
        return
    renewals = open_renewals(workspace)
    try:
        for one in wanted:
            _bring(workspace, renewals, one, files)
    except InstarError as error:
        text = f"certificates are not shown yet: {error}"
        workspace.report(Progress(stage="tls", text=text, kind="warning", detail=(error.hint,) if error.hint else ()))
    _tell_orders(workspace, renewals, [one for one in wanted if one.source == "acme"])


def _bring(workspace: Workspace, renewals: Renewals, wanted: WantedCertificate, files: Pair | None) -> None:
    door = find_door(workspace, wanted.environment)
    if wanted.source == "files" and files is not None:
        renewal = renewals.put(wanted, files, door)
        if renewal.outcome == "renewed":
            text = f"{_listed(wanted.names)}: the certificate is {_summary(files.certificate)}"
            workspace.report(Progress(stage="tls", text=text))
    elif wanted.source == "internal":
        renewal = renewals.renew(wanted, door, asked=True)
        renewals.show(wanted, door)
    else:
        renewals.show(wanted, door)
        return
    record_renewal(workspace, renewals, renewal)


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _tell_orders(workspace: Workspace, renewals: Renewals, wanted: Sequence[WantedCertificate]) -> None:
    """Say of certificates that are not there yet who orders them, what is shown meanwhile, and what would keep them
    from being had."""
    missing = [name for one in wanted if not renewals.is_held(one) for name in one.names]
    if not missing:
        return
    shown = _served(workspace, wanted[0].environment) or {}
    until = "; what was shown before stays until then" if any(name in shown for name in missing) else ""
    if agent_pid(workspace) is not None:
        text = f"{_listed(missing)}: the agent orders what is missing; https answers once it is there{until}"
        workspace.report(Progress(stage="tls", text=text, detail=("follow with: instar certificates",)))
    else:
        text = f"{_listed(missing)}: no certificate yet, and no agent runs here that would order and renew it{until}"
        detail = ("instar agent does both; once, now: instar certificates renew " + missing[0],)
        workspace.report(Progress(stage="tls", text=text, kind="warning", detail=detail))
    unproven = [name for name in missing if not renewals.can_prove(name)]
    if unproven:
        text = f"{_listed(unproven)}: no command of this machine writes to the DNS, by which wildcards are proven"
        workspace.report(Progress(stage="tls", text=text, kind="warning", detail=(HINT,)))


def authority_root(workspace: Workspace) -> bytes:
    """Return the certificate of the machine's own authority, for clients to trust. Raises HostError."""
    return open_renewals(workspace).root()

"""How an instance is made, step by step; each step can be undone by ``removal.py`` from the instance's names alone."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import field
from ipaddress import IPv4Address, IPv4Network

from instar.errors import ProviderError
from instar.frozen import dataclass
from instar.host.filesystems import base_plate
from instar.host.filesystems.layers import LayerImages
from instar.host.isolation import bundle, conmon, programs, seccomp
from instar.host.isolation.bundle import Bind, Bundle, Users
from instar.host.kernel import cgroups, namespaces
from instar.host.kernel.namespaces import ID_COUNT, IdRange
from instar.host.network import network, resolver
from instar.host.network.guests import Guest
from instar.host.processes import rlimits
from instar.model.digest import Digest
from instar.model.image import Image
from instar.model.release import Instance, Release
from instar.process import Process
from instar.providers.commands import command_of, key_of_command, volumes_of
from instar.providers.local import allocations, logs, record, root
from instar.providers.local.inspection import facts, modes
from instar.providers.local.names import SECRETS, InstanceNames
from instar.providers.local.root import Owner
from instar.providers.secrets import secret_value

_HOME = "/tmp"  # noqa: S108  the only place that every command may write to
_CRAFTING = frozenset({"CAP_NET_RAW", "CAP_NET_ADMIN"})
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True, kw_only=True, slots=True)
class CreationOrder:
    """All that an instance is made from."""

    names: InstanceNames
    instance: Instance
    address: IPv4Address
    release: Release
    image: Image
    images: LayerImages
    named: Mapping[str, str] = field(default_factory=dict)  # the addresses of what it finds by name

    @property
    def user(self) -> tuple[int, int]:
        return _numbers(self.image.config.user)


def create(order: CreationOrder, subnet: IPv4Network, *, shift_owners: bool) -> None:
    """Make everything of an instance and its first process, which waits to begin.

    Raises Unsupported when ``shift_owners`` and this machine cannot; ProviderError, HostError, ComponentMissing.
    What was made by then is left for ``removal.remove``.
    """
    names = order.names
    _check_user(order, shift_owners)
    servers = tuple(map(str, resolver.of_machine().servers))
    guest = guest_of(order, mtu=network.mtu(), servers=servers)
    record.write_intent(names, order.instance, _layers(order), guest)
    logs.begin(names.log)
    root.make_room(names)
    with _namespaces(names, shift_owners) as (users, descriptor):
        namespace = namespaces.name_path(names.network)
        network.connect(names.of.table, names.of.bridge, namespace, guest, subnet)
        binds, layers = _make_root(order, users, descriptor)
    command = _checked_command(order, users)
    _write_bundle(order, users, binds, command)
    process = conmon.create(names.keeping)
    cgroups.limit_buffers(names.group, order.release.service.limits.memory_bytes)
    if users:
        rlimits.set_inside(process.pid, users.path)
    _give_output(order, process, users)
    root.hide_volumes(names)
    seals = {str(diff_id): order.images.seal(Digest(diff_id)) for diff_id, _ in layers}
    facts.write(names, process, layers, modes=modes.modes(process.pid), seals=seals, guest=guest)
    record.write_process(names, process)
    allocations.set_process(names, process)


def _layers(order: CreationOrder) -> list[Digest]:
    """Return the diff ID of each layer that is known before there is a root, topmost first; the plate is the lowest."""
    base = base_plate.layer([volume.path for volume in order.release.service.volumes])
    return [layer.diff_id for layer in (*reversed(order.image.layers), base)]


def guest_of(order: CreationOrder, *, mtu: int, servers: tuple[str, ...]) -> Guest:
    """Return what ties the instance's link."""
    return Guest(
        link=order.names.link,
        mtu=mtu,
        mac=network.mac(order.address).hex(),
        address=str(order.address),
        servers=servers,
        environment=str(order.instance.environment),
        crafts=not _CRAFTING.isdisjoint(_capabilities(order)),
    )


def ids_of(names: InstanceNames) -> IdRange:
    """Return this machine's ids that stand for those inside, where the instance has a user namespace."""
    return IdRange.number(int(names.of.id, 16) + names.serial)


def environment(order: CreationOrder) -> Mapping[str, str]:
    """Return the variables that the instance's command starts with, besides secrets."""
    service, release, instance = order.release.service, order.release, order.instance
    own = {
        "INSTAR_SERVICE": release.environment.service,
        "INSTAR_ENVIRONMENT": release.environment.name,
        "INSTAR_RELEASE": str(release.number),
        "INSTAR_INSTANCE": instance.id,
        **({"INSTAR_ROLE": instance.role} if instance.role else {}),
    }
    port = {} if service.port is None else {"PORT": str(service.port)}
    port |= {f"PORT_{name.upper().replace('-', '_')}": str(one.port) for name, one in service.ports.items()}
    return {"PATH": _PATH, "HOME": _HOME, **order.image.config.env, **port, **release.configuration.variables, **own}


def _give_output(order: CreationOrder, process: Process, users: Users | None) -> None:
    """Let the image's user open /dev/stdout and /dev/stderr by name: they are conmon's pipes, made by root."""
    uid, gid = (number + (users.ids.first if users else 0) for number in order.user)
    for descriptor in (1, 2):
        os.chown(f"/proc/{process.pid}/fd/{descriptor}", uid, gid)


@contextlib.contextmanager
def _namespaces(names: InstanceNames, shift_owners: bool) -> Iterator[tuple[Users | None, int | None]]:
    if not shift_owners:
        namespaces.make_network(names.network)
        yield None, None
        return
    ids = ids_of(names)
    with namespaces.make_user_and_network(names.network, ids, names.users) as descriptor:
        yield Users(path=names.users, ids=ids), descriptor


def _make_root(
    order: CreationOrder, users: Users | None, descriptor: int | None
) -> tuple[tuple[Bind, ...], tuple[tuple[Digest, str], ...]]:
    """Return what shows inside besides the image, and the layers with their devices."""
    names, service = order.names, order.release.service
    points = [volume.path for volume in service.volumes]
    if users:
        root.let_through(names, users)
    layers = root.mount(names, order.image, points, order.images, descriptor)
    root.check_points(names.root, (*base_plate.FOLDERS, *points), base_plate.FILES)
    uid, gid = order.user
    owner = Owner(uid=uid, gid=gid, ids=users.ids if users else None, may_differ="CAP_CHOWN" in _capabilities(order))
    binds = []
    for volume in volumes_of(order.instance, order.release):
        source = root.make_volume(names.of, order.instance.environment, volume, uid, gid)
        binds.append(root.show_volume(names, volume, source, descriptor, owner))
    return (*binds, *_files(order), *_secrets(order, users)), layers


def _files(order: CreationOrder) -> tuple[Bind, ...]:
    """Write what the image cannot know: the instance's name, its address, and whom it asks for others'."""
    names, own = order.names, f"127.0.0.1 localhost\n::1 localhost\n{order.address} {order.names.hostname}\n"
    texts = {
        "hostname": f"{names.hostname}\n",
        "hosts": own + "".join(f"{address} {host}\n" for host, address in order.named.items()),
        "resolv.conf": resolver.of_machine().text(),
    }
    for name, text in texts.items():
        (names.folder / name).write_text(text)
        (names.folder / name).chmod(0o644)
    return tuple(Bind(source=names.folder / name, target=f"/etc/{name}") for name in texts)


def _secrets(order: CreationOrder, users: Users | None) -> tuple[Bind, ...]:
    """Put the release's secrets where the image's user, and nobody else inside, can read them."""
    wanted = order.release.configuration.secrets
    if not wanted:
        return ()
    folder, state = order.names.secrets, order.names.of.state
    uid, gid = (number + (users.ids.first if users else 0) for number in order.user)
    folder.mkdir(mode=0o700)
    for name, digest in wanted.items():
        content = secret_value(state, name, digest)
        (folder / name).touch(mode=0o400)
        (folder / name).write_bytes(content)
        os.chown(folder / name, uid, gid)
    os.chown(folder, uid, gid)
    return (Bind(source=folder, target=SECRETS),)


def _checked_command(order: CreationOrder, users: Users | None) -> Sequence[str]:
    """Return the whole command, the init before it. Raises ProviderError when it could never run."""
    service, command = order.release.service, command_of(order.instance, order.release)
    names, first = order.names, users.ids.first if users else 0
    uid, gid = order.user
    workdir = programs.real_path(names.root, service.workdir)
    if workdir is None or not workdir.is_dir():
        raise ProviderError(f"the workdir '{service.workdir}' is not a folder in the image")
    execution = programs.Execution(
        root=names.root,
        search=environment(order)["PATH"],
        workdir=service.workdir,
        uid=first + uid,
        gid=first + gid,
    )
    try:
        if not any(command[0].startswith(f"{volume.path}/") for volume in service.volumes):
            programs.check(command, execution)
    except programs.Unrunnable as error:
        where = f"{key_of_command(order.instance)} in the definition"
        where = where if order.instance.command is None else "the command as it was given"
        raise ProviderError(str(error), hint=f"{where}, or what the image is made of") from None
    if order.instance.attended:  # it is begun by who has its streams
        return (base_plate.INIT, "-P")
    return (base_plate.INIT, "--", *command)


def _write_bundle(order: CreationOrder, users: Users | None, binds: Sequence[Bind], command: Sequence[str]) -> None:
    names, service = order.names, order.release.service
    uid, gid = order.user
    capabilities = _capabilities(order)
    made = Bundle(
        root=names.root,
        hostname=names.hostname,
        command=command,
        workdir=service.workdir,
        environment={**environment(order), **_secret_variables(order)},
        uid=uid,
        gid=gid,
        capabilities=capabilities,
        seccomp=seccomp.profile(capabilities),
        limits=service.limits,
        swap_is_limited=cgroups.limits_swap(),
        rlimits=None if users else rlimits.runc_form(),
        group=names.group,
        network=namespaces.name_path(names.network),
        users=users,
        tmp=service.tmp,
        shm_bytes=service.shm_bytes,
        binds=binds,
        hierarchies=cgroups.hierarchies(),
        annotations=_annotations(order),
    )
    (names.folder / "config.json").touch(0o600)
    (names.folder / "config.json").write_text(json.dumps(bundle.config(made)))


def _secret_variables(order: CreationOrder) -> Mapping[str, str]:
    given, state = order.release.configuration.secrets_as_variables, order.names.of.state
    return {name: secret_value(state, name, digest).decode() for name, digest in given.items()}


def _annotations(order: CreationOrder) -> Mapping[str, str]:
    points = [volume.path for volume in order.release.service.volumes]
    return {"instar.image": order.image.digest, "instar.plate": base_plate.layer(points).diff_id}


def _check_user(order: CreationOrder, shift_owners: bool) -> None:
    uid, gid = order.user
    if uid == 0 or gid == 0:
        raise ProviderError("the image's user is root", hint="name another in the definition: image.user")
    if shift_owners and max(uid, gid) >= ID_COUNT:
        raise ProviderError(f"the image's user has the id {max(uid, gid)}: only those below {ID_COUNT} can be shown")


def _numbers(user: str) -> tuple[int, int]:
    uid, _, gid = user.partition(":")
    try:
        return int(uid), int(gid or uid)
    except ValueError:
        raise ProviderError(f"the image's user '{user}' is not a pair of numbers") from None


def _capabilities(order: CreationOrder) -> list[str]:
    upper = [name.upper() for name in order.release.service.capabilities]
    return [name if name.startswith("CAP_") else f"CAP_{name}" for name in upper]

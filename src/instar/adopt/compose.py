"""A compose file → a draft of a definition: of one of its services, the one that is built where only one is.

Source: the Compose specification (docs.docker.com/reference/compose-file).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import yaml

from instar.adopt.dockerfile import CHECKED, carry_dockerfile, health, name_user, without_init
from instar.adopt.draft import Draft, DraftValue, Origin, looks_secret, number, scalar, time
from instar.adopt.instructions import words
from instar.definition import address_forms, forms
from instar.definition.author_files import read_author_file

_LARGEST_BYTES: Final = 1 << 20
_LARGEST_MEANT: Final = 4 * _LARGEST_BYTES
_NOT_HERE: Final = {
    "networks": "instances reach the world and nothing else: environments.ENV.network.allow",
    "secrets": "name them under environments.ENV.secrets",
    "configs": "copy them in image.files, or name them under environments.ENV.config",
    "privileged": "an instance never is",
    "cap_add": "service.capabilities names the few that there are",
    "devices": "an instance has none",
    "network_mode": "an instance has a network of its own",
    "extra_hosts": "names come from this machine's DNS",
    "sysctls": "an instance sets none",
    "env_file": "name it as environments.ENV.config_file, and take out what is secret: environments.ENV.secrets",
    "tmpfs": "/tmp and /run are in memory: service.tmp.size",  # noqa: S108
}
_SAID_OTHERWISE: Final = frozenset(
    {"build", "image", "ports", "expose", "environment", "volumes", "command", "entrypoint", "healthcheck", "user",
     "working_dir", "restart", "container_name", "depends_on", "deploy", "mem_limit", "cpus", "stop_grace_period",
     "stop_signal", "labels", "init", "tty", "stdin_open", "hostname", "logging", "read_only", "platform",
     "pull_policy", "develop", "profiles", "security_opt", "cap_drop"}
)  # fmt: skip


def carry_compose(text: str, folder: Path, name: str, file: str, wanted: str | None = None) -> Draft:
    """Return the draft of the service ``wanted``. Raises ValueError: what is wrong, or which services there are."""
    services = _services(text)
    chosen = _chosen(services, wanted)
    service = services[chosen]
    origin = Origin(where=f"{file}: services.{chosen}")
    draft = _begun(service, folder, name, origin)
    _process(draft, service, origin)
    _traffic(draft, service, origin)
    _environment(draft, service, origin)
    _volumes(draft, service, origin)
    _limits(draft, service, origin)
    for key in service:
        if key in _NOT_HERE or key not in _SAID_OTHERWISE:
            draft.leave(_at(origin, key), _NOT_HERE.get(key, "there is no key for it"))
    for other in services:
        if other != chosen:
            draft.leave(Origin(where=f"{file}: services.{other}"), "another service: a definition of its own")
    return draft


def _services(text: str) -> Mapping[str, Mapping[str, Any]]:
    data = _read(text)
    found = data.get("services") if isinstance(data, dict) else None
    if not isinstance(found, dict):
        raise ValueError("there are no 'services' in it")
    services = {str(name): service for name, service in found.items() if isinstance(service, dict)}
    if not services:
        raise ValueError("there are no 'services' in it")
    return services


def _read(text: str) -> Any:
    """Return what YAML says. Raises ValueError, also where its aliases stand for far more than is written there."""
    try:
        loader = yaml.SafeLoader(text)
        root = loader.get_single_node()
        small = root is None or _size(root, {}) <= _LARGEST_MEANT
        data = loader.construct_document(root) if root is not None and small else None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        line = getattr(getattr(error, "problem_mark", None), "line", None)
        raise ValueError(f"it is no YAML{f', in line {line + 1}' if line is not None else ''}") from error
    if not small:
        raise ValueError(f"its aliases stand for more than {_LARGEST_MEANT:,} characters")
    return data


def _size(node: yaml.Node, known: dict[int, int]) -> int:
    """Return how much a node is, in characters, where every alias is what it stands for."""
    if id(node) not in known:
        known[id(node)] = _LARGEST_MEANT + 1  # what stands for itself has no end
        if isinstance(node, yaml.ScalarNode):
            known[id(node)] = 1 + len(node.value)
        elif isinstance(node, yaml.SequenceNode):
            known[id(node)] = 1 + sum(_size(one, known) for one in node.value)
        else:
            known[id(node)] = 1 + sum(_size(key, known) + _size(value, known) for key, value in node.value)
    return known[id(node)]


def _chosen(services: Mapping[str, Mapping[str, Any]], wanted: str | None) -> str:
    if wanted is not None:
        if wanted not in services:
            raise ValueError(f"there is no service '{wanted}' in it, but {', '.join(services)}")
        return wanted
    built = [name for name, service in services.items() if "build" in service]
    if len(built) != 1 and len(services) != 1:
        raise ValueError(f"there are several services in it ({', '.join(services)}): choose one with --service")
    return built[0] if len(built) == 1 else next(iter(services))


def _begun(service: Mapping[str, Any], folder: Path, name: str, origin: Origin) -> Draft:
    """Return a draft of what the service is built from, or of its image."""
    build = service.get("build")
    if build is None:
        image = str(service.get("image", "scratch"))
        return carry_dockerfile(f"FROM {image}\n", folder, name, origin.where)
    given = {"context": build} if isinstance(build, str) else build if isinstance(build, dict) else {}
    context, file = str(given.get("context", ".")), str(given.get("dockerfile", "Dockerfile"))
    try:
        path = forms.author_path(f"{context}/{file}")
    except ValueError as error:
        raise ValueError(f"'{context}/{file}' cannot be read: {error}") from error
    if forms.author_path(context) != ".":
        raise ValueError(f"it is built in the folder '{context}': make its definition there, from its {file}")
    try:
        text = read_author_file(folder, path, _LARGEST_BYTES).decode()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"its '{path}' cannot be read") from error
    return carry_dockerfile(text, folder, name, path)


def _process(draft: Draft, service: Mapping[str, Any], origin: Origin) -> None:
    command, entrypoint = _words(service.get("command")), _words(service.get("entrypoint"))
    if entrypoint is not None:
        draft.command = (without_init([*entrypoint, *(command or ())]), _at(origin, "entrypoint"))
    elif command is not None:
        draft.command = (without_init([*draft.entrypoint, *command]), _at(origin, "command"))
    if isinstance(service.get("working_dir"), str):
        draft.workdir = DraftValue(yaml=scalar(service["working_dir"]), origin=_at(origin, "working_dir"))
    if "user" in service:
        name_user(draft, (str(service["user"]), _at(origin, "user")))
    if isinstance(service.get("stop_signal"), str):
        draft.stop["signal"] = DraftValue(yaml=scalar(service["stop_signal"]), origin=_at(origin, "stop_signal"))
    if (grace := time(str(service.get("stop_grace_period", "")))) is not None:
        draft.stop["grace"] = DraftValue(yaml=grace, origin=_at(origin, "stop_grace_period"))
    check = service.get("healthcheck")
    if isinstance(check, dict) and (asked := _check_command(check.get("test"))):
        keys = [f"{key}: {check[told]}" for told, key in CHECKED if time(str(check.get(told, "")))]
        draft.health = DraftValue(yaml=health(asked, keys), origin=_at(origin, "healthcheck"))


def _check_command(test: Any) -> Sequence[str]:
    """Return the command of a check, nothing where there is none: a text is a line of the shell."""
    kind, *command = ["CMD-SHELL", test] if isinstance(test, str) and test else _words(test) or ["NONE"]
    if kind == "CMD-SHELL":
        return ["sh", "-c", *command]
    return command if kind in ("CMD", "NONE") else [kind, *command]


def _traffic(draft: Draft, service: Mapping[str, Any], origin: Origin) -> None:
    for place, port in enumerate(_list(service.get("ports"))):
        at = _at(origin, f"ports[{place}]")
        if isinstance(port, dict):
            inside, outside = str(port.get("target", "")), str(port.get("published", ""))
        else:
            outside, _, inside = str(port).rpartition(":")
        inside = inside.partition("/")[0]
        target = number(inside)
        if target is None or not 0 < target < 65536 or str(port).endswith("/udp"):
            draft.leave(at, f"'{port}': requests come to ports of TCP")
            continue
        host, _, shown = outside.rpartition(":")
        try:
            door = DraftValue(yaml=scalar(address_forms.address(f"{host or '127.0.0.1'}:{shown or inside}")), origin=at)
        except ValueError:
            draft.leave(at, f"'{outside}': it is reached at an address of this machine's: environments.ENV.listen")
            continue
        if draft.listen is None:
            draft.port, draft.listen = (target, at), door
        elif draft.port is not None and target in (draft.port[0], *draft.further_listen):
            draft.leave(at, f"'{port}': write {door.yaml} into environments.ENV.listen too, in a list")
        else:
            draft.further_listen[target] = door
    deploy = service.get("deploy")
    replicas = deploy.get("replicas") if isinstance(deploy, dict) else None
    if isinstance(replicas, int) and 1 < replicas <= 100:
        draft.instances = DraftValue(yaml=str(replicas), origin=_at(origin, "deploy.replicas"))


def _environment(draft: Draft, service: Mapping[str, Any], origin: Origin) -> None:
    given = service.get("environment")
    pairs = (
        [(str(name), value) for name, value in given.items()]
        if isinstance(given, dict)
        else [
            (name, value if told else None) for name, told, value in (str(one).partition("=") for one in _list(given))
        ]
    )
    for name, value in pairs:
        at = _at(origin, f"environment.{name}")
        if looks_secret(name):
            draft.leave(
                at, f"it looks like a secret: environments.dev.secrets: {{{name}: {{file: secrets/{name.lower()}}}}}"
            )
        elif value is None or "$" in str(value):
            draft.leave(at, "its value comes from elsewhere: write it under environments.ENV.config")
        else:
            try:
                text = {True: "true", False: "false"}.get(value, value) if isinstance(value, bool) else value
                draft.config[forms.variable(name)] = DraftValue(yaml=scalar(str(text)), origin=at)
            except ValueError:
                draft.leave(at, f"'{name}' is no name of a variable")


def _volumes(draft: Draft, service: Mapping[str, Any], origin: Origin) -> None:
    for place, volume in enumerate(_list(service.get("volumes"))):
        at = _at(origin, f"volumes[{place}]")
        if isinstance(volume, dict):
            kind, source, path = (
                str(volume.get("type", "volume")),
                str(volume.get("source", "")),
                str(volume.get("target", "")),
            )
        else:
            source, _, rest = str(volume).partition(":")
            path, kind = rest.partition(":")[0] or source, "volume"
        if kind != "volume" or source.startswith((".", "/", "~")):
            draft.leave(at, f"'{source}' is this machine's: copy it in image.files, or keep what changes in a volume")
        else:
            try:
                draft.volumes.setdefault(forms.inside(path), at)
            except ValueError as error:
                draft.leave(at, f"'{path}': {error}")


def _limits(draft: Draft, service: Mapping[str, Any], origin: Origin) -> None:
    limits: Any = service.get("deploy")
    for key in ("resources", "limits"):
        limits = limits.get(key) if isinstance(limits, dict) else None
    limits = limits if isinstance(limits, dict) else {}
    memory = str(limits.get("memory", service.get("mem_limit", ""))).upper().removesuffix("B")
    if memory:
        try:
            forms.size(memory)
            draft.limits["memory"] = DraftValue(yaml=scalar(memory), origin=_at(origin, "memory"))
        except ValueError:
            draft.leave(_at(origin, "memory"), "name it under service.limits, as 256M or 1G")
    cpus = str(limits.get("cpus", service.get("cpus", "")))
    if re.fullmatch(r"[0-9]{1,4}(\.[0-9]{1,2})?", cpus) and float(cpus) >= 0.01:
        draft.limits["cpus"] = DraftValue(yaml=cpus, origin=_at(origin, "cpus"))


def _words(given: Any) -> Sequence[str] | None:
    if isinstance(given, str):
        try:
            return words(given) or None
        except ValueError:
            return ["sh", "-c", given]
    return [str(word) for word in given] if isinstance(given, list) and given else None


def _list(given: Any) -> Iterator[Any]:
    yield from given if isinstance(given, list) else ()


def _at(origin: Origin, key: str) -> Origin:
    return Origin(where=f"{origin.where}.{key}")

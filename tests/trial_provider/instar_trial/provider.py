"""Processes of this machine, each at a loopback address of its own; nothing keeps them from one another."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from instar import durable
from instar.errors import ProviderError, Refused, RouterError
from instar.host.processes import processes
from instar.model.component import Component
from instar.model.declaration import key
from instar.model.definition import Service
from instar.model.environment import Check, Settings
from instar.model.image import Image
from instar.model.release import EnvironmentId, Instance, Release, Served
from instar.model.requests import Requests
from instar.process import Process
from instar.providers.base import Observation, Observed, Probe, Roles, Traffic
from instar.providers.commands import command_of
from instar.providers.package import Site
from instar.providers.router_plan import RouterPlan
from instar.providers.traits import Traits
from instar.providers.unfit import Unfit, path_of
from instar.waiting import Deadline, until

HERE = Path(__file__).parent
SOON_S = 5.0


@dataclass(frozen=True, kw_only=True, slots=True)
class TrialSettings:
    most: int = field(default=4, metadata=key("How many instances an environment may have here.", low=1, high=50))


class TrialPackage:
    """Implements instar.providers.package.ProviderPackage."""

    traits = Traits(needs_root=False, heaviest_weight=100)
    settings = TrialSettings

    def unfit(
        self, environment: EnvironmentId, settings: Settings, services: Mapping[str, Service], known: Any
    ) -> Iterator[Unfit]:
        most = settings.provider_settings.get("most", TrialSettings().most)
        count = sum(settings.of_role(role).instances for role in services)
        if count > most:
            told = f"it runs {count} instances, and 'trial.most' is {most}"
            yield Unfit(path=(*path_of(environment), "instances"), told=told)

    def components(self) -> tuple[Component, ...]:
        return (Component(name="trial", purpose="runs processes", found=sys.version.split()[0], get=""),)

    def warnings(self, site: Site) -> tuple[str, ...]:
        return ()

    def open(self, site: Site) -> TrialProvider:
        return TrialProvider(site.state.root / "trial")


@dataclass(frozen=True, kw_only=True, slots=True)
class TrialRouted:
    weight: int
    up: bool
    sessions: int | None = None
    served: Served | None = None


class TrialProvider:
    """Implements instar.providers.base.Provider, without any facet."""

    traits = TrialPackage.traits
    inspects = ends = changes = shells = runs = previews = counts = log_files = measures = maintains = members = None
    edge = layers = sweeps = networks = volumes = None

    def __init__(self, root: Path) -> None:
        self._root = root

    def preflight(
        self, environment: EnvironmentId, settings: Settings, service: Service, *, launching: bool, others: Roles = None
    ) -> tuple[str, ...]:
        has_volumes = any(one.volumes for one in (service, *(others or {}).values()))
        if has_volumes or settings.network.allow or settings.preview or settings.accept_proxy:
            raise Refused("cannot run this: trial has no volumes, networks, previews or PROXY protocol")
        if settings.requests != Requests() or settings.compression:
            raise Refused("cannot run this: trial neither reads requests nor compresses answers")
        for address in set(settings.listen) - set(self._listening(environment)):
            host, port = address.rsplit(":", 1)
            try:
                socket.create_server((host, int(port))).close()
            except OSError as error:
                raise RouterError(f"cannot listen on '{address}': {os.strerror(error.errno or 0)}") from error
        return ()

    def layout(self, settings: Settings, service: Service) -> tuple[int, ...]:
        return (1,) * settings.instances

    def publish(self, environment: EnvironmentId, image: Image) -> None:
        """What runs here is of this machine; an image only says that it was released."""

    def observe(self, environment: EnvironmentId, groups: Sequence[Instance]) -> Observation:
        router = _read(self._router(environment))
        running = bool(router) and self._proxy(environment) is not None
        targets = router.get("targets", {}).items()
        routed = {name: TrialRouted(weight=one["weight"], up=_accepts(one)) for name, one in targets}
        traffic = Traffic(running=running, plan=router.get("plan") if running else None, groups=routed)
        return Observation(groups=tuple(self._seen(one) for one in groups), traffic=traffic)

    def create(self, group: Instance, release: Release, image: Image) -> None:
        command, stop = command_of(group, release), release.service.stop
        if shutil.which(command[0]) is None:
            raise ProviderError(f"cannot start '{group.id}': command '{command[0]}' is not on this machine")
        if release.configuration.secrets:
            raise ProviderError(f"cannot start '{group.id}': trial keeps no secrets")
        port = str(release.service.port or 0)
        own = {"ADDRESS": _address(group), "PORT": port, "RELEASE": str(release.number)}
        words = [str(stop.grace_ms / 1000), str(int(signal.Signals[stop.signal])), *command]
        _write(self._folder(group) / "order", {"words": words, "env": {**release.configuration.config, **own}})

    def start(self, group: Instance) -> None:
        folder, log = self._folder(group), self._log(group.id)
        order = _read(folder / "order")
        if order and not (folder / "pid").exists():
            log.parent.mkdir(exist_ok=True)
            _begin([HERE / "keeper.py", folder, log, *order["words"]], order["env"])
            until((folder / "pid").exists, Deadline.after(SOON_S))

    def destroy(self, group: Instance, release: Release) -> bool:
        child, keeper = self._processes(group)
        with contextlib.suppress(FileNotFoundError):
            (self._folder(group) / "ending").touch()
            if keeper is not None and processes.send(keeper, signal.SIGTERM):
                return False  # it ends the child within its grace, and removes what is left
        if child is not None:
            processes.send(child, signal.SIGKILL)
        shutil.rmtree(self._folder(group), ignore_errors=True)
        return True

    def expose(self, release: Release, groups: Sequence[Instance], plan: RouterPlan | None = None) -> None:
        environment, file = release.environment, self._router(release.environment)
        router = _read(file)
        new = {one.id: {"address": _address(one), "port": release.service.port, "weight": 0} for one in groups}
        wanted = {} if plan is None else {"plan": plan.fingerprint, "listen": list(plan.listen)}
        router = {**router, **wanted, "targets": {**new, **router.get("targets", {})}}
        _write(file, router)
        if self._proxy(environment) is None:
            file.with_suffix(".open").unlink(missing_ok=True)
            _write(file.with_suffix(".process"), {"pid": _begin([HERE / "proxy.py", file], {})})
        if not until(lambda: set(self._listening(environment)) == set(router["listen"]), Deadline.after(SOON_S)):
            raise RouterError(f"cannot listen on {', '.join(router['listen'])}: the proxy does not")

    def route(self, environment: EnvironmentId, weights: Mapping[str, int]) -> float:
        began, router = time.monotonic(), _read(self._router(environment))
        known = router.get("targets", {})
        if weights.keys() - known.keys():
            raise RouterError(f"cannot route to {', '.join(weights.keys() - known.keys())}: it is not exposed")
        targets = {name: {**one, "weight": weights.get(name, 0)} for name, one in known.items()}
        if router:
            _write(self._router(environment), {**router, "targets": targets})
        return time.monotonic() - began

    def withdraw(self, environment: EnvironmentId, names: Sequence[str]) -> None:
        if router := _read(self._router(environment)):
            targets = {name: one for name, one in router["targets"].items() if name not in names}
            _write(self._router(environment), {**router, "targets": targets})

    def ask(self, group: Instance, release: Release, check: Check | None = None) -> Probe:
        asked: Any = check or release.service.health
        if self._seen(group).state != "running":
            return Probe(healthy=False, cause="it does not run")
        try:
            if asked.kind == "http":
                return _get(_address(group), release.service.port or 0, asked)
            if asked.kind == "tcp":
                socket.create_connection((_address(group), release.service.port or 0), asked.timeout_ms / 1000).close()
            if asked.kind == "command":
                subprocess.run(asked.command, check=True, capture_output=True, timeout=asked.timeout_ms / 1000)
        except (OSError, http.client.HTTPException, subprocess.SubprocessError) as error:
            return Probe(healthy=False, cause=str(error), refused=isinstance(error, ConnectionRefusedError))
        return Probe(healthy=asked.kind != "url", cause="trial asks nobody else")

    def log_lines(self, instance_id: str, *, last: int | None = None, follow: bool = False) -> Iterator[str]:
        lines = _text(self._log(instance_id)).splitlines()
        yield from lines if last is None else lines[max(0, len(lines) - last) :]

    def has_log(self, instance_id: str) -> bool:
        return self._log(instance_id).exists()

    def forget_logs(self, names: Sequence[str]) -> None:
        for name in names:
            self._log(name).unlink(missing_ok=True)

    def close(self, environment: EnvironmentId) -> None:
        proxy = self._proxy(environment)
        self._router(environment).unlink(missing_ok=True)
        if proxy is not None and not processes.wait(proxy, SOON_S):
            processes.send(proxy, signal.SIGKILL)

    def forget(self, environment: EnvironmentId, names: Sequence[str], *, volumes: bool) -> None:
        self.forget_logs(names)
        shutil.rmtree(self._router(environment).parent, ignore_errors=True)

    def _router(self, environment: EnvironmentId) -> Path:
        return self._root / environment.service / environment.name / "router.json"

    def _folder(self, group: Instance) -> Path:
        return self._root / "instances" / group.id

    def _log(self, name: str) -> Path:
        return self._root / "logs" / name

    def _seen(self, group: Instance) -> Observed:
        folder, (child, keeper) = self._folder(group), self._processes(group)
        if not folder.exists() or (folder / "ending").exists():
            return Observed(id=group.id, state="ending" if folder.exists() else "absent")
        status = _text(folder / "exit")
        if not status and (child is not None or keeper is not None):  # a keeper writes down how it ended
            return Observed(id=group.id, state="running", address=_address(group))
        state: Literal["created", "stopped"] = "stopped" if (folder / "pid").exists() else "created"
        return Observed(id=group.id, state=state, exit_status=int(status) if status else None)

    def _processes(self, group: Instance) -> tuple[Process | None, Process | None]:
        """Return the instance's process and its keeper, each None when it is gone."""
        pids = (_text(self._folder(group) / "pid") or "0 0").split()
        child, keeper = (processes.identify(int(pid)) for pid in pids)
        return (None if _text(self._folder(group) / "exit") else child), keeper

    def _proxy(self, environment: EnvironmentId) -> Process | None:
        return processes.identify(_read(self._router(environment).with_suffix(".process")).get("pid", 0))

    def _listening(self, environment: EnvironmentId) -> Sequence[str]:
        return () if self._proxy(environment) is None else _text(self._router(environment).with_suffix(".open")).split()


def _address(group: Instance) -> str:
    return f"127.77.{group.serial >> 8 & 255}.{group.serial & 255}"


def _get(address: str, port: int, asked: Any) -> Probe:
    with contextlib.closing(http.client.HTTPConnection(address, port, timeout=asked.timeout_ms / 1000)) as connection:
        connection.request("GET", asked.path, headers={"Host": asked.host or "localhost"})
        answer = connection.getresponse()
        wanted = getattr(asked, "status", None)
        well = answer.status == wanted if wanted else 200 <= answer.status < 400
        well = well and (getattr(asked, "contains", None) or "").encode() in answer.read()
    return Probe(healthy=well, cause="" if well else f"GET {asked.path} answered {answer.status}")


def _accepts(target: Mapping[str, Any]) -> bool:
    with contextlib.suppress(OSError):
        socket.create_connection((target["address"], target["port"]), 0.2).close()
        return True
    return False


def _begin(words: Sequence[object], env: Mapping[str, str]) -> int:
    quiet: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.DEVNULL)
    command, env = [sys.executable, "-I", *map(str, words)], {"PATH": os.environ["PATH"], **env}
    return subprocess.Popen(command, env=env, start_new_session=True, **quiet).pid


def _read(file: Path) -> dict[str, Any]:
    return dict(json.loads(_text(file) or "{}"))


def _text(file: Path) -> str:
    return file.read_text() if file.exists() else ""


def _write(file: Path, value: object) -> None:
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    durable.write(file, json.dumps(value).encode(), mode=0o600)


TRIAL = TrialPackage()

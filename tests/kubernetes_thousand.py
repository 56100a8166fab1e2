"""A thousand pods of ten environments, and passes of the agent over them: how long each takes, and what it asks of the
API."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import yaml
from clusters.simulated import SELECTED

from instar.control.snapshot import Snapshot
from instar.drift.check import Checked
from instar.model.certificate import CertificateStatus
from instar.model.progress import Progress, Report
from instar.model.release import EnvironmentId
from instar.model.usage import Measured
from instar.operations.agent import Agent
from instar.operations.destroy import Staying
from instar.providers.kubernetes.provider import KubernetesProvider
from instar.workspace import MachineWorkspace
from kubernetes_author import Author

ENVIRONMENTS = [f"e{number}" for number in range(10)]
PODS = 100  # of each, which is the most that one has
NODES = 12


@contextlib.contextmanager
def released(author: Author) -> Iterator[None]:
    """Have a release of each environment, whose pods are on simulated nodes."""
    author.write(instances=PODS, rollout="{strategy: blue-green}", deadline="150s", section=SELECTED)
    file = author.folder / "instar.yaml"
    document = yaml.safe_load(file.read_text())
    one = document["environments"].pop("prod")
    for name in ENVIRONMENTS:
        document["environments"][name] = {**one, "listen": {"http": [f"{name}.{author.host}"]}}
    file.write_text(json.dumps(document))
    begun: list[str] = []
    try:
        for name in ENVIRONMENTS:
            begun.append(name)
            author.instar("deploy", name, "--image", author.image)
        yield
    finally:
        for name in begun:
            author.instar("destroy", name, "--yes")


@dataclass(frozen=True, kw_only=True)
class Pass:
    """``calls``: to the API. ``checked``: so many environments were looked at for drift too, with these findings."""

    seconds: float
    calls: int
    checked: int
    findings: int


@dataclass
class Listener:
    """Implements instar.operations.agent.AgentListener."""

    checks: list[Checked] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    wants_usage: bool = False

    def saw(self, snapshot: Snapshot, seconds: float) -> None: ...

    def measured(self, environment: EnvironmentId, measured: Measured) -> None: ...

    def unlogged(self, environment: EnvironmentId, lost: Mapping[str, int]) -> None: ...

    def checked(self, checked: Checked) -> None:
        self.checks.append(checked)

    def failed(self, environment: EnvironmentId, error: Exception) -> None:
        self.failures.append(f"{environment}: {error}")

    def forgot(self, environment: EnvironmentId) -> None: ...

    def destroyed(self, environment: EnvironmentId, staying: Staying) -> None: ...

    def certified(self, found: Sequence[CertificateStatus]) -> None: ...

    def beat(self) -> None: ...

    def report_for(self, environment: EnvironmentId) -> Report:
        return self._report

    def _report(self, progress: Progress) -> None: ...


def passes(author: Author, number: int) -> list[Pass]:
    """Have an agent pass so often over all of the author's environments; its first pass looks for drift too."""
    workspace = MachineWorkspace(author.namespace.environ, lambda progress: None)
    provider = workspace.provider("kubernetes")
    assert isinstance(provider, KubernetesProvider)
    listener = Listener()
    agent = Agent(workspace, listener)
    api, _, _ = provider.cluster.reach(next(iter(workspace.ledger.environments())).id)  # the same for all
    made: list[Pass] = []
    for _ in range(number):
        listener.checks.clear()
        calls, began = api.calls, time.monotonic()
        assert agent.once(), listener.failures
        seconds, checks = time.monotonic() - began, listener.checks
        findings = sum(len(one.findings) for one in checks)
        made.append(Pass(seconds=seconds, calls=api.calls - calls, checked=len(checks), findings=findings))
    workspace.ledger.close()
    return made

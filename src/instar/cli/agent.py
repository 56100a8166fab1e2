"""The command that keeps everything as it is wanted, in the background."""

from __future__ import annotations

import functools
import os
import shlex
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from instar.cli import crashes
from instar.cli.options import open_workspace
from instar.cli.screen import say
from instar.errors import InstarError, UsageError

_LOGGED = {
    "rollout-failed": "error",
    "rollout-done": "info",
    "taken-over": "warning",
    "name-adopted": "warning",
    "taint": "warning",
    "router-restored": "warning",
    "network-restored": "warning",
    "destroyed": "info",
    "certificate-failed": "warning",
    "certificate-expiring": "error",
    "notification-lost": "warning",
}

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Mapping, Sequence

    from instar.control.snapshot import Snapshot
    from instar.drift.check import Checked
    from instar.model.certificate import CertificateStatus
    from instar.model.events import Event
    from instar.model.machine import MachineSettings, NoticeSettings
    from instar.model.progress import Report
    from instar.model.release import EnvironmentId
    from instar.model.usage import Measured
    from instar.operations.destroy import Staying
    from instar.reading.door import ReadersDoor
    from instar.telemetry.log import Log
    from instar.telemetry.metrics import Metrics
    from instar.telemetry.notices import Channel
    from instar.telemetry.server import MetricsServer
    from instar.workspace import MachineWorkspace


@click.command()
@click.option("--once", is_flag=True, help="Make a single pass over all environments, then end; exit 1 if one failed.")
@click.option("--metrics", metavar="ADDRESS", help="Serve Prometheus metrics there, such as 127.0.0.1:9464.")
@click.option(
    "--notify-command",
    metavar="COMMAND",
    help="Run this program (not by a shell) with each notice, as JSON, on its standard input.",
)
@click.option("--notify-url", metavar="URL", help="POST each notice, as JSON, to this address.")
@click.option(
    "--check",
    type=click.FloatRange(0.5, 3600),
    metavar="SECONDS",
    help="Between two checks of an environment (5 by default); an instance that ends is noticed at once.",
)
@click.option("--log-format", type=click.Choice(["text", "json"]), help="Form of the log (text by default).")
@click.option("--unit", is_flag=True, help="Print a systemd unit for this command, and end.")
def agent(
    once: bool,
    metrics: str | None,
    notify_command: str | None,
    notify_url: str | None,
    check: float | None,
    log_format: Literal["text", "json"] | None,
    unit: bool,
) -> int:
    """Keep every environment of this machine as its ledger says, until it is ended.

    It replaces instances that ended, no longer answer or are too old, the new one first; restores everything after a
    reboot; restarts routers; carries on with rollouts whose command is gone; orders and renews certificates. It stops
    and raises an alarm when replacements keep failing. Ending it, or upgrading it, touches nothing that runs.

    Of the agents that share a ledger one leads: it alone acts on environments that no machine has alone, a cluster's.

    What no option says is taken from the machine's own file (/etc/instar/config.yaml, docs/machine.md), as it is when
    the agent starts, and again on SIGHUP (systemctl reload), unless there is something wrong in it.
    """
    if unit:
        chosen = {"--metrics": metrics, "--notify-command": notify_command, "--notify-url": notify_url}
        chosen |= {"--check": f"{check:g}" if check is not None else None, "--log-format": log_format}
        say(_unit([word for name, value in chosen.items() if value is not None for word in (name, value)]))
        return 0
    from instar.cli.reload import hold_back

    if not once:
        hold_back()
    from instar.model.machine import MachineSettings
    from instar.operations.agent import Agent
    from instar.telemetry import systemd
    from instar.telemetry.log import Log
    from instar.telemetry.metrics import Metrics

    workspace = open_workspace()
    settings = workspace.machine_settings or MachineSettings()
    log_format = log_format or settings.agent.log_format
    log = Log(log_format, sys.stdout, stamped=not systemd.under_a_journal(os.environ))
    workspace.actor, workspace.report = "agent", log.report_for(None)
    seen = Metrics()
    served_at = metrics or settings.agent.metrics
    server = _server(served_at, seen) if served_at else None
    reporter = AgentReporter(log, seen, server)
    work = Agent(workspace, reporter, check_s=check or settings.agent.check_ms / 1000)
    if once:
        return 0 if work.once() else 1
    _work(workspace, work, reporter, _channels(notify_command, notify_url, settings.notices), served_at=metrics)
    return 0


class AgentReporter:
    """Implements operations.agent.AgentListener: tells logs, metrics and whoever asks for /healthz."""

    def __init__(self, log: Log, metrics: Metrics, server: MetricsServer | None) -> None:
        self.log, self.metrics, self.server = log, metrics, server
        self.each_round: Callable[[], None] = lambda: None
        self.door: ReadersDoor | None = None
        self.keep_drift: Callable[[Checked], None] = lambda checked: None
        self.began = datetime.now(UTC)

    def saw(self, snapshot: Snapshot, seconds: float) -> None:
        self.metrics.saw(snapshot, seconds)

    @property
    def wants_usage(self) -> bool:
        return self.server is not None

    def measured(self, environment: EnvironmentId, measured: Measured) -> None:
        self.metrics.measured(environment, measured)

    def unlogged(self, environment: EnvironmentId, lost: Mapping[str, int]) -> None:
        self.metrics.unlogged(environment, lost)

    def checked(self, checked: Checked) -> None:
        self.metrics.checked(checked)
        self.keep_drift(checked)

    def certified(self, found: Sequence[CertificateStatus]) -> None:
        self.metrics.certified(found)

    def happened(self, event: Event) -> None:
        """Log what came of the agent's work: what it did is logged as it does it."""
        from instar.views.events import sentence

        self.metrics.happened(event)
        level = _LOGGED.get(event.kind)
        if level is not None and event.at >= self.began:
            self.log.say(level, event.kind, sentence(event), event.environment)

    def destroyed(self, environment: EnvironmentId, staying: Staying) -> None:
        from instar.views.volumes import staying_lines

        for line in staying_lines(environment, staying.volumes, staying.snapshots):
            self.log.say("warning", "stays", line, environment)

    def beat(self) -> None:
        from instar.telemetry import systemd

        systemd.notify(os.environ, "WATCHDOG=1")
        self.each_round()
        if self.door is not None:
            self.door.look()
        if self.server is not None:
            self.server.beat()

    def failed(self, environment: EnvironmentId, error: Exception) -> None:
        self.metrics.failed(environment)
        if not isinstance(error, InstarError | OSError):
            self.log.say("error", "failed", crashes.summary(error), environment)
            return
        hint = f" → {error.hint}" if isinstance(error, InstarError) and error.hint else ""
        self.log.say("error", "failed", f"{error}{hint}", environment)

    def forgot(self, environment: EnvironmentId) -> None:
        self.metrics.forgot(environment)
        self.log.say("info", "gone", "the environment was destroyed", environment)

    def report_for(self, environment: EnvironmentId) -> Report:
        return self.log.report_for(environment)


def _work(
    workspace: MachineWorkspace,
    work: object,
    reporter: AgentReporter,
    channels: list[Channel],
    *,
    served_at: str | None,
) -> None:
    """Run the agent with its notices until a signal ends it. ``served_at``: what an option says of metrics."""
    from instar.cli.reload import Reload
    from instar.cli.shipping import Shipping
    from instar.operations.agent import Agent
    from instar.telemetry import systemd
    from instar.telemetry.notices import Notices
    from instar.views.events import notice_json

    assert isinstance(work, Agent)
    notices = Notices(
        workspace.ledger,
        workspace.state.notified,
        channels,
        machine=workspace.machine,
        render=notice_json,
        heard=reporter.happened,
        told=reporter.metrics.noticed,
    )
    readers, shipping = _readers(workspace, reporter), Shipping(workspace, reporter.log, reporter.metrics, channels)
    reload = Reload(os.environ, reporter.log, work.stop, functools.partial(_next_listening, reporter.server, served_at))
    reload.install()
    reporter.each_round = reload.look

    def begun() -> None:
        notices.start()
        readers.open()
        shipping.start()
        reporter.log.say("info", "begun", f"process {os.getpid()} looks after {workspace.state.root}")
        systemd.notify(os.environ, "READY=1")

    work.run(begun)
    if not reload.accepted:
        systemd.notify(os.environ, "STOPPING=1")
    notices.stop()
    readers.close()
    shipping.stop()
    if reporter.server is not None:
        reporter.server.close()
    if reload.accepted:
        reload.start_again()
    reporter.log.say("info", "ended", "instances keep running")


def _readers(workspace: MachineWorkspace, reporter: AgentReporter) -> ReadersDoor:
    """Return the door for those who may only look, as the machine's file has it."""
    from instar.reading.door import ReadersDoor
    from instar.reading.last_drift import keep_last

    settings = workspace.machine_settings
    group = settings.readers.group if settings is not None else None
    door = ReadersDoor(workspace.state.readers_socket, group, os.environ, workspace.report)
    reporter.door = door
    if group is not None:
        reporter.keep_drift = functools.partial(keep_last, workspace)
    return door


def _server(address: str, metrics: Metrics) -> MetricsServer:
    from instar.cli.reload import handed_on
    from instar.router.address import parse
    from instar.telemetry.server import MetricsServer, listen_at

    where = parse(address)
    listening = handed_on(os.environ, where.host, where.port) or listen_at(where.host, where.port)
    return MetricsServer(listening, metrics.text)


def _next_listening(
    server: MetricsServer | None, option: str | None, settings: MachineSettings | None
) -> socket.socket | None:
    """Return the socket for the metrics of an agent that is started with ``settings``; None where it makes its own: it
    serves none, or where only this one's is in its way."""
    from instar.router.address import Address, parse
    from instar.telemetry.server import listen_at

    served_at = option or (settings.agent.metrics if settings else None)
    if not served_at:
        return None
    where = parse(served_at)
    if server is not None:
        mine = Address.of(server.host, server.port)
        if mine.overlaps(where):
            return server.listening_still() if mine == where else None
    return listen_at(where.host, where.port)


def _channels(command: str | None, url: str | None, settings: NoticeSettings) -> list[Channel]:
    """Return where notices go: what the options name, and else what the machine's file has."""
    from instar.telemetry.notices import Command, Webhook

    words = shlex.split(command) if command is not None else settings.command
    if command is not None and words and "/" in words[0]:
        words = [str(Path(words[0]).absolute()), *words[1:]]  # it is run elsewhere
    if command is not None and not words:
        raise UsageError("cannot notify with an empty command")
    url = url if url is not None else settings.url
    return [*([Command(words)] if words else []), *([Webhook(url)] if url is not None else [])]


def _unit(words: list[str]) -> str:
    """Return the unit that ships with this package, for this very command, these options and this state directory."""
    from instar import operations

    text = Path(operations.__path__[0], "instar-agent.service").read_text()
    command = " ".join(_quoted(word) for word in (str(Path(sys.argv[0]).absolute()), "agent", *words))
    named = [f"{name}={os.environ[name]}" for name in ("INSTAR_HOME", "INSTAR_CONFIG") if os.environ.get(name)]
    environment = "".join(f"Environment={_quoted(word, dollar='$')}\n" for word in named)
    return text.replace("@COMMAND@", command).replace("@ENVIRONMENT@\n", environment).rstrip()


def _quoted(word: str, *, dollar: str = "$$") -> str:
    """Return ``word`` as a unit has it; only in a command is a ``$`` written twice. Raises UsageError.

    Source: systemd.service(5), Command lines; systemd.exec(5), Environment; systemd.unit(5), Specifiers.
    """
    if not word.isprintable():
        raise UsageError(
            f"cannot write a unit for {word!r}: it has a character that would end a line of it, or cannot be seen"
        )
    plain = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", dollar)
    return plain if plain and plain == "".join(plain.split()) and "'" not in plain else f'"{plain}"'

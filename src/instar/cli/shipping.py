"""The agent's shipping of logs: what becomes of it is told as the agent tells of all its work."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime

from instar.operations.shipping import shipper
from instar.shipping.progress import Shipped
from instar.shipping.shipper import Happening
from instar.telemetry.channels import Channel
from instar.telemetry.log import Log
from instar.telemetry.metrics import Metrics, ShippedFigures
from instar.telemetry.resending import Resending
from instar.workspace import MachineWorkspace


class Shipping:
    """Goes on as long as the agent works, where the machine's file has logs go anywhere."""

    def __init__(self, workspace: MachineWorkspace, log: Log, metrics: Metrics, channels: Sequence[Channel]) -> None:
        self._machine, self._log, self._metrics = workspace.machine, log, metrics
        self._notices = Resending(channels, lambda cause: log.say("warning", "logs", cause))
        self._shipper = shipper(workspace, self._told, self._heard)

    def start(self) -> None:
        if self._shipper is not None:
            self._notices.start()
            self._shipper.start()

    def stop(self) -> None:
        if self._shipper is not None:
            self._shipper.stop()
            self._notices.stop()

    def _told(self, happening: Happening, text: str) -> None:
        """Log it; of lines that are lost a notice is sent."""
        self._log.say("info" if happening == "again" else "warning", "logs", text)
        if happening == "lost":
            notice = {"at": datetime.now(UTC).isoformat(), "kind": "logs-lost", "machine": self._machine, "text": text}
            self._notices.tell(json.dumps(notice).encode())

    def _heard(self, shipped: Shipped) -> None:
        figures = ShippedFigures(
            lines=shipped.lines,
            lost_bytes=shipped.lost_bytes,
            behind_bytes=shipped.behind_bytes,
            fails=shipped.cause is not None,
        )
        self._metrics.shipped(figures)

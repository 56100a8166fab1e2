"""What a machine's own file, /etc/instar/config.yaml, says: what is the machine's business and no definition's."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from instar.model.declaration import key

# A key reads as a paragraph: its type, its default, its words.
# fmt: off


@dataclass(frozen=True, kw_only=True, slots=True)
class AgentSettings:
    """What ``instar agent`` does unless its options say otherwise. ``metrics``: where they are served, if anywhere."""

    metrics: str | None = field(default=None, metadata=key(
        "Where Prometheus metrics are served, such as 127.0.0.1:9464.", "address", default_about="nowhere"))
    check_ms: int = field(default=5_000, metadata=key(
        "From one look at an environment to the next; what ends is seen at once.", low=500, high=3_600_000))
    log_format: Literal["text", "json"] = field(default="text", metadata=key("Form of the agent's log."))


@dataclass(frozen=True, kw_only=True, slots=True)
class NoticeSettings:
    """Where the agent's notices go. ``command``: the words of a program's call, () for none."""

    command: tuple[str, ...] = field(default=(), metadata=key(
        "The program, and its arguments, that gets each notice, as JSON, on its standard input. No shell is in "
        "between.", "command"))
    url: str | None = field(default=None, metadata=key("Where each notice is sent, as JSON, by POST.", "webhook"))


@dataclass(frozen=True, kw_only=True, slots=True)
class MachineSettings:
    """``ledger``: the address of the database that this machine shares with others, None where it has its own file."""

    ledger: str | None = field(default=None, metadata=key(
        "The database that holds the ledger where several machines or people share it; INSTAR_LEDGER wins.", "database",
        default_about="a file of this machine"))
    agent: AgentSettings = field(default=AgentSettings(), metadata=key(
        "What `instar agent` does unless its options say otherwise."))
    notices: NoticeSettings = field(default=NoticeSettings(), metadata=key(
        "Where the agent's notices go unless its options say otherwise."))

"""The facet of a provider whose machine has an edge: one door for all environments, by the names of requests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import Protocol

from instar.frozen import dataclass
from instar.model.drift import Finding
from instar.model.host_names import HostNames
from instar.model.release import EnvironmentId


@dataclass(frozen=True, kw_only=True, slots=True)
class EdgeCertificate:
    """What the edge shows for ``names`` ("shop.example", "*.shop.example"): a certificate for all of them, followed by
    those that lead to whom clients trust, and its key, unencrypted, both PEM."""

    names: tuple[str, ...]
    chain: str
    key: str = field(repr=False)


class PassedNames(Protocol):
    """What an edge passes to an environment."""

    @property
    def names(self) -> HostNames: ...
    @property
    def expected(self) -> tuple[str, ...]: ...


class Edge(Protocol):
    """The machine's one door for requests by name, which passes each to the router of the environment that has it.

    Every call is idempotent, takes effect without a reload, and outlives a restart of whatever runs: files first.
    Where no edge runs (no environment has names), the files alone are changed, and the next one reads them.
    """

    def serve(self, certificate: EdgeCertificate) -> None:
        """Show ``certificate`` to whoever asks for one of its names from now on, in place of what was shown for these.

        Raises RouterError, and what was shown is shown on, when it is none, or its key is not its own.
        """

    def withdraw(self, names: Sequence[str]) -> None:
        """Show no certificate for these names any more: their handshakes are refused."""

    def served(self) -> Mapping[str, str]:
        """Return which certificate is really shown for each name, by the SHA-256 fingerprint of its first one (64
        hexadecimal digits); none where no edge runs."""

    def answer_challenges(self, thumbprint: str | None) -> None:
        """Answer http-01 challenges for every name here with ``thumbprint``, that of the account's key; None: 404."""

    def answer_nonce(self, nonce: str | None) -> None:
        """Answer ``GET /.well-known/instar/NONCE`` on the port of http, whatever the name, with ``nonce``; None: 404.
        So it can be seen whether a name leads here."""

    def passed(self, environment: EnvironmentId) -> PassedNames | None:
        """Return what is passed to an environment; None for nothing, and where no edge runs as it should."""

    def inspect(self) -> tuple[Finding, ...]:
        """Return what of the edge is not as it was made; of one that doesn't run, that it doesn't."""

"""The command that the machine's own file names, which puts a value into the DNS and takes it away again (dns-01).

It is called as ``COMMAND… set|remove NAME VALUE``, by no shell. NAME is that of a TXT record, such as
``_acme-challenge.shop.example``, VALUE what it has to hold. It ends with 0 once that is under way; the authority looks
after ``wait``. The same may be set, and removed, more than once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from instar import process
from instar.cancellation import Cancellation
from instar.errors import Cancelled, CertificateError, CommandFailed, ComponentMissing
from instar.model.machine import DnsSettings
from instar.model.printable import printable

HINT: Final = "name one in the machine's file: acme: {dns: {command: [/path/of/it]}} (docs/certificates.md)"
_LINES = 5
_WIDTH = 200


class DnsCommand:
    """Values in the DNS, by way of a command."""

    def __init__(self, settings: DnsSettings, cancellation: Cancellation) -> None:
        self._settings = settings
        self._cancellation = cancellation

    def set(self, name: str, value: str) -> None:
        """Raises CertificateError with the command's exit status and the last that it printed, Cancelled."""
        self._run("set", name, value)
        self._cancellation.pause(self._settings.wait_ms / 1000)
        self._cancellation.check()

    def remove(self, name: str, value: str) -> None:
        self._run("remove", name, value)

    def _run(self, what: str, name: str, value: str) -> None:
        words = (*self._settings.command, what, name, value)
        timeout_s = self._settings.timeout_ms / 1000
        try:
            process.run_bounded(words, timeout_s=timeout_s, cancelled=lambda: self._cancellation.requested)
        except (CommandFailed, ComponentMissing, OSError) as error:
            if self._cancellation.requested:
                raise Cancelled("interrupted") from error
            raise _failure(what, name, words, error) from error


def _failure(what: str, name: str, words: Sequence[str], error: Exception) -> CertificateError:
    lines: list[str] = []
    cause = str(error)
    if isinstance(error, CommandFailed):
        lines = error.output.splitlines()[-_LINES:]
        status = "no end within its time" if error.timed_out else f"exit status {error.returncode}"
        cause = f"'{words[0]}' failed: {status}"
    said = "; it printed last: " + " | ".join(printable(line)[:_WIDTH] for line in lines) if lines else ""
    return CertificateError(
        f"cannot {what} '{name}' in the DNS: {cause}{said}",
        hint="the machine's file names this command (acme.dns.command); try it by hand with the words "
        f"{what} {name} VALUE",
    )

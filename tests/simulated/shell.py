"""A shell of the simulated machine: it knows three words, and says what it was told."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass

from instar.model.survey import Seen, Survey, Writable
from instar.providers.base import Streams


@dataclass(kw_only=True)
class SimulatedShell:
    """Implements ``providers.base.Shell``. ``touch FILE`` makes an empty file, ``exit N`` ends with that status, all
    else is printed as it is. A shell on a terminal prints "$ " and ends well."""

    runs: Callable[[], bool]
    files: dict[str, Seen]
    status: int | None = None
    closed: bool = False

    def survey(self) -> Survey | None:
        return Survey(places={"/tmp": Writable(files=dict(self.files))}) if self.runs() else None

    def begin(self, command: str | None, streams: Streams, *, term: str) -> None:
        self.status = 0
        match (command or "").split():
            case ["touch", name]:
                self.files[name] = Seen(mode=0o100644)
            case ["exit", number]:
                self.status = int(number)
            case _:
                os.write(streams.stdout, b"$ " if command is None else f"{command}\n".encode())

    def ended(self) -> int | None:
        return None

    def wait(self) -> int | None:
        return self.status

    def close(self) -> None:
        self.closed = True


@dataclass(kw_only=True)
class SimulatedAttachment:
    """Implements ``providers.facets.Attachment``: the command has ended at once, with that ``status``."""

    status: int
    closed: bool = False

    def resized(self) -> None: ...

    def wait(self) -> int:
        return self.status

    def end(self) -> None: ...

    def close(self) -> None:
        self.closed = True

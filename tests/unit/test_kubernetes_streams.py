"""How a command in a pod ended, and what its writable places held: read from what somebody else has said."""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpcore2
import pytest
from httpx2.websockets import WebSocketSession
from wsproto.frame_protocol import FrameProtocol

from instar.errors import ProviderError, ProviderUnavailable
from instar.model.survey import Seen, differences
from instar.providers.base import Streams
from instar.providers.kubernetes.streams import RemoteCommand, exit_status
from instar.providers.kubernetes.survey import SCRIPT, read_survey, survey_of, unknown


def told(**more: Any) -> bytes:
    return json.dumps({"status": "Failure", **more}).encode()


def test_a_status_tells_how_a_command_ended() -> None:
    assert exit_status(b'{"status": "Success"}', "look") == 0
    causes = [{"reason": "ExitCode", "message": "7"}]
    assert exit_status(told(reason="NonZeroExitCode", details={"causes": causes}), "look") == 7


@pytest.mark.parametrize(
    "data", [b"", b"[]", b"{}", told(reason="NonZeroExitCode"), told(reason="NonZeroExitCode", details={"causes": []})]
)
def test_what_is_no_status_is_an_error_and_no_exit(data: bytes) -> None:
    with pytest.raises(ProviderError, match="not told in words that are known"):
        exit_status(data, "look")


def test_an_image_without_a_shell_is_told_from_other_failures() -> None:
    said = 'exec: "/bin/sh": stat /bin/sh: no such file or directory'
    with pytest.raises(ProviderError) as caught:
        exit_status(told(reason="InternalError", message=said), "open a shell in 'a'")
    assert "--toolbox" in (caught.value.hint or "")
    with pytest.raises(ProviderError) as other:
        exit_status(told(reason="InternalError", message="container not found"), "open a shell in 'a'")
    assert other.value.hint is None


class Wire(httpcore2.NetworkStream):
    """What a pod says, at once, and then no more; nothing can be sent where it is ``broken``."""

    def __init__(self, *messages: bytes, broken: bool = False) -> None:
        frames = FrameProtocol(client=False, extensions=[])
        self._said = [bytes(frames.send_data(one, fin=True)) for one in messages]
        self._broken = broken
        self._closed = threading.Event()

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._said.pop(0) if self._said else self._silence()

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        if self._broken:
            raise httpcore2.WriteError

    def close(self) -> None:
        self._closed.set()

    def _silence(self) -> bytes:
        self._closed.wait()
        return b""


@contextlib.contextmanager
def commanded(wire: Wire) -> Iterator[tuple[RemoteCommand, int]]:
    """Yield a command that reads nothing, and where what it prints is read."""
    reading, writing = os.pipe()
    with Path(os.devnull).open("rb") as nothing, os.fdopen(reading, "rb", buffering=0) as out:
        streams = Streams(stdin=nothing.fileno(), stdout=writing, stderr=writing)
        with contextlib.closing(RemoteCommand(WebSocketSession(wire), streams, "look")) as command:
            os.close(writing)
            yield command, out.fileno()


def is_ended(command: RemoteCommand) -> bool:
    return bool(select.select([command.ended()], [], [], 5)[0])


def test_a_command_that_ends_before_all_of_it_has_begun_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    start = threading.Thread.start

    def start_and_lag(self: threading.Thread) -> None:
        start(self)
        self.join(0.2)  # as on a busy machine

    monkeypatch.setattr(threading.Thread, "start", start_and_lag)
    with commanded(Wire(b"\x01hello", b'\x03{"status": "Success"}')) as (command, out):
        assert is_ended(command)
        assert (command.wait(), os.read(out, 10)) == (0, b"hello")


def test_a_connection_that_cannot_be_sent_by_is_lost_and_nobody_waits_for_it() -> None:
    with commanded(Wire(broken=True)) as (command, _):
        assert is_ended(command)
        with pytest.raises(ProviderUnavailable, match="cannot look to its end: the connection was lost"):
            command.wait()


def test_a_survey_is_read_line_by_line() -> None:
    before = read_survey("F 41ed 40 1700000000 /tmp\nP 1 100 httpd -f -p 8080 \n")
    after = read_survey("F 41ed 60 1700000009 /tmp\nF 81a4 3 1700000009 /tmp/a b\nP 1 100 httpd\nP 9 200 nc -l \n")
    assert before.whole and before.processes == {(1, 100): "httpd -f -p 8080"}
    assert after.places["/"].files["/tmp/a b"] == Seen(mode=0o100644, size_bytes=3, mtime_ns=1_700_000_009 * 10**9)
    assert [(one.kind, one.name) for one in differences(before, after)] == [("added", "/tmp/a b"), ("started", "nc -l")]


@pytest.mark.parametrize("line", ["F zz 1 1 /tmp/a", "F 81a4", "P x y z", "what is this"])
def test_lines_of_no_known_form_make_it_no_whole_survey(line: str) -> None:
    assert not read_survey(f"P 1 1 a\n{line}\n").whole
    assert not unknown("nobody looked").whole


def test_what_could_not_be_looked_at_is_said_with_why() -> None:
    assert survey_of(0, "P 1 100 httpd\n").unknown is None
    assert survey_of(3, "find\n").unknown == "its image has no 'find'"
    assert survey_of(3, "a thing that somebody says").unknown == "the look at its files ended with exit status 3"
    assert not survey_of(126, "").whole


def test_the_script_says_what_an_image_lacks(tmp_path: Path) -> None:
    for tool in ("find", "stat"):
        (tmp_path / tool).symlink_to("/bin/true")
    ended = subprocess.run(
        ["/bin/sh", "-c", SCRIPT], env={"PATH": str(tmp_path)}, capture_output=True, text=True, check=False
    )
    assert survey_of(ended.returncode, ended.stdout).unknown == "its image has no 'head'"

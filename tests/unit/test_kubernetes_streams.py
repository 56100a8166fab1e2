"""How a command in a pod ended, and what its writable places held: read from what somebody else has said."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from instar.errors import ProviderError
from instar.model.survey import Seen, differences
from instar.providers.kubernetes.streams import exit_status
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

"""How events of the hour of need read in a line."""

from __future__ import annotations

from instar.views.events import WIDTH, detail_line


def test_taints_and_shells_read_as_sentences() -> None:
    due = "2026-01-01T10:20:30.000000Z"
    taint = {"instance": "web-dev-1-1", "taint": "person", "why": "odd", "due_at": due, "isolated": False}
    assert detail_line("taint", taint) == "web-dev-1-1 (by hand, due 10:20:30): odd"
    assert detail_line("taint", {**taint, "taint": "shell", "isolated": True}) == (
        "web-dev-1-1 (a shell, isolated, due 10:20:30): odd"
    )
    shell = {"instance": "web-dev-1-1", "why": "look", "recording": "r"}
    assert detail_line("shell", shell) == "web-dev-1-1: look"
    assert detail_line("shell", {**shell, "command": "id", "toolbox": True}) == (
        "web-dev-1-1: look, with the toolbox, runs 'id'"
    )
    ended = {"instance": "web-dev-1-1", "exit_status": 3, "seconds": 2.5, "different": "1 difference"}
    assert detail_line("shell-ended", ended) == "web-dev-1-1 exit status 3 after 2.5 s, 1 difference"
    assert detail_line("shell-ended", {**ended, "exit_status": None, "cause": "interrupted"}) == (
        "web-dev-1-1 ended after 2.5 s, interrupted, 1 difference"
    )


def test_what_has_no_words_shows_its_fields() -> None:
    assert detail_line("launch", {"a": 1, "b": None, "c": {"d": 1}, "image": "sha256:1f"}) == "a=1 image=1f"
    assert detail_line("taint", {"instance": "of another version"}) == "instance=of another version"
    assert len(detail_line("launch", {"a": "x" * 200})) == WIDTH


def test_an_instance_s_end_says_how() -> None:
    ended = {"instance": "web-dev-1-1", "reason": "exited", "why": "exit status 3", "exit_status": 3}
    assert detail_line("ended", ended) == "web-dev-1-1: exit status 3"
    starved = {**ended, "reason": "out-of-memory", "why": "killed: out of memory", "exit_status": 137}
    assert detail_line("ended", starved) == "web-dev-1-1: killed: out of memory (exit status 137)"
    stopped = {"instance": "web-dev-1-1", "reason": "instar", "why": "it is no longer needed"}
    assert detail_line("stopping", stopped) == "web-dev-1-1: it is no longer needed"

"""Who looked into pods, as an API server's audit log has it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from instar.errors import ProviderError
from instar.providers.kubernetes import audit


def event(number: int, pod: str = "shop-1", how: str = "exec", code: int = 101, **more: Any) -> str:
    """Return a line as an API server writes one."""
    return (
        json.dumps(
            {
                "kind": "Event",
                "apiVersion": "audit.k8s.io/v1",
                "level": "Metadata",
                "auditID": f"id-{number}",
                "stage": "ResponseStarted",
                "verb": "get",
                "user": {"username": "alice", "groups": ["system:authenticated"]},
                "userAgent": "kubectl/v1.31.0 (linux/amd64) kubernetes/9edcffc",
                "objectRef": {
                    "resource": "pods",
                    "namespace": "shop",
                    "name": pod,
                    "apiVersion": "v1",
                    "subresource": how,
                },
                "responseStatus": {"metadata": {}, "code": code},
                "requestReceivedTimestamp": f"2026-11-28T10:00:0{number}.000000Z",
                **more,
            },
            separators=(",", ":"),
        )
        + "\n"
    )


def looks(log: Path, pod: str = "shop-1") -> list[str]:
    return [one.how for one in audit.looks_into(log, "shop", pod)]


def test_who_was_let_into_a_pod_is_told(tmp_path: Path) -> None:
    log = tmp_path / "audit.log"
    log.write_text(event(1) + event(1, stage="ResponseComplete") + event(2, "other") + event(3, how="attach"))
    found = audit.looks_into(log, "shop", "shop-1")
    assert [one.how for one in found] == ["exec", "attach"], "one request is one look, however many events it has"
    assert audit.told(found) == "exec by 'alice' with kubectl/v1.31.0 at 2026-11-28T10:00:01.000000Z (and 1 more)"
    assert audit.looks_into(log, "staging", "shop-1") == ()


def test_who_was_refused_and_who_only_read_are_no_lookers(tmp_path: Path) -> None:
    log = tmp_path / "audit.log"
    log.write_text(event(1, code=403) + event(2, how="log") + event(3, stage="RequestReceived"))
    assert looks(log) == []


def test_only_what_is_new_is_read_and_half_a_line_is_waited_for(tmp_path: Path) -> None:
    log, line = tmp_path / "audit.log", event(1)
    log.write_text(line[:100])
    assert looks(log) == []
    log.write_text(line)
    assert looks(log) == ["exec"]
    with log.open("a") as file:
        file.write(event(2, how="portforward"))
    assert looks(log) == ["exec", "portforward"]


def test_a_log_that_was_begun_anew_is_read_from_its_beginning_and_what_was_seen_is_known_still(tmp_path: Path) -> None:
    log = tmp_path / "audit.log"
    log.write_text(event(1) + "x" * 1000 + "\n")
    assert looks(log) == ["exec"]
    log.rename(tmp_path / "audit-1.log")
    log.write_text(event(2, how="attach"))
    assert looks(log) == ["exec", "attach"]
    log.write_text("")
    assert looks(log) == ["exec", "attach"]
    with log.open("a") as file:
        file.write(event(3, how="ephemeralcontainers", code=200))
    assert looks(log) == ["exec", "attach", "ephemeralcontainers"]


@pytest.mark.parametrize(
    "line",
    [
        "",
        "{",
        '{"subresource":"exec"}',
        '["subresource":"exec"]',
        '["subresource","exec"]',
        '{"objectRef":{"subresource":"exec","resource":"pods"}}',
        '{"objectRef":"subresource":"exec"}',
        '{"auditID":1,"user":5,"objectRef":{"resource":"pods","subresource":"exec","namespace":"shop","name":"shop-1"}}',
        '{"auditID":1,"responseStatus":[1],"objectRef":{"resource":"pods","subresource":"exec"}}',
        '{"auditID":1,"responseStatus":{"code":1e999},"objectRef":{"resource":"pods","subresource":"exec"}}',
        "[" * 100_000 + '"subresource":"exec"',
        "\x00\xff",
    ],
)
def test_a_line_that_is_no_event_is_passed_over(tmp_path: Path, line: str) -> None:
    log = tmp_path / "audit.log"
    log.write_text(line + "\n" + event(1))
    assert looks(log) == ["exec"]


def test_what_is_shown_is_short_and_printable(tmp_path: Path) -> None:
    log = tmp_path / "audit.log"
    log.write_text(event(1, user={"username": "\x1b[31m" + "a" * 10_000}, userAgent=None))
    text = audit.told(audit.looks_into(log, "shop", "shop-1"))
    assert "\x1b" not in text and len(text) < 500


def test_a_log_that_is_not_there_or_no_file_is_told(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for name in ("none", "pipe", "."):
        with pytest.raises(ProviderError, match="cannot read the audit log") as caught:
            looks(tmp_path / name)
        assert "kubernetes.audit_log" in (caught.value.hint or "")

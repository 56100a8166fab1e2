"""A unit has nothing in it that was not asked for: what would end a line of it is refused."""

from __future__ import annotations

import pytest

from instar.cli.agent import _quoted, _unit
from instar.errors import UsageError


@pytest.mark.parametrize(
    "word", ["a\nExecStartPre=/bin/sh", "a\r", "a\x00", "a\x1b[31m", "a\u2028b", "a\x85b", "\udcff", "a\tb"]
)
def test_control_characters_are_refused(word: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="cannot write a unit for"):
        _unit(["--notify-command", word])
    if "\0" not in word:
        monkeypatch.setenv("INSTAR_HOME", f"/var/lib/{word}")
        with pytest.raises(UsageError, match="cannot write a unit for"):
            _unit([])


def test_words_are_quoted_as_systemd_reads_them(monkeypatch: pytest.MonkeyPatch) -> None:
    assert _quoted("plain") == "plain"
    assert _quoted('page "on call" 5% $HOME') == '"page \\"on call\\" 5%% $$HOME"'
    monkeypatch.setenv("INSTAR_HOME", "/srv/a $b")
    assert 'Environment="INSTAR_HOME=/srv/a $b"' in _unit([]), "in Environment a $ means nothing"

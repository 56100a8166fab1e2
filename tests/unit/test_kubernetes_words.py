"""Words of a definition that a cluster refuses are told of before anything is made; all others are let through."""

from __future__ import annotations

import pytest

from instar.errors import DefinitionError, Refused
from instar.providers.kubernetes import preflight
from instar.providers.kubernetes.route import _duration, _milliseconds
from kubernetes_words import AMISS, BAD, GOOD, Written


def require_fit(written: Written) -> None:
    preflight.require_fit(written.environment, written.settings, {"": written.configuration.service}, {})


@pytest.mark.parametrize("label", GOOD)
def test_what_a_cluster_takes_is_let_through(label: str) -> None:
    written = Written.of(GOOD[label])
    require_fit(written)
    assert written.objects()


@pytest.mark.parametrize("label", [*BAD, *AMISS])
def test_what_a_cluster_refuses_or_would_mix_up_is_refused_before(label: str) -> None:
    told, changed = {**BAD, **AMISS}[label]
    with pytest.raises(Refused) as raised:
        require_fit(Written.of(changed))
    assert told in raised.value.message


@pytest.mark.parametrize("key", ["config: {%s: x}", "secrets: {%s: {file: t}}"])
def test_a_name_that_no_cluster_has_as_a_key_is_none_anywhere(key: str) -> None:
    with pytest.raises(DefinitionError, match="it is too long"):
        Written.of({"more": key % ("A" * 254)})


@pytest.mark.parametrize(
    ("milliseconds", "text"),
    [(1, "1ms"), (60_000, "1m"), (99_999, "1m39s999ms"), (100_000, "1m40s"), (576 * 3_600_000, "576h")],
)
def test_a_time_has_no_number_of_more_than_five_digits(milliseconds: int, text: str) -> None:
    assert _duration(milliseconds) == text
    assert _milliseconds(text) == milliseconds

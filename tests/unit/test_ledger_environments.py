"""Which places may be side by side."""

from pathlib import Path

import pytest

from instar.errors import Refused
from instar.ledger import Ledger
from instar.model.release import Place, Settings


def test_two_places_whose_instances_would_have_the_same_names_are_refused(tmp_path: Path) -> None:
    with Ledger(tmp_path / "instar.db", actor="tester") as ledger:
        ledger.save_settings(Place(service="a-b", environment="c"), Settings())
        with pytest.raises(Refused, match=r"'a/b-c'.*'a-b/c'"):
            ledger.save_settings(Place(service="a", environment="b-c"), Settings())
        ledger.save_settings(Place(service="a", environment="c"), Settings())
        assert [str(state.place) for state in ledger.environments()] == ["a/c", "a-b/c"]

"""Which variables an instance is expected to have: secrets among them are known by their digests."""

from instar.model.keyed import keyed_digest
from instar.providers.local.inspection.surface import expected_variables

KEY = b"k" * 32


def test_a_secret_is_what_it_was_given_as_or_its_name_alone_is_told() -> None:
    given = {"TOKEN": keyed_digest(KEY, "é=1".encode()), "EMPTY": keyed_digest(KEY, b"")}
    as_given = {"TOKEN=é=1", "EMPTY=", "OTHER=x"}
    assert expected_variables(given, KEY, as_given) == {"TOKEN=é=1", "EMPTY="}
    for changed in ({"TOKEN=other"}, {"TOKEN="}, {"TOKEN_2=é=1"}, set()):
        assert expected_variables(given, KEY, {*changed, "EMPTY="}) == {"TOKEN", "EMPTY="}
    assert expected_variables(given, KEY, {"TOKEN=é=1", "EMPTY=x"}) == {"TOKEN=é=1", "EMPTY"}

"""A value of a secret is read by who has the key, in the place where it was put, and nowhere else."""

import hmac

import pytest

from instar.operations.encryption import decrypt, encrypt

KEY, OTHER = bytes(range(32)), bytes(range(1, 33))


@pytest.mark.parametrize("value", [b"", b"s3cret", bytes(range(256)) * 4096])
def test_what_was_encrypted_is_read_again_and_never_looks_the_same_twice(value: bytes) -> None:
    text = encrypt(KEY, value, b"here")
    assert decrypt(KEY, text, b"here") == value
    assert text != encrypt(KEY, value, b"here")
    assert text.isascii() and b"s3cret" not in text.encode()


def test_another_key_another_place_and_damage_are_found() -> None:
    text = encrypt(KEY, b"s3cret", b"here")
    other = "A" if text[-8] != "A" else "B"  # not the last one, of whose bits some say nothing
    for key, wrong, place in (
        (OTHER, text, b"here"),
        (KEY, text, b"there"),
        (KEY, f"{text[:-8]}{other}{text[-7:]}", b"here"),
        (KEY, text[:20], b"here"),
        (KEY, "1:", b"here"),
        (KEY, "1:%%%", b"here"),
    ):
        with pytest.raises(ValueError, match="it is not what was put in there") as caught:
            decrypt(key, wrong, place)
        assert "s3cret" not in str(caught.value)
    with pytest.raises(ValueError, match="a form that is not known here"):
        decrypt(KEY, text.replace("1:", "2:"), b"here")


def test_an_author_cannot_have_the_key_of_values_made_as_a_digest() -> None:
    """What is a secret is the author's choice, and its digest can be seen."""
    from instar.operations import encryption

    assert encryption._derived(KEY) != hmac.digest(KEY, encryption._DERIVED, "sha256")

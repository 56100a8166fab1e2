"""Pushes beside a registry's failures, and who is told a password: the registry that it is for, and nobody else."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from registry_kit import Door, at, of_blobs

from instar.errors import FetchError, InstarError
from instar.model.image import Image
from instar.model.machine import RegistrySettings
from instar.registry.push import Push
from instar.store import Store
from lying_registry import Handler, LyingRegistry, serving

pytestmark = pytest.mark.root


# pushes


def test_a_push_whose_blob_is_cut_off_goes_on_where_it_was(registry: LyingRegistry, store: Store, image: Image) -> None:
    registry.blobs.clear()
    registry.manifests.clear()
    cut = [True]

    def cutting(handler: Handler) -> bool:
        if handler.command != "PATCH" or len(handler.registry.uploads) < 1:
            return False
        if cut and int(handler.headers["Content-Range"].partition("-")[0]) >= 1 << 20:
            cut.clear()
            name = handler.path.partition("?")[0].rpartition("/")[2]
            handler.registry.uploads[name] += handler.rfile.read(100_000)
            handler.cut()
            return True
        return False

    registry.lie = cutting
    what, door = at(registry.host, image), Door()
    client = door.registries._client(what.repository, actions="pull,push")
    Push(image.digest, client, store, door.cancellation, door.told.append, chunk_bytes=1 << 20).run()
    spans = [one.headers["Content-Range"] for one in registry.asked if one.method == "PATCH"]
    assert f"{(1 << 20) + 100_000}-" in "".join(span[: span.index("-") + 1] for span in spans)
    assert set(registry.blobs) == {image.config_digest, *(layer.digest for layer in image.layers)}


@pytest.mark.parametrize("method", ["POST", "PUT", "HEAD"])
def test_a_push_beside_passing_failures(method: str, registry: LyingRegistry, store: Store, image: Image) -> None:
    registry.blobs.clear()
    registry.manifests.clear()
    left = [3]

    def failing(handler: Handler) -> bool:
        if handler.command != method or not left[0]:
            return False
        left[0] -= 1
        handler.body()
        handler.cut() if left[0] == 1 else handler.reply(503)
        return True

    registry.lie = failing
    Door().registries.push(store, image.digest, at(registry.host, image).repository)
    assert set(registry.blobs) == {image.config_digest, *(layer.digest for layer in image.layers)}
    assert registry.manifests[image.digest] == store.manifest(image.digest)


def test_a_registry_that_takes_a_manifest_and_loses_it(registry: LyingRegistry, store: Store, image: Image) -> None:
    registry.manifests.clear()

    def losing(handler: Handler) -> bool:
        if handler.command != "PUT" or "/manifests/" not in handler.path:
            return False
        handler.body()
        handler.reply(201)
        return True

    registry.lie = losing
    with pytest.raises(FetchError) as caught:
        Door().registries.push(store, image.digest, at(registry.host, image).repository)
    assert "does not have it" in caught.value.message


def forgetting(image: Image, times: int) -> Callable[[Handler], bool]:
    """Have a registry forget a layer that it has, so often, when it is given the manifest, and say so."""
    left = [times]

    def lie(handler: Handler) -> bool:
        if handler.command != "PUT" or "/manifests/" not in handler.path or not left[0]:
            return False
        left[0] -= 1
        handler.body()
        handler.registry.blobs.pop(image.layers[0].digest)
        handler.reply(400, b'{"errors": [{"code": "DIGEST_INVALID"}, {"code": "MANIFEST_BLOB_UNKNOWN"}]}')
        return True

    return lie


def test_a_registry_that_lacks_a_layer_when_it_gets_the_manifest_is_brought_it_again(
    registry: LyingRegistry, store: Store, image: Image
) -> None:
    """Another push was bringing it, and it was half there; or it was removed, since no image named it yet."""
    registry.manifests.clear()
    registry.lie = forgetting(image, 2)
    door = Door()
    done = door.registries.push(store, image.digest, at(registry.host, image).repository)
    assert registry.manifests[image.digest] == store.manifest(image.digest)
    assert set(registry.blobs) == {image.config_digest, *(layer.digest for layer in image.layers)}
    layer_bytes = len(registry.blobs[image.layers[0].digest])
    assert (done.moved, done.moved_bytes) == (2, 2 * layer_bytes)


def test_a_registry_that_never_knows_a_layer(registry: LyingRegistry, store: Store, image: Image) -> None:
    registry.lie = forgetting(image, 99)
    with pytest.raises(FetchError) as caught:
        Door().registries.push(store, image.digest, at(registry.host, image).repository)
    assert "MANIFEST_BLOB_UNKNOWN): it does not know a part that it has taken, or said that it has" in str(caught.value)
    assert caught.value.hint is not None and "try again" not in caught.value.hint
    assert len(registry.methods("PUT")) < 20


def test_a_registry_that_does_not_take_a_blob(registry: LyingRegistry, store: Store, image: Image) -> None:
    registry.blobs.clear()

    def refusing(handler: Handler) -> bool:
        if handler.command != "PUT":
            return False
        handler.body()
        handler.reply(400, b'{"errors": [{"code": "DIGEST_INVALID"}]}')
        return True

    registry.lie = refusing
    with pytest.raises(FetchError) as caught:
        Door().registries.push(store, image.digest, at(registry.host, image).repository)
    assert "DIGEST_INVALID" in caught.value.message and not registry.methods("PUT")[0].endswith("manifests")


# other hosts, and who is told what

LOGIN = {"auth": base64.b64encode(b"ann:s3cret-word").decode()}


def logged_in(tmp_path: Path, host: str, **more: object) -> dict[str, str]:
    (tmp_path / "auth.json").write_text(json.dumps({"auths": {host: LOGIN}, **more}))
    return {"REGISTRY_AUTH_FILE": str(tmp_path / "auth.json")}


def basic(handler: Handler) -> bool:
    if handler.headers.get("Authorization") == f"Basic {LOGIN['auth']}":
        return False
    handler.body()
    handler.reply(401, WWW_Authenticate='Basic realm="here"')
    return True


def test_another_host_gets_no_password(registry: LyingRegistry, other: Store, image: Image, tmp_path: Path) -> None:
    with serving(LyingRegistry("127.0.0.2")) as elsewhere:
        elsewhere.blobs = registry.blobs

        def sending(handler: Handler) -> bool:
            if basic(handler):
                return True
            if "/blobs/" not in handler.path:
                return False
            handler.reply(307, Location=f"http://{elsewhere.host}{handler.path}?signature=very-secret")
            return True

        registry.lie = sending
        door = Door(environ=logged_in(tmp_path, registry.host))
        door.registries.pull(other, at(registry.host, image))
        assert other.image(image.digest) == image
        assert elsewhere.asked and not any("Authorization" in one.headers for one in elsewhere.asked)
        assert any("Authorization" in one.headers for one in registry.asked)

        elsewhere.blobs = {}
        with pytest.raises(InstarError) as caught:
            door.registries.pull(Store(tmp_path / "none"), at(registry.host, image))
        assert "very-secret" not in f"{caught.value.message} {caught.value.hint}"


def test_bytes_go_to_another_host_without_the_password(
    registry: LyingRegistry, store: Store, image: Image, tmp_path: Path
) -> None:
    """Where a registry has its blobs uploaded elsewhere, what is sent there is the bytes alone."""
    registry.manifests.clear()
    with serving(LyingRegistry("127.0.0.2")) as elsewhere:
        registry.blobs.clear()
        elsewhere.blobs = registry.blobs

        def sending(handler: Handler) -> bool:
            if basic(handler):
                return True
            if handler.command != "POST":
                return False
            name = f"upload-{next(elsewhere.numbers)}"
            elsewhere.uploads[name] = bytearray()
            handler.reply(202, Location=f"http://{elsewhere.host}/v2/x/blobs/uploads/{name}?signature=very-secret")
            return True

        registry.lie = sending
        door = Door({elsewhere.host: RegistrySettings(http=True)}, logged_in(tmp_path, registry.host))
        door.registries.push(store, image.digest, at(registry.host, image).repository)
        assert registry.manifests[image.digest] == store.manifest(image.digest)
        assert elsewhere.methods("PUT") and not any("Authorization" in one.headers for one in elsewhere.asked)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_what_is_pushed_is_not_sent_on(status: int, registry: LyingRegistry, store: Store, image: Image) -> None:
    """A redirect of what is written has no meaning that is sure: the registry tells addresses of uploads instead."""
    with serving(LyingRegistry("127.0.0.2")) as elsewhere:

        def sending(handler: Handler) -> bool:
            if handler.command not in ("PUT", "POST"):
                return False
            handler.body()
            handler.reply(status, Location=f"http://{elsewhere.host}{handler.path}")
            return True

        registry.blobs.clear()
        registry.lie = sending
        with pytest.raises(FetchError, match=f"it answers {status}") as caught:
            Door().registries.push(store, image.digest, at(registry.host, image).repository)
        assert caught.value.retry_after_s is None and not elsewhere.asked


def test_nobody_is_sent_to_a_host_without_tls(registry: LyingRegistry, other: Store, image: Image) -> None:
    for location in (
        "http://registry.example/v2/x",
        "ftp://127.0.0.1/x",
        "file:///etc/passwd",
        "http://ann:word@127.0.0.1/",
        "http://[::1",
        "//",
    ):
        registry.lie = of_blobs(lambda handler, digest, data: handler.reply(307, Location=location), largest=False)  # noqa: B023
        with pytest.raises(FetchError) as caught:
            Door().registries.pull(other, at(registry.host, image))
        assert caught.value.retry_after_s is None
    registry.lie = of_blobs(lambda handler, digest, data: handler.reply(307, Location=handler.path), largest=False)
    with pytest.raises(FetchError) as caught:
        Door().registries.pull(other, at(registry.host, image))
    assert "on and on" in caught.value.message


def bearer(realm: str, token: str) -> Callable[[Handler], bool]:
    """A registry that wants a token of ``realm``."""

    def wanting(handler: Handler) -> bool:
        if handler.path.startswith("/token"):
            mine = handler.headers.get("Authorization") == f"Basic {LOGIN['auth']}"
            handler.reply(200 if mine else 401, json.dumps({"token": token}).encode())
            return True
        if handler.headers.get("Authorization") == f"Bearer {token}":
            return False
        handler.body()
        handler.reply(401, WWW_Authenticate=f'Bearer realm="{realm}",service="it"')
        return True

    return wanting


def test_tokens_are_made_for_what_is_asked(
    registry: LyingRegistry, store: Store, other: Store, image: Image, tmp_path: Path
) -> None:
    registry.lie = bearer(f"http://{registry.host}/token", "t0ken-word")
    door = Door(environ=logged_in(tmp_path, registry.host))
    door.registries.pull(other, at(registry.host, image))
    assert other.image(image.digest) == image
    registry.blobs.clear()
    door.registries.push(store, image.digest, at(registry.host, image).repository)
    asked = [path for path in registry.methods("GET") if path.startswith("/token")]
    assert "scope=repository%3Ateam%2Fshop%3Apull" in asked[0] and "service=it" in asked[0]
    assert asked[1].endswith("pull%2Cpush") and len(asked) == 2


def test_a_token_that_ends_meanwhile_is_made_anew(registry: LyingRegistry, other: Store, image: Image) -> None:
    made_tokens: list[str] = []

    def ending(handler: Handler) -> bool:
        if handler.path.startswith("/token"):
            made_tokens.append(f"token-{len(made_tokens)}")
            handler.reply(200, json.dumps({"access_token": made_tokens[-1]}).encode())
            return True
        if made_tokens and handler.headers.get("Authorization") == f"Bearer {made_tokens[-1]}":
            if "/blobs/" in handler.path and len(made_tokens) == 1:
                made_tokens.append("ended")
            else:
                return False
        handler.reply(401, WWW_Authenticate=f'Bearer realm="http://{handler.registry.host}/token"')
        return True

    registry.lie = ending
    Door().registries.pull(other, at(registry.host, image))
    assert other.image(image.digest) == image


def test_a_strange_token_server_gets_no_password(
    registry: LyingRegistry, other: Store, image: Image, tmp_path: Path
) -> None:
    with serving(LyingRegistry("127.0.0.2")) as elsewhere:
        registry.lie = elsewhere.lie = bearer(f"http://{elsewhere.host}/token", "t0ken-word")
        environ = logged_in(tmp_path, registry.host)
        with pytest.raises(FetchError) as caught:
            Door(environ=environ).registries.pull(other, at(registry.host, image))
        assert f"tokens: '{elsewhere.host}'" in str(caught.value.hint)
        assert not any("Authorization" in one.headers for one in elsewhere.asked)
        named = {registry.host: RegistrySettings(tokens=elsewhere.host)}
        Door(named, environ).registries.pull(other, at(registry.host, image))
        assert other.image(image.digest) == image
        assert not any("Bearer" in one.headers.get("Authorization", "") for one in elsewhere.asked)


@pytest.mark.parametrize("answer", [b"{}", b"[]", b'{"token": 3}', b'{"token": "a\\r\\nX-Evil: 1"}', b"<html>", b""])
def test_a_token_that_is_none(answer: bytes, registry: LyingRegistry, other: Store, image: Image) -> None:
    def wrong(handler: Handler) -> bool:
        if handler.path.startswith("/token"):
            handler.reply(200, answer)
        else:
            handler.reply(401, WWW_Authenticate=f'Bearer realm="http://{handler.registry.host}/token"')
        return True

    registry.lie = wrong
    with pytest.raises(FetchError) as caught:
        Door().registries.pull(other, at(registry.host, image))
    assert "cannot get a token" in caught.value.message


def test_a_token_server_that_always_has_another_token_is_no_loop(
    registry: LyingRegistry, other: Store, image: Image
) -> None:
    made_tokens: list[str] = []

    def never(handler: Handler) -> bool:
        if handler.path.startswith("/token"):
            made_tokens.append(f"token-{len(made_tokens)}")
            handler.reply(200, json.dumps({"token": made_tokens[-1]}).encode())
        else:
            status = 401 if len(made_tokens) < 50 else 500
            handler.reply(status, WWW_Authenticate=f'Bearer realm="http://{handler.registry.host}/token"')
        return True

    registry.lie = never
    with pytest.raises(FetchError) as caught:
        Door().registries.pull(other, at(registry.host, image))
    assert "log in" in str(caught.value.hint) and len(made_tokens) < 10


def test_a_refusal_over_and_over_is_no_loop(
    registry: LyingRegistry, other: Store, image: Image, tmp_path: Path
) -> None:
    registry.lie = lambda handler: handler.reply(401, WWW_Authenticate='Basic realm="x"') is None
    with pytest.raises(FetchError) as caught:
        Door(environ=logged_in(tmp_path, registry.host)).registries.pull(other, at(registry.host, image))
    assert "log in" in str(caught.value.hint) and len(registry.asked) == 2
    assert "s3cret" not in caught.value.message

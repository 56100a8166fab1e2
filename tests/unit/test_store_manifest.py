"""The JSON of an image: the same bytes for ever, read back whole, and lenient with what other tools leave out."""

from __future__ import annotations

import json

import pytest

from instar.model.digest import Digest
from instar.model.image import Image, ImageConfig, Layer
from instar.store.manifest import config_json, image, image_of_others, manifest_json, references

LAYERS = (
    Layer(digest=Digest.of(b"z1"), diff_id=Digest.of(b"t1"), size_bytes=11, step="base"),
    Layer(digest=Digest.of(b"z2"), diff_id=Digest.of(b"t2"), size_bytes=22, step="run 1: make «it»"),
)
CONFIG = ImageConfig(
    architecture="amd64",
    user="10001:10001",
    command=("serve", "--port", "8080"),
    workdir="/srv/app",
    env={"PATH": "/usr/bin", "EMPTY": "", "EQUATION": "a=b"},
    ports=(8080,),
    labels={"org.example": "x"},
)


def test_an_image_is_its_two_blobs() -> None:
    config = config_json(CONFIG, LAYERS, created=1_700_000_000)
    manifest = manifest_json(Digest.of(config), len(config), LAYERS)
    digest = Digest.of(manifest)
    assert image(digest, manifest, config) == Image(
        digest=digest, config_digest=Digest.of(config), config=CONFIG, layers=LAYERS, created=1_700_000_000
    )


def test_an_image_without_anything_special_is_read_back_too() -> None:
    plain = ImageConfig(architecture="arm64", user="", command=())
    config = config_json(plain, (), created=0)
    assert image(Digest.of(b""), manifest_json(Digest.of(config), len(config), ()), config).config == plain


def test_the_json_is_the_same_bytes_for_ever() -> None:
    config = config_json(CONFIG, LAYERS[:1], created=1_700_000_000)
    assert config.decode() == (
        '{"architecture":"amd64","config":{"Cmd":["serve","--port","8080"],'
        '"Env":["EMPTY=","EQUATION=a=b","PATH=/usr/bin"],"ExposedPorts":{"8080/tcp":{}},'
        '"Labels":{"org.example":"x"},"User":"10001:10001","WorkingDir":"/srv/app"},'
        '"created":"2023-11-14T22:13:20Z",'
        '"history":[{"created":"2023-11-14T22:13:20Z","created_by":"base"}],'
        f'"os":"linux","rootfs":{{"diff_ids":["{LAYERS[0].diff_id}"],"type":"layers"}}}}'
    )
    assert manifest_json(Digest.of(config), len(config), LAYERS[:1]).decode() == (
        '{"config":{"digest":"' + Digest.of(config) + '",'
        f'"mediaType":"application/vnd.oci.image.config.v1+json","size":{len(config)}}},'
        f'"layers":[{{"digest":"{LAYERS[0].digest}",'
        '"mediaType":"application/vnd.oci.image.layer.v1.tar+zstd","size":11}],'
        '"mediaType":"application/vnd.oci.image.manifest.v1+json","schemaVersion":2}'
    )


def test_what_another_tool_wrote_is_read() -> None:
    config = json.dumps(
        {
            "architecture": "amd64",
            "os": "linux",
            "created": "2023-11-14T22:13:20.123456789Z",
            "config": {
                "Entrypoint": ["/entry"],
                "Cmd": ["serve"],
                "Env": None,
                "ExposedPorts": {"53/udp": {}, "80": {}},
            },
            "rootfs": {"type": "layers", "diff_ids": [LAYERS[0].diff_id]},
            "history": [{"created_by": "ADD x"}, {"created_by": "ENV y", "empty_layer": True}],
        }
    ).encode()
    found = image(Digest.of(b"m"), manifest_json(Digest.of(config), len(config), LAYERS[:1]), config)
    assert found.config == ImageConfig(architecture="amd64", user="", command=("/entry", "serve"), ports=(80,))
    assert (found.layers[0].step, found.created) == ("ADD x", 1_700_000_000)


@pytest.mark.parametrize(
    "manifest",
    [
        b"",
        b"[]",
        b"{}",
        b'{"config":{},"layers":[]}',
        b'{"config":{"digest":"x"},"layers":[]}',
        b'{"manifests":[]}',
        b"\xff",
    ],
)
def test_what_is_no_manifest_is_refused(manifest: bytes) -> None:
    with pytest.raises(ValueError):
        references(manifest)


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"architecture": "amd64"},
        {"architecture": "amd64", "rootfs": {"diff_ids": []}},
        {"architecture": "amd64", "rootfs": {"diff_ids": ["sha256:0", "sha256:1"]}},
        {"architecture": "amd64", "created": "yesterday", "rootfs": {"diff_ids": [item.diff_id for item in LAYERS]}},
        {"architecture": "amd64", "created": 5, "rootfs": {"diff_ids": [item.diff_id for item in LAYERS]}},
        {"architecture": "amd64", "config": [], "rootfs": 1},
    ],
)
def test_what_is_no_configuration_is_refused(config: object) -> None:
    with pytest.raises(ValueError):
        image(Digest.of(b"m"), manifest_json(Digest.of(b"c"), 1, LAYERS), json.dumps(config).encode())


@pytest.mark.parametrize("changed", [{"architecture": "\ud800"}, {"config": {"Env": ["A=\udfff"]}}])
def test_what_nobody_could_write_down_is_no_image(changed: dict[str, object]) -> None:
    config = json.dumps({**json.loads(config_json(CONFIG, LAYERS, created=0)), **changed}).encode()
    with pytest.raises(ValueError, match="halves of letters"):
        image_of_others(manifest_json(Digest.of(config), len(config), LAYERS), config)

"""Which files are keys that scripts of packages made, and what becomes of files in which a moment is written."""

from __future__ import annotations

import hashlib
import os
import random
import string
import struct
from pathlib import Path

import pytest

from instar.bake.debian import moments
from instar.bake.debian.keys import find_keys, looks_secret, private_keys
from instar.bake.root import Root

PEM = (
    "-----BEGIN RSA PRIVATE KEY-----\n"
    + "MIIEpAIBAAKCAQEA0Z3VS5JJcds3xfn/ygWyF8PbnGy0\n" * 5
    + "-----END RSA PRIVATE KEY-----\n"
)
CERTIFICATE = "-----BEGIN CERTIFICATE-----\nMIIDdzCCAl+gAwIBAgIEbGj3\n-----END CERTIFICATE-----\n"
DRAWN = random.Random(7)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A tree in which the package ``daemon`` is installed, with a configuration and a script of its own."""
    write(tmp_path, "etc/daemon/daemon.conf", "password = Listed0And1Public2\n", 0o640)
    write(tmp_path, "usr/share/daemon/site.conf", "key: aB3dE5fG7hJ9kL1mN\n")
    write(tmp_path, "bin/tool", PEM)
    lines = (
        "/.\n/etc\n/etc/daemon\n/etc/daemon/daemon.conf\n/usr/share/daemon\n/usr/share/daemon/site.conf\n/bin/tool\n"
    )
    write(tmp_path, "var/lib/dpkg/info/daemon.list", lines)
    write(tmp_path, "var/lib/dpkg/info/daemon.postinst", "openssl genrsa > /etc/keys/server.key; : > /etc/daemon/x\n")
    write(tmp_path, "var/lib/dpkg/info/other.postinst", "touch $dir/cookiefile\n")
    write(tmp_path, "var/lib/dpkg/info/other.list", "/.\n/etc\n")
    return tmp_path


def write(tree: Path, path: str, content: str | bytes, mode: int = 0o644) -> None:
    file = tree / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    file.chmod(mode)


def found(tree: Path) -> dict[str, tuple[str, str | None]]:
    return {key.shown: (key.what, key.package) for key in find_keys(tree)}


def test_what_packages_bring_and_what_is_no_secret_stays(tree: Path) -> None:
    write(tree, "etc/shadow", "root:!:19000:0:99999:7:::\ndaemon:$6$aB3dE5fG7hJ9kL1mN:1::::::\n", 0o640)
    write(tree, "etc/daemon/more.conf", "password_file = /etc/daemon/passwords\npassword = /etc/daemon/it\n", 0o600)
    write(tree, "etc/daemon/made.conf", "listen = 127.0.0.1:8080\nprotocol = org.apache.Http11NioProtocol\n", 0o600)
    write(tree, "etc/daemon/site.conf", "key: aB3dE5fG7hJ9kL1mN\n", 0o640)  # as its package has it elsewhere
    write(tree, "usr/share/mime/magic", "-----BEGIN RSA PRIVATE KEY-----\0and more\n")
    write(tree, "var/cache/index", DRAWN.randbytes(200))
    write(tree, "etc/ssl/certs/ca-certificates.crt", CERTIFICATE)
    write(tree, "var/log/daemon.log", PEM)
    assert found(tree) == {}


def test_keys_are_known_by_where_they_lie_by_what_is_in_them_and_by_looking_random(tree: Path) -> None:
    write(tree, "etc/bind/rndc.key", 'key "rndc-key" {\n\tsecret "short";\n};\n', 0o640)
    write(tree, "etc/keys/server.key", PEM)
    write(tree, "etc/keys/server.pem", CERTIFICATE)
    write(tree, "etc/daemon/secret.bin", DRAWN.randbytes(128), 0o600)
    write(tree, "var/lib/daemon/cookiefile", "Xq9Rt2Lm7Vb4Nz8K\n", 0o400)
    write(tree, "etc/daemon/db.php", "$dbpass='mkQNKSGEREs7';\n", 0o640)
    write(tree, "etc/daemon/plain.php", "$cfg['secret'] = 'abcdefghijkl';\n", 0o640)
    write(tree, "etc/daemon/odd.php", "$cfg['blowfish_secret'] = '$/;b~]zH(5L#V2$Qw';\n", 0o640)
    write(tree, "var/lib/daemon/alone", "QWERTYUIOPASDFGHJKLZ", 0o400)
    write(tree, "etc/daemon/copy.conf", "the password is mkQNKSGEREs7\n")
    write(tree, "etc/daemon/store.p12", b"\x30\x82")
    write(tree, "var/lib/heimdal-kdc/heimdal.db", b"\0" * 40_000, 0o600)
    assert found(tree) == {
        "/etc/bind/rndc.key": ("the key of rndc", None),
        "/etc/daemon/copy.conf": ("a copy of a secret", "daemon"),
        "/etc/daemon/db.php": ("what looks like a secret", "daemon"),
        "/etc/daemon/odd.php": ("what looks like a secret", "daemon"),
        "/etc/daemon/plain.php": ("what looks like a secret", "daemon"),
        "/etc/daemon/secret.bin": ("what looks like a secret", "daemon"),
        "/etc/daemon/store.p12": ("a store of keys", "daemon"),
        "/etc/keys/server.key": ("a private key", "daemon"),
        "/etc/keys/server.pem": ("the certificate of a key", None),
        "/var/lib/daemon/alone": ("what looks like a secret", None),
        "/var/lib/daemon/cookiefile": ("what looks like a secret", "other"),
        "/var/lib/heimdal-kdc/heimdal.db": ("the keys of Heimdal's realm", None),
    }


def test_what_is_drawn_by_lot_looks_random() -> None:
    letters = string.ascii_letters + string.digits
    for draw in (
        lambda: "".join(DRAWN.choices("0123456789abcdef", k=32)).encode(),
        lambda: "".join(DRAWN.choices(letters, k=32)).encode(),
        lambda: DRAWN.randbytes(64),
    ):
        assert sum(looks_secret(draw()) for _ in range(500)) >= 490  # by chance some look like words


def test_of_a_line_only_private_keys_are_told(tmp_path: Path) -> None:
    write(tmp_path, "srv/server.key", PEM)
    write(tmp_path, "srv/hidden", PEM, 0o600)
    write(tmp_path, "srv/public.txt", PEM)
    write(tmp_path, "srv/token", "Xq9Rt2Lm7Vb4Nz8K", 0o600)
    assert sorted(private_keys(tmp_path)) == ["/srv/hidden", "/srv/server.key"]


def store(date: int, tag: int = 2, password: str = "changeit") -> bytes:
    """A key store of Java's with two entries."""

    def text(value: bytes) -> bytes:
        return struct.pack(">H", len(value)) + value

    entries = b"".join(
        struct.pack(">I", tag) + text(name) + struct.pack(">Q", date + number) + text(b"X.509") + b"\0\0\0\3der"
        for number, name in enumerate((b"one", b"two"))
    )
    body = struct.pack(">III", 0xFEEDFEED, 2, 2) + entries
    digest = hashlib.sha1(password.encode("utf-16-be") + b"Mighty Aphrodite" + body, usedforsecurity=False).digest()
    return body + digest


def test_a_store_of_trusted_certificates_is_of_the_epoch_and_whole() -> None:
    settled = moments.trust_store(store(1_750_000_000_123), 1_700_000_000)
    assert settled == moments.trust_store(store(1_760_000_000_999), 1_700_000_000)
    assert settled.count(struct.pack(">Q", 1_700_000_000_000)) == 2
    assert moments.trust_store(settled, 1_700_000_000) == settled  # its own digest is right
    for other in (
        store(1, tag=1),
        store(1, password="mine"),
        store(1)[:40],
        b"\xfe\xed\xfe\xed",
        b"\xfe\xed\xfe\xed" * 99,
    ):
        assert moments.trust_store(other, 1_700_000_000) == other


def test_a_database_of_aliases_says_nothing_of_where_and_when(tmp_path: Path) -> None:
    def made(ids: bytes, at: int) -> bytes:
        page = bytearray(b"\0" * 12 + struct.pack("<III", 0x061561, 9, 512) + b"\0" * 28 + ids + b"\0" * 440)
        return bytes(page) + b"\0" * 460 + b"\x01%d\x01YP_LAST_MODIFIED" % at + b"\0" * 24 + bytes(page)

    assert len(made(b"x" * 20, 1_750_000_000)) == 512 * 3
    first = moments.database(made(b"x" * 20, 1_750_000_000), 1_700_000_000)
    assert first == moments.database(made(b"y" * 20, 1_760_000_000), 1_700_000_000)
    assert b"\x011700000000\x01YP_LAST_MODIFIED" in first


def test_parameters_are_the_well_known_group_and_ucf_forgets_what_went(tree: Path) -> None:
    write(tree, "etc/daemon/dh", "-----BEGIN DH PARAMETERS-----\nMIGHAoGBAK\n-----END DH PARAMETERS-----\n", 0o640)
    write(tree, "var/lib/ucf/hashfile", "aa  /etc/daemon/db.php\nbb  /etc/daemon/x\n")
    write(tree, "var/lib/ucf/hashfile.0", "aa  /etc/daemon/db.php\n")
    write(tree, "var/lib/texmf/web2c/luatex/luatex.fmt", "drawn")
    write(tree, "var/lib/texmf/web2c/tex/tex.fmt", "of today")
    write(tree, "var/lib/texmf/web2c/pdftex/pdftex.fmt", "the same")
    write(tree, "var/lib/texmf/web2c/pdftex/pdftex.log", "now")
    assert found(tree) == {}
    moments.settle(tree, [b"etc/daemon/db.php"], 1_700_000_000)
    assert (tree / "etc/daemon/dh").read_text().splitlines()[1].startswith("MIIBCAKCAQEA//////////+t+FRYortKmq/cViAn")
    assert (tree / "etc/daemon/dh").stat().st_mode & 0o777 == 0o640
    assert (tree / "var/lib/ucf/hashfile").read_text() == "bb  /etc/daemon/x\n"
    assert [path.name for path in (tree / "var/lib/ucf").iterdir()] == ["hashfile"]
    assert [path.name for path in (tree / "var/lib/texmf").rglob("*") if path.is_file()] == ["pdftex.fmt"]


@pytest.mark.parametrize("name", ["x.list", "x.postinst", "x.config"])
def test_what_scripts_left_in_the_place_of_dpkgs_notes_is_not_read(
    tree: Path, tmp_path_factory: pytest.TempPathFactory, name: str
) -> None:
    outside = tmp_path_factory.mktemp("machine") / "note"
    outside.write_text("/etc/keys/server.key\n")
    write(tree, "etc/keys/server.key", PEM, 0o600)
    expected = {"/etc/keys/server.key": ("a private key", "daemon")}
    info = tree / "var/lib/dpkg/info"
    (info / "a.list").symlink_to(outside)
    assert found(tree) == expected
    os.mkfifo(info / name)
    (info / "folder.list").mkdir()
    assert found(tree) == expected


def test_dpkgs_folder_is_not_one_of_this_machine(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    elsewhere = tmp_path_factory.mktemp("machine")
    write(elsewhere, "theirs.list", "/etc/keys/server.key\n")
    write(tree, "etc/keys/server.key", PEM, 0o600)
    info = tree / "var/lib/dpkg/info"
    info.rename(tree / "var/lib/dpkg/before")
    info.symlink_to(elsewhere)
    assert "/etc/keys/server.key" in found(tree)
    info.unlink()
    info.symlink_to("/var/lib/dpkg/before")  # in the tree, as the image's own programs follow it
    assert found(tree) == {"/etc/keys/server.key": ("a private key", "daemon")}


def test_a_listed_path_is_read_in_the_tree_alone(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    elsewhere = tmp_path_factory.mktemp("machine")
    write(elsewhere, "made.conf", "key: aB3dE5fG7hJ9kL1mN\n")
    write(tree, "etc/daemon/made.conf", "key: aB3dE5fG7hJ9kL1mN\n", 0o600)
    (tree / "usr/lib").mkdir()
    (tree / "usr/lib/daemon").symlink_to(elsewhere)
    os.mkfifo(tree / "usr/share/daemon/made.conf")
    lines = "/usr/lib/daemon/made.conf\n/usr/share/daemon/made.conf\n"
    write(tree, "var/lib/dpkg/info/more.list", lines)
    assert found(tree) == {"/etc/daemon/made.conf": ("what looks like a secret", "daemon")}


def test_a_tree_says_that_a_pipe_is_no_file_that_can_be_read(tree: Path) -> None:
    os.mkfifo(tree / "etc/passwd")
    with Root(tree, epoch=0) as root:
        with pytest.raises(OSError, match="not a regular file: '/etc/passwd'"):
            root.find("/etc/passwd")
        with (tree / "etc/group").open("wb") as file:
            file.truncate(1 << 40)
        with pytest.raises(OSError, match="too large"):
            root.find("/etc/group")

"""Servers and runtimes of the suite, each baked twice under different circumstances: the same bytes, and no key.

Versions are those of the day. What was found is kept in the user's cache (instar-tests/twice), with what was locked: a
run that was stopped goes on where it was, and what has not changed since is not baked again. ``INSTAR_TWICE`` names the
packages to try instead of all, with blanks between them.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from instar.bake.baking import Baked, BakedStep
from instar.bake.checking import differences
from instar.bake.debian.keys import find_keys
from instar.host.filesystems.layers import LayerImages
from instar.lock.file import read
from instar.model.codec import canonical
from instar.model.digest import Digest
from instar.model.image import Image
from instar.model.state import StateDirectory
from instar.store import Store
from instar.store.hashed_files import HashedFiles

pytestmark = [pytest.mark.root, pytest.mark.long]

NAMES = """
apache2 avahi-daemon bind9 caddy+passwd certbot chrony coturn cups cyrus-imapd dbus default-jre-headless
default-mysql-server dnsmasq docker.io dovecot-imapd dropbear ejabberd emacs-nox erlang-base exim4-daemon-light
fontconfig freeradius gearman-job-server ghc git gitolite3 gnupg golang-go guile-3.0 gunicorn haproxy heimdal-kdc
icecast2 icinga2 imagemagick inspircd iputils-ping isc-dhcp-server krb5-kdc knot libvirt-daemon-system lighttpd lua5.4
man-db mariadb-server maven memcached minidlna monit mosquitto mpd mumble-server munge munin-node nagios4
nfs-kernel-server nginx nodejs nsd ntpsec ocaml-nox opendkim openjdk-17-jdk-headless openssh-server openvpn
pdns-server pdns-recursor perl php-fpm php-cli phpmyadmin postfix postgresql prometheus prometheus-node-exporter
prosody puma python3 python3-django r-base-core rabbitmq-server radicale redis-server roundcube-core rspamd ruby rustc
samba sbcl slapd snmpd spamassassin sqlite3 squid ssl-cert stunnel4 strongswan stubby supervisor syncthing systemd tcl
telnetd texlive-latex-base tinyproxy tomcat10 tor uwsgi unbound varnish vim-nox vsftpd wordpress yarnpkg zabbix-agent
znc zsh
"""
WANTED = os.environ.get("INSTAR_TWICE", "").split() or NAMES.split()
PLACE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "instar-tests/twice"
INSTAR = str(Path(sys.executable).with_name("instar"))


@dataclass(frozen=True)
class Home:
    """A state directory, and how a bake in it is other than in the other one."""

    name: str
    before: tuple[str, ...]
    umask: int
    env: tuple[tuple[str, str], ...]

    @property
    def path(self) -> Path:
        return PLACE / self.name

    @property
    def store(self) -> Store:
        return Store(self.path / "store")

    def bake(self, folder: Path) -> subprocess.CompletedProcess[str]:
        env = {"PATH": os.environ["PATH"], "INSTAR_HOME": str(self.path), **dict(self.env)}
        return subprocess.run(
            [*self.before, INSTAR, "bake", "--json"], cwd=folder, env=env, capture_output=True, text=True, check=False,
            preexec_fn=lambda: os.umask(self.umask),
        )  # fmt: skip

    def prune(self, base: str) -> None:
        """Remove all but the layer that every bake begins with."""
        state = StateDirectory(self.path, self.path / "run")
        keep = [image for image in self.store.images() if image.config.labels["org.opencontainers.image.title"] == base]
        layers = LayerImages(self.store, state.layers, state.mounts, HashedFiles(state.sealed))
        layers.prune([layer.diff_id for image in keep for layer in image.layers], tuple)
        self.store.collect([image.digest for image in keep])


ONE = Home("one", (), 0o022, (("LC_ALL", "C.UTF-8"),))
TWO = Home(
    "another place", ("unshare", "--uts", "sh", "-c", 'hostname elsewhere; exec taskset -c 0 "$@"', "sh"), 0o077,
    (("LC_ALL", "C"), ("TZ", "Pacific/Kiritimati")),
)  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def homes() -> Iterator[None]:
    """Both fetch into one cache, and have baked a base to begin with."""
    (PLACE / "cache").mkdir(parents=True, exist_ok=True)
    folder = write("base", "")
    for home in (ONE, TWO):
        home.path.mkdir(exist_ok=True)
        if not (home.path / "cache").is_symlink():
            (home.path / "cache").symlink_to(PLACE / "cache")
        assert home.bake(folder).returncode == 0
    yield
    for home in (ONE, TWO):
        home.prune("base")


def write(name: str, packages: str) -> Path:
    folder = PLACE / "defined" / name
    folder.mkdir(parents=True, exist_ok=True)
    service = "service: {command: [sleep, '1']}\nenvironments: {dev: {}}\n"
    text = f"name: {name}\nimage: {{base: 'debian:bookworm', packages: [{packages}]}}\n{service}"
    (folder / "instar.yaml").write_text(text)
    return folder


def locked(folder: Path) -> str:
    """Lock anew; return what says that nothing has changed since."""
    env = {"PATH": os.environ["PATH"], "INSTAR_HOME": str(ONE.path)}
    done = subprocess.run(
        [INSTAR, "lock", "--update"], cwd=folder, env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    lock = read(folder / "instar.lock")
    return str(Digest.of(canonical([lock.bake_format, lock.epoch, [package.sha256 for package in lock.packages]])))


def baked(home: Home, folder: Path) -> tuple[Image, Baked]:
    done = home.bake(folder)
    assert done.returncode == 0, done.stderr[-4000:]
    image = home.store.image(Digest(json.loads(done.stdout)["digest"]))
    steps = tuple(BakedStep(step=layer.step, layer=layer, cached=False, seconds=0) for layer in image.layers)
    return image, Baked(image=image, steps=steps, seconds=0)


@pytest.mark.parametrize("package", WANTED)
def test_the_same_comes_out_twice(package: str, tmp_path: Path) -> None:
    named = package.replace(".", "-").replace("+", "-")
    folder = write(f"t-{named[:28]}".rstrip("-"), package.replace("+", ", "))
    record, key = PLACE / f"{package}.json", locked(folder)
    if record.exists() and json.loads(record.read_text()) == {"locked": key, "differ": [], "keys": []}:
        return
    one, first = baked(ONE, folder)
    _, second = baked(TWO, folder)
    differ = [f"{each.step}: {each.path}: {each.why}" for each in differences(ONE.store, first, TWO.store, second)]
    ONE.store.unpack(one.layers[1], tmp_path / "tree")
    keys = [str(each) for each in find_keys(tmp_path / "tree")]
    record.write_text(json.dumps({"locked": key, "differ": differ, "keys": keys}, indent=1))
    for home in (ONE, TWO):
        home.prune("base")
    assert (differ, keys) == ([], [])

"""What a Dockerfile's stage begins with → a Debian, and what an image of others is known to bring: packages, where
they put their files, what they start, and the version of what they are for."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from instar.adopt.draft import Draft, DraftValue, Origin, scalar
from instar.adopt.same_base import same_base

PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_SUITES: Final = ("bookworm", "trixie", "bullseye", "forky")
_NUMBERS: Final = {"11": "bullseye", "12": "bookworm", "13": "trixie"}
_VERSION: Final = re.compile(r"v?([0-9]+(?:\.[0-9]+)?)")


@dataclass(frozen=True, kw_only=True)
class KnownImage:
    """``packages`` by suite where they differ ("": of any); ``versions`` of its program, by suite; ``runs``: lines that
    put Debian's packages where the image has them, and let them run without writing beside ``/tmp`` and ``/run``."""

    packages: Mapping[str, Sequence[str]]
    versions: Mapping[str, str] = field(default_factory=dict)
    env: Mapping[str, str] = field(default_factory=dict)
    runs: Sequence[str] = ()
    command: Sequence[str] = ()
    port: int | None = None
    user: str | None = None
    workdir: str | None = None


def _known(*packages: str, bookworm: str = "", trixie: str = "", env: Mapping[str, str] | None = None) -> KnownImage:
    versions = {"bookworm": bookworm, "trixie": trixie} if bookworm else {}
    return KnownImage(packages={"": packages}, versions=versions, env=env or {})


_LOGS: Final = (
    "chmod 755 /var/log/{0} && ln -sf /dev/stdout /var/log/{0}/access.log && ln -sf /dev/stderr /var/log/{0}/error.log"
)
_JAVA: Final = _known("default-jre-headless", bookworm="17", trixie="21")
_IMAGES: Final[Mapping[str, KnownImage]] = {
    "python": _known("python3", bookworm="3.11", trixie="3.13"),
    "node": _known("nodejs", bookworm="18", trixie="20"),
    "golang": _known("golang", bookworm="1.19", trixie="1.24", env={"GOPATH": "/go"}),
    "rust": KnownImage(
        packages={"bookworm": ("rustc-web", "cargo-web"), "": ("rustc", "cargo")}, versions={"trixie": "1.85"}
    ),
    "gcc": _known("gcc", "g++", "make", bookworm="12", trixie="14"),
    "ruby": _known("ruby", bookworm="3.1", trixie="3.3"),
    "php": _known("php-cli", bookworm="8.2", trixie="8.4"),
    "perl": _known("perl", bookworm="5.36", trixie="5.40"),
    "nginx": KnownImage(
        packages={"": ("nginx-light",)},
        versions={"bookworm": "1.22", "trixie": "1.26"},
        runs=(
            "rm -rf /etc/nginx/sites-enabled/default /var/lib/nginx && ln -s /tmp /var/lib/nginx",
            _LOGS.format("nginx"),
            "test -e /etc/nginx/conf.d/default.conf || echo 'server { listen 80; root /usr/share/nginx/html; }'"
            " >/etc/nginx/conf.d/default.conf",
        ),
        command=("nginx", "-g", "daemon off;"),
        port=80,
    ),
    "httpd": KnownImage(packages={"": ("apache2",)}, versions={"bookworm": "2.4", "trixie": "2.4"}),
    "redis": KnownImage(
        packages={"": ("redis-server",)},
        versions={"bookworm": "7.0", "trixie": "8.0"},
        command=("redis-server", "--protected-mode", "no"),
        port=6379,
    ),
    "openjdk": _JAVA,
    "eclipse-temurin": _JAVA,
    "amazoncorretto": _JAVA,
    "maven": _known("maven", "default-jdk-headless", bookworm="3.8", trixie="3.9"),
}
_PHP_APACHE: Final = KnownImage(
    packages={"": ("apache2", "libapache2-mod-php", "php-cli")},
    versions=_IMAGES["php"].versions,
    runs=(
        _LOGS.format("apache2"),
        "sed -i s,=/var/lock/,=/tmp/, /etc/apache2/envvars && rm -f /etc/apache2/conf-enabled/other-vhosts*",
        "! cmp -s /usr/share/apache2/default-site/index.html /var/www/html/index.html || rm /var/www/html/index.html",
    ),
    command=("apache2ctl", "-D", "FOREGROUND"),
    port=80,
    user="www-data",
    workdir="/var/www/html",
)


def known_image(image: str) -> KnownImage | None:
    """Return what an image of others brings, None where that is not known here."""
    name, tag = _name_and_tag(image)
    return _PHP_APACHE if name == "php" and "apache" in tag else _IMAGES.get(name)


def is_known(image: str) -> bool:
    """Tell whether what an image of others brings is known here."""
    return _name_and_tag(image)[0] == "debian" or known_image(image) is not None or same_base(image) is not None


def variables_of(image: str) -> Mapping[str, str]:
    """Return the variables that an image of others has, as far as instructions are likely to name them."""
    known = known_image(image)
    return {"PATH": PATH, **(known.env if known else {})}


def begin(draft: Draft, image: str, origin: Origin) -> None:
    """Choose what to stand on: the same, or a Debian, and what an image is known to bring."""
    same = same_base(image)
    if same is not None:
        draft.base = DraftValue(yaml=same, origin=origin)
        return
    name, tag = _name_and_tag(image)
    suite = next((one for one in _SUITES if one in tag), None)
    if name == "debian":
        suite = suite or next((_NUMBERS[number] for number in _NUMBERS if tag.startswith(number)), None)
    suite = suite or "bookworm"
    draft.base = DraftValue(yaml=f"debian:{suite}", origin=origin)
    known = known_image(image)
    if known is not None:
        draft.packages |= dict.fromkeys(known.packages.get(suite, known.packages.get("", ())), origin)
        _say_version(draft, image, known.versions.get(suite), suite, origin)
    elif name != "debian":
        draft.leave(origin, f"what '{image}' brings: this image stands on Debian, name what is missing as packages")


def start_as(draft: Draft, image: str, origin: Origin) -> None:
    """Put in what an image of others starts where nothing else is said, and what lets Debian's packages do so."""
    known = known_image(image)
    if known is None or same_base(image) is not None:
        return
    draft.run += [DraftValue(yaml=scalar(line), origin=origin) for line in known.runs]
    if draft.command is None and known.command:
        draft.command = (known.command, origin)
    if draft.port is None and known.port:
        draft.port = (known.port, origin)
    if draft.user is None and known.user:
        draft.user = (known.user, None, None, origin)


def _say_version(draft: Draft, image: str, has: str | None, suite: str, origin: Origin) -> None:
    wanted = _VERSION.match(_name_and_tag(image)[1])
    if wanted is None or has == wanted[1] or (has or "").startswith(f"{wanted[1]}."):
        return
    is_there = f"Debian {suite} has {has}" if has else f"Debian {suite} has one of its own"
    draft.leave(origin, f"the version of '{image}': {is_there}")


def _name_and_tag(image: str) -> tuple[str, str]:
    whole, _, tag = image.partition("@")[0].partition(":")
    return whole.rpartition("/")[2], tag

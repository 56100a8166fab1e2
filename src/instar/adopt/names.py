"""What Debian calls what other distributions and images install by a name of their own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

# Of Alpine: (nothing) is what is in every Debian, or what an instance has anyhow
_OF_APK: Final[dict[str, tuple[str, ...]]] = {
    **dict.fromkeys(
        ("bash", "coreutils", "dumb-init", "findutils", "gcompat", "grep", "libc-utils", "libc6-compat", "libgcc",
         "libstdc++", "musl", "musl-locales", "sed", "shadow", "tar", "tini"), ()
    ),
    **{name: (name,) for name in (
        "ca-certificates", "cmake", "curl", "ffmpeg", "file", "g++", "gcc", "gettext", "git", "gnupg", "graphviz",
        "imagemagick", "jq", "less", "libffi-dev", "libpng-dev", "libwebp-dev", "libxml2-dev", "libzip-dev", "make",
        "nano", "ncurses", "nodejs", "npm", "openssh-client", "openssl", "perl", "pkgconf", "postgresql-client",
        "procps", "python3", "python3-dev", "rsync", "supervisor", "tzdata", "unzip", "wget", "zip",
    )},
    "build-base": ("build-essential",),
    "freetype-dev": ("libfreetype-dev",),
    "icu-data-full": (),
    "icu-libs": ("libicu72",),
    "jpeg-dev": ("libjpeg-dev",),
    "libjpeg-turbo-dev": ("libjpeg-dev",),
    "libpq": ("libpq5",),
    "libpq-dev": ("libpq-dev",),
    "libxslt-dev": ("libxslt1-dev",),
    "linux-headers": ("linux-libc-dev",),
    "mariadb-client": ("mariadb-client",),
    "mariadb-dev": ("libmariadb-dev",),
    "musl-dev": ("libc6-dev",),
    "mysql-client": ("default-mysql-client",),
    "openssl-dev": ("libssl-dev",),
    "postgresql-dev": ("libpq-dev",),
    "postgresql-libs": ("libpq5",),
    "py3-pip": (),
    "redis": ("redis-server",),
    "sqlite": ("sqlite3",),
    "sqlite-dev": ("libsqlite3-dev",),
    "sqlite-libs": ("libsqlite3-0",),
    "xz": ("xz-utils",),
    "zlib-dev": ("zlib1g-dev",),
}  # fmt: skip
# Of PHP, by the name of the extension: (nothing) is a part of PHP as Debian has it
_OF_PHP: Final[dict[str, tuple[str, ...]]] = {
    **dict.fromkeys(
        ("calendar", "ctype", "exif", "fileinfo", "filter", "ftp", "iconv", "opcache", "pcntl", "pdo", "phar", "posix",
         "session", "shmop", "sockets", "sysvmsg", "sysvsem", "sysvshm", "tokenizer"), ()
    ),
    **{name: (f"php-{name}",) for name in (
        "amqp", "apcu", "bcmath", "bz2", "curl", "gd", "gmp", "igbinary", "imagick", "imap", "intl", "ldap", "mbstring",
        "memcached", "mongodb", "pgsql", "redis", "soap", "tidy", "xml", "zip",
    )},
    "dom": ("php-xml",),
    "mysqli": ("php-mysql",),
    "pdo_mysql": ("php-mysql",),
    "pdo_pgsql": ("php-pgsql",),
    "pdo_sqlite": ("php-sqlite3",),
    "simplexml": ("php-xml",),
    "xmlreader": ("php-xml",),
    "xmlwriter": ("php-xml",),
    "xsl": ("php-xml",),
}  # fmt: skip


def packages_of_apk(name: str) -> Sequence[str] | None:
    """Return Debian's packages for one of Alpine's, None where that is not known here. A version is left out."""
    for sign in "=<>~@":
        name = name.partition(sign)[0]
    return _OF_APK.get(name)


def packages_of_php(extension: str) -> Sequence[str] | None:
    """Return Debian's packages for an extension of PHP, by its name (or ``NAME-VERSION``, as pecl has it)."""
    return _OF_PHP.get(extension.partition("-")[0])

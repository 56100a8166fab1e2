"""Which Python package index this machine uses: pip's own configuration, read through pip, told to uv; and the indexes
that a definition names.

No index is named here: what is not configured is whatever pip and uv take by themselves.
"""

from __future__ import annotations

import ast
import os
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from instar import process
from instar.errors import CommandFailed, ComponentMissing, FetchError
from instar.fetch.indexes import PythonIndex
from instar.fetch.network import CONNECT_TIMEOUT_S, RETRIES, network_environment
from instar.frozen import dataclass

_LINE = re.compile(r"(global|download|:env:)\.([a-z-]+)=(.*)\Z")
_STRENGTH = ("global", "download", ":env:")
_PASSED = (
    *("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS", "PIP_NO_INDEX", "PIP_CERT", "PIP_CLIENT_CERT"),
    *("PIP_PROXY", "PIP_TRUSTED_HOST", "PIP_CONFIG_FILE", "PIP_KEYRING_PROVIDER", "HOME", "XDG_CONFIG_HOME"),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class PipConfiguration:
    """What pip's configuration says of where packages are."""

    index_url: str | None = None
    extra_index_urls: tuple[str, ...] = ()
    find_links: tuple[str, ...] = ()
    no_index: bool = False
    cert: str | None = None
    client_cert: str | None = None
    proxy: str | None = None
    trusted_hosts: tuple[str, ...] = ()
    named: tuple[PythonIndex, ...] = ()  # of this machine's own, by their names

    def uv_options(self) -> list[str]:
        """Return the same in uv's words, besides addresses: everybody can list these words, and there may be passwords
        in an address."""
        return [
            *(["--no-index"] if self.no_index else []),
            *(["--cert", self.cert] if self.cert else []),
            *(word for host in self.trusted_hosts for word in ("--allow-insecure-host", host)),
        ]

    def uv_environment(self, home: Path, environ: Mapping[str, str] = os.environ) -> dict[str, str]:
        """Return what uv inherits, where packages are among it. ``home`` is where it may write, whoever runs it."""
        netrc = Path(environ.get("HOME", "/nonexistent"), ".netrc")
        links = [place for place in self.find_links if _is_there(place)]
        return {
            "HOME": str(home),
            "UV_HTTP_TIMEOUT": str(CONNECT_TIMEOUT_S),
            "UV_HTTP_RETRIES": str(RETRIES),
            "UV_PYTHON_DOWNLOADS": "never",
            **({"UV_DEFAULT_INDEX": self.index_url} if self.index_url else {}),
            **({"UV_INDEX": " ".join(self.extra_index_urls)} if self.extra_index_urls else {}),
            **({"UV_FIND_LINKS": ",".join(links)} if links else {}),
            **({"NETRC": str(netrc)} if netrc.is_file() else {}),
            **network_environment(environ),
            **({"ALL_PROXY": self.proxy} if self.proxy else {}),
            **({"SSL_CLIENT_CERT": self.client_cert} if self.client_cert else {}),
            **{name: value for index in self.named for name, value in _uv_login(index).items()},
        }

    def with_indexes(self, named: Sequence[PythonIndex], first: str | None) -> PipConfiguration:
        """Return the same with indexes of this machine's own: they are asked before pip's, and the one called ``first``
        in the place of all of these."""
        if not named:
            return self
        default = next((one for one in named if one.name == first), named[0] if self.no_index else None)
        asked = [f"{one.name}={one.url}" for one in named if one is not default]
        return replace(
            self,
            index_url=f"{default.name}={default.url}" if default else self.index_url,
            extra_index_urls=(*asked, *(() if first else self.extra_index_urls)),
            find_links=() if first else self.find_links,
            no_index=False,
            named=tuple(named),
        )


def _uv_login(index: PythonIndex) -> dict[str, str]:
    name = f"UV_INDEX_{index.name.upper().replace('-', '_')}"
    login = index.login
    return {f"{name}_USERNAME": login.user, f"{name}_PASSWORD": login.password} if login else {}


def pip_command(*words: str) -> list[str]:
    """Isolated: the working directory may be somebody's who put a pip.py there."""
    return [sys.executable, "-I", "-m", "pip", "--disable-pip-version-check", "--no-input", *words]


def pip_environment(
    environ: Mapping[str, str] = os.environ, index: PythonIndex | None = None, certificates: Path | None = None
) -> dict[str, str]:
    """Return what pip inherits: where packages are, and nothing that would change which ones it takes.

    With an ``index`` that is the only one, whatever pip is configured for; ``certificates``: whom it trusts there.
    """
    if index is not None:
        return {
            **network_environment(environ),
            **{name: environ[name] for name in ("HOME", "PIP_PROXY") if environ.get(name)},
            "PIP_CONFIG_FILE": os.devnull,
            "PIP_INDEX_URL": index.url_with_login(),
            # the library that pip asks with heeds the second of these before what pip tells it
            **(dict.fromkeys(("PIP_CERT", "REQUESTS_CA_BUNDLE"), str(certificates)) if certificates else {}),
        }
    return {
        **network_environment(environ),
        **{name: environ[name] for name in _PASSED if environ.get(name)},
    }


def read_index(environ: Mapping[str, str] = os.environ) -> PipConfiguration:
    """Ask pip for its configuration. Raises ComponentMissing when this Python has no pip."""
    try:
        done = process.run(pip_command("config", "list"), timeout_s=60, env=pip_environment(environ))
    except CommandFailed as error:
        raise ComponentMissing(
            f"cannot read pip's configuration: {error.output.strip().splitlines()[-1:] or error.message}",
            hint=f"{sys.executable} needs pip",
        ) from error
    found = parse_index(done.stdout.decode("utf-8", "replace"))
    bundle = environ.get("REQUESTS_CA_BUNDLE")  # pip heeds it, uv doesn't
    return replace(found, cert=bundle) if bundle and not found.cert else found


def parse_index(text: str) -> PipConfiguration:
    found: dict[str, dict[str, str]] = {section: {} for section in _STRENGTH}
    for line in text.splitlines():
        match = _LINE.match(line)
        if match:
            found[match[1]][match[2]] = _value(line, match[3])
    known = {key: value for section in _STRENGTH for key, value in found[section].items()}
    return PipConfiguration(
        index_url=known.get("index-url"),
        extra_index_urls=tuple(known.get("extra-index-url", "").split()),
        find_links=tuple(known.get("find-links", "").split()),
        no_index=known.get("no-index", "").lower() in ("1", "true", "yes", "on"),
        cert=known.get("cert"),
        client_cert=known.get("client-cert"),
        proxy=known.get("proxy"),
        trusted_hosts=tuple(known.get("trusted-host", "").split()),
    )


def _value(line: str, text: str) -> str:
    """pip prints values as Python writes them."""
    try:
        return str(ast.literal_eval(text))
    except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError) as error:
        raise FetchError(
            f"cannot read pip's configuration: {line[:100]!r} is no value", hint="pip config list shows it"
        ) from error


def _is_there(place: str) -> bool:
    """pip passes over a folder that is missing, where uv refuses to work."""
    return "://" in place or Path(place).expanduser().exists()

"""Where an image is in a registry: a repository's name, and the digest of what is in it.

Source: OCI distribution-spec 1.1, "Pulling manifests". A name always says its host: no registry is the usual one.
"""

from __future__ import annotations

import re
from typing import Final

from instar.frozen import dataclass
from instar.model.digest import Digest

HOST: Final = r"(?:[A-Za-z0-9](?:[A-Za-z0-9.-]{0,251}[A-Za-z0-9])?|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?"
PATH: Final = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*"
_TAG: Final = r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}"
DOCKER: Final = "docker.io"  # Docker's own registry, whose repositories of one word are in "library"
_DOCKERS_NAMES: Final = (DOCKER, "index.docker.io", "registry-1.docker.io")
_LIMIT: Final = 255  # of a whole name; Source: the same, what many clients hold names to


@dataclass(frozen=True, kw_only=True, slots=True)
class Repository:
    """One repository of a registry. ``host`` with its port, if it has one: ``registry.example:5000``."""

    host: str
    path: str

    def __str__(self) -> str:
        return f"{self.host}/{self.path}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Reference:
    """An image of a repository, by its digest."""

    repository: Repository
    digest: Digest

    def __str__(self) -> str:
        return f"{self.repository}@{self.digest}"


def is_host(text: str) -> bool:
    """Tell whether ``text`` can be a registry: a name with a dot, an address, ``localhost``, any with a port."""
    if not re.fullmatch(HOST, text):
        return False
    name, _, port = text.rpartition(":") if re.search(r":[0-9]{1,5}\Z", text) and text[-1] != "]" else (text, "", "")
    known = "." in name or name.startswith("[") or name == "localhost" or bool(port)
    return known and (not port or 0 < int(port) <= 65_535)


def repository(text: str) -> Repository:
    """Return the repository that ``text`` names: HOST/PATH. Raises ValueError with what is wrong."""
    host, slash, path = text.partition("/")
    if "://" in text:
        raise ValueError("it is written without 'https://'")
    if not slash or not is_host(host):
        known = f"; what Docker alone calls so is '{_of_docker(text)}'" if re.fullmatch(PATH, text) else ""
        raise ValueError(f"it begins with the registry's host, such as 'registry.example.org/team/shop'{known}")
    if len(text) > _LIMIT or not re.fullmatch(PATH, path):
        raise ValueError("after the host stand words of a-z, 0-9, '.', '_' and '-', with '/' between them")
    return _of_docker(path) if host.lower() in _DOCKERS_NAMES else Repository(host=host, path=path)


def _of_docker(path: str) -> Repository:
    return Repository(host=DOCKER, path=path if "/" in path else f"library/{path}")


def reference(text: str) -> Reference:
    """Return the image that ``text`` names: HOST/PATH@sha256:…. Raises ValueError with what is wrong."""
    name, at, digest = text.rpartition("@")
    if not at:
        raise ValueError("it ends with a digest, '@sha256:…': a tag may be another image the next time")
    if not digest.startswith("sha256:"):
        raise ValueError("its digest is not of SHA-256, and no other kind is read here")
    last = name.rpartition("/")[2]
    if ":" in last:
        raise ValueError("it has both a tag and a digest; write it without the tag")
    return Reference(repository=repository(name), digest=Digest(digest))


def tagged(text: str) -> tuple[Repository, str | None]:
    """Return the repository that ``text`` names, and the tag after it, where it has one. Raises ValueError."""
    name, colon, tag = text.rpartition(":")
    if colon and "/" in name and "/" not in tag:
        if not re.fullmatch(_TAG, tag):
            raise ValueError(f"'{tag}' can be no tag")
        return repository(name), tag
    return repository(text), None

"""The forms that a text in the machine's own file can have; ``forms`` has those of definitions."""

from __future__ import annotations

import ipaddress
from typing import Final
from urllib.parse import SplitResult, urlsplit

from instar.definition.forms import NAME, Misfit, SecretMisfit, fits, url
from instar.model.reference import is_host
from instar.model.reference import repository as read_repository

MAIL_ADDRESS: Final = r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]+@[A-Za-z0-9.-]+\.[A-Za-z0-9-]+"
PLAIN_WORD: Final = r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}"


def database(text: str) -> str:
    """The address of a shared ledger. Its password stands in a file or a service entry, never here."""
    try:
        parts = urlsplit(text)
    except ValueError:
        raise Misfit from None
    if parts.scheme not in ("postgresql", "postgres") or not text.startswith(f"{parts.scheme}://"):
        raise Misfit("a ledger of this machine alone needs none; remove it" if text.startswith("/") else "")
    if parts.password is not None or "password=" in parts.query:
        raise SecretMisfit("a password does not stand here: name a file with '?passfile=FILE', or a service entry")
    return text


def split_url(text: str, *, user_advice: str, otherwise: str = "") -> tuple[SplitResult, bool]:
    """Return the parts of a URL, and whether they name a server.

    Raises SecretMisfit, with ``user_advice``, where somebody's name or password stands in it; Misfit, with the advice
    ``otherwise``, for what is no URL.
    """
    try:
        parts = urlsplit(url(text))
        usable = bool(parts.hostname) and parts.port != 0
    except ValueError:
        raise Misfit(otherwise) from None
    if parts.username is not None or parts.password is not None:
        raise SecretMisfit(user_advice)
    return parts, usable


def webhook(text: str) -> str:
    """An address that notices can be sent to. What is secret in it stands in its path, and never before an '@'."""
    _, usable = split_url(
        text, user_advice="its address has a user in it; name a program that calls it, with 'command'"
    )
    if not usable:
        raise Misfit
    return text


def secure_url(text: str) -> str:
    """An address of https, with nobody's name and password in it."""
    parts, usable = split_url(text, user_advice="nobody's name and password stand in it")
    if parts.scheme != "https" or not usable:
        raise Misfit("it has to begin with 'https://'" if parts.scheme != "https" else "")
    return text


def index_address(text: str) -> str:
    """An address of an index, with nobody's name and password in it."""
    parts, usable = split_url(text, user_advice="who asks is 'user', and a file with the password is 'password'")
    if not usable or parts.query or parts.fragment:
        raise Misfit("write it without '?' and '#'" if usable else "")
    return text


def is_private(address: str) -> bool:
    """Whether what is sent to an address is read by nobody on the way."""
    parts = urlsplit(address)
    return parts.scheme == "https" or is_loopback(parts.hostname or "")


def is_loopback(host: str) -> bool:
    """Whether a host is written as an address of this machine's loopback; what a name leads to may change."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def index_user(text: str) -> str:
    if not fits(r"[!-9;-~]{1,200}", text):
        raise Misfit
    return text


def mail_address(text: str) -> str:
    if not fits(MAIL_ADDRESS, text):
        raise Misfit("without 'mailto:'" if text.startswith("mailto:") else "")
    return text


def plain_word(text: str) -> str:
    if not fits(PLAIN_WORD, text):
        raise Misfit
    return text


def socket_address(text: str) -> str:
    """Where a stream socket listens: ``unix:/PATH`` or ``tcp:HOST:PORT``."""
    kind, _, where = text.partition(":")
    if kind == "unix":
        if not fits(r"/[!-~]{1,106}", where):
            raise Misfit("a socket's path is absolute, and has up to 107 characters" if text.isprintable() else "")
    elif kind != "tcp" or not fits(r"(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9.-]{1,253}):[0-9]{1,5}", where):
        raise Misfit
    elif not 1 <= int(where.rpartition(":")[2]) <= 65_535:
        raise Misfit("a port is from 1 to 65535")
    return text


def user_group(text: str) -> str:
    """The name of a group of users. Root's own would change nothing, and a number is nobody's name."""
    if not fits(r"[a-z_][a-z0-9_-]{0,31}", text):
        raise Misfit
    if text == "root":
        raise Misfit("root looks at everything without it")
    return text


def machine_path(text: str) -> str:
    """The path of a file of the machine's."""
    if not text.startswith("/") or not text.isprintable():
        raise Misfit("a relative one would depend on where the command is called" if text.isprintable() else "")
    return text


def service_environment(text: str) -> str:
    if not fits(rf"(?:{NAME})/(?:{NAME})", text):
        raise Misfit
    return text


def registry(text: str) -> str:
    """The host of a registry, as the names of its images begin."""
    if not is_host(text):
        raise Misfit("write it without 'https://' and without a path" if "/" in text else "")
    return text


def mirror(text: str) -> str:
    """A registry, or a part of one that has another's images under their names."""
    return registry(text) if "/" not in text else repository(text)


def repository(text: str) -> str:
    """A repository of a registry, with its host."""
    try:
        return str(read_repository(text))
    except ValueError as error:
        raise Misfit(str(error)) from error

"""Which certificates the edge shows: files that HAProxy reads when it starts, and changes while it runs. Pure.

``certificates.list`` has a line for each name, and each name a file of its own: a certificate for several names is in
several. So a name comes, goes and is renewed without a word about any other::

    certificates/shop.example.pem shop.example
    certificates/_.shop.example.pem [ca-file clients/1f0c….pem verify required] *.shop.example

Source: HAProxy 2.6 management guide, 9.3, "set ssl cert" and "add ssl crt-list".
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Mapping, Sequence
from typing import Final

from instar.errors import RouterError

LIST: Final = "certificates.list"
FOLDER: Final = "certificates"
CLIENTS: Final = "clients"
SHOW: Final = f"show ssl crt-list {LIST}"
LARGEST_BYTES: Final = 32 * 1024  # with its key; the edge's buffers hold a little more

NAME: Final = r"(?:\*\.)?[a-z0-9][a-z0-9.-]{0,252}"
FILE: Final = rf"{FOLDER}/[_a-z0-9][a-z0-9.-]{{0,253}}\.pem"
AUTHORITY: Final = rf"{CLIENTS}/[0-9a-f]{{64}}\.pem"
LINE: Final = rf"{FILE} (?:\[ca-file {AUTHORITY} verify required\] )?{NAME}"
PEM: Final = r"(?:-----BEGIN [A-Z ]{1,30}-----\n(?:[A-Za-z0-9+/=]{1,76}\n)+-----END [A-Z ]{1,30}-----\n){1,40}"

_BLOCK = re.compile(r"-----BEGIN ([A-Z ]+)-----\n((?:[A-Za-z0-9+/=]+\n)+)-----END \1-----\n", re.ASCII)
_SHOWN = re.compile(rf"^({FILE})(?::\d+)? (?:\[[^\]]*\] )?({NAME})\s*$", re.ASCII | re.MULTILINE)
_SHA1 = re.compile(r"^SHA1 FingerPrint: ([0-9A-F]{40})$", re.MULTILINE)


def file_of(name: str) -> str:
    """Return the file of a name's certificate, below the edge's directory."""
    if not re.fullmatch(NAME, name, re.ASCII):
        raise RouterError(f"cannot show a certificate for {name!r}: it is no name")
    return f"{FOLDER}/{name.replace('*', '_', 1)}.pem"


def name_of(file: str) -> str:
    """Return whose certificate is in a file of that (bare) name."""
    bare = file.removesuffix(".pem")
    return f"*{bare[1:]}" if bare.startswith("_.") else bare


def authority_file(pem: str) -> str:
    """Return the file of what clients' certificates have to be signed by."""
    return f"{CLIENTS}/{hashlib.sha256(pem.encode()).hexdigest()}.pem"


def line(name: str, authority: str | None) -> str:
    """Return the line of a name. ``authority``: the file of what its clients' certificates must be signed by."""
    options = f"[ca-file {authority} verify required] " if authority else ""
    return f"{file_of(name)} {options}{name}"


def render(authorities: Mapping[str, str | None]) -> str:
    """Return the list: of each name that has a certificate, whether its clients need one."""
    return "".join(f"{line(name, authority)}\n" for name, authority in sorted(authorities.items()))


def normal(text: str) -> str:
    """Return PEM as it may go over the socket, where an empty line would be its end. Raises RouterError."""
    lines = [one.strip() for one in text.strip().splitlines()]
    found = "\n".join(one for one in lines if one) + "\n"
    if len(found) > LARGEST_BYTES or not re.fullmatch(PEM, found, re.ASCII):
        raise RouterError("cannot show a certificate: it is no text of PEM, or has more than 32 kB")
    return found


def first_certificate(pem: str) -> bytes:
    """Return the first certificate of PEM, DER. Raises RouterError where there is none."""
    for kind, body in _BLOCK.findall(pem):
        if kind == "CERTIFICATE":
            try:
                return base64.b64decode(body, validate=False)
            except binascii.Error:
                break
    raise RouterError("cannot show a certificate: there is none in what was given for it")


def come(name: str, pem: str, authority: str | None) -> Sequence[str]:
    """Return what has HAProxy show a certificate for a name that had none."""
    file = file_of(name)
    listed = f"add ssl crt-list {LIST} <<\n{line(name, authority)}\n"
    return (f"new ssl cert {file}", *renewed(name, pem), listed)


def renewed(name: str, pem: str) -> Sequence[str]:
    file = file_of(name)
    return (f"set ssl cert {file} <<\n{pem}", f"commit ssl cert {file}")


def gone(name: str) -> Sequence[str]:
    file = file_of(name)
    return (f"del ssl crt-list {LIST} {file}", f"del ssl cert {file}")


def listed(text: str) -> Mapping[str, str]:
    """Read what HAProxy showed of its list: name → file."""
    return {name: file for file, name in _SHOWN.findall(text)}


def sha1(text: str) -> str | None:
    """Read the fingerprint of what HAProxy showed of a certificate."""
    found = _SHA1.search(text)
    return found[1].lower() if found else None

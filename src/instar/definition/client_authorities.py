"""What clients' certificates must be signed by: read from the files beside the definition, so that what is kept of an
environment has it whole. It is no secret."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from instar.definition.author_files import read_author_file
from instar.definition.problems import Problems

if TYPE_CHECKING:
    from instar.definition.load import Loaded

LARGEST_BYTES: Final = 64 * 1024
_CERTIFICATES: Final = re.compile(
    r"(?:-----BEGIN CERTIFICATE-----\n(?:[A-Za-z0-9+/=]{1,76}\n)+-----END CERTIFICATE-----\n)+", re.ASCII
)


def with_authorities(loaded: Loaded) -> Loaded:
    """Return the definition with what is in the files of ``client_ca`` in the place of their names.

    Raises DefinitionError, which names the place of each one that can't be read or has no certificates in it.
    """
    problems, environments = Problems(loaded.file), dict(loaded.definition.environments)
    for name, environment in environments.items():
        file = environment.names.client_ca
        if file is not None:
            try:
                pem = _certificates(read_author_file(loaded.folder, file, LARGEST_BYTES))
            except (OSError, ValueError) as error:
                cause = (getattr(error, "strerror", None) or str(error)).lower()
                where = loaded.places.find("environments", name, "listen", "client_ca")
                problems.add(where, f"environments.{name}.listen.client_ca: cannot use '{file}': {cause}")
                continue
            environments[name] = replace(environment, names=replace(environment.names, client_ca=pem))
    if problems:
        raise problems.error()
    return replace(loaded, definition=replace(loaded.definition, environments=environments))


def _certificates(data: bytes) -> str:
    """Return the certificates of a file, in one form. Raises ValueError."""
    import ssl  # only a definition with such a file pays for it

    lines = (line.strip() for line in data.decode("ascii").splitlines())
    text = "".join(f"{line}\n" for line in lines if line)
    begin = text.find("-----BEGIN ")
    if begin < 0 or not _CERTIFICATES.fullmatch(text[begin:]):
        raise ValueError("it holds something else than certificates (PEM)")
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_verify_locations(cadata=text[begin:])
    except ssl.SSLError as error:
        raise ValueError("a certificate in it is damaged") from error
    return text[begin:]

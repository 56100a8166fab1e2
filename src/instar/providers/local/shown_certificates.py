"""The certificates that the edge shows: kept in its files, shown by its HAProxy, and told apart by fingerprints."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence

from instar.errors import RouterError
from instar.providers.edge import EdgeCertificate
from instar.providers.local.held_haproxy import HeldHaproxy
from instar.router.edge import certificates
from instar.router.edge.files import EdgeFiles


def checked(certificate: EdgeCertificate) -> str:
    """Return a certificate and its key as one text of PEM. Raises RouterError when they don't belong together."""
    import ssl

    pem = certificates.normal(f"{certificate.chain}\n{certificate.key}")
    try:
        with os.fdopen(os.memfd_create("certificate"), "w") as file:  # the key is on no disk but where it is kept
            file.write(pem)
            file.flush()
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(f"/proc/self/fd/{file.fileno()}", password="")
    except (ssl.SSLError, OSError, ValueError) as error:
        why = "its key is another's" if "MISMATCH" in str(error) else f"{error}"
        raise RouterError(f"cannot show the certificate of {', '.join(certificate.names)}: {why}") from error
    return pem


def keep(files: EdgeFiles, name: str, pem: str) -> None:
    """Have the certificate in its file, which root alone can read."""
    path = files.certificate(name)
    if files.read(path) != pem:
        files.write(pem, path)


def show(haproxy: HeldHaproxy, names: Sequence[str], pem: str, authorities: Mapping[str, str | None]) -> None:
    """Have HAProxy show the certificate for all ``names``, in place of what it shows for them."""
    _give_up_what_was_begun(haproxy)
    listed, known = haproxy.ask(certificates.SHOW, "show ssl cert")
    there = certificates.listed(listed)
    for name in names:
        file = certificates.file_of(name)
        come = certificates.come(name, pem, authorities.get(name))
        if name in there:
            if certificates.sha1(haproxy.ask(f"show ssl cert {file}")[0]) != _sha1(pem):
                haproxy.ask(*certificates.renewed(name, pem))
        else:
            haproxy.ask(*(come[1:] if file in known.splitlines() else come))


def hide(haproxy: HeldHaproxy, names: Sequence[str]) -> None:
    """Have HAProxy show nothing for ``names``."""
    _give_up_what_was_begun(haproxy)
    listed, known = haproxy.ask(certificates.SHOW, "show ssl cert")
    there = certificates.listed(listed)
    for name in names:
        entry, file = certificates.gone(name)
        if name in there:
            haproxy.ask(entry)
        if certificates.file_of(name) in known.splitlines():
            haproxy.ask(file)


def fingerprints(files: EdgeFiles, haproxy: HeldHaproxy) -> Mapping[str, str]:
    """Return which certificate HAProxy really shows for each name, by its SHA-256; where it is not the one in the file,
    "" stands for one that nobody here knows."""
    there = sorted(certificates.listed(haproxy.ask(certificates.SHOW)[0]).items())
    shown = haproxy.ask(*(f"show ssl cert {file}" for _, file in there)) if there else ()
    found = {}
    for (name, _), text in zip(there, shown, strict=True):
        pem = files.read(files.certificate(name)) or ""
        known = bool(pem) and certificates.sha1(text) == _sha1(pem)
        found[name] = hashlib.sha256(certificates.first_certificate(pem)).hexdigest() if known else ""
    return found


def _sha1(pem: str) -> str:
    """HAProxy 2.6 knows a certificate by no other."""
    return hashlib.sha1(certificates.first_certificate(pem), usedforsecurity=False).hexdigest()


def _give_up_what_was_begun(haproxy: HeldHaproxy) -> None:
    """HAProxy changes one certificate at a time: who was killed meanwhile left one half changed."""
    begun = [line[1:] for line in haproxy.ask("show ssl cert")[0].splitlines() if line.startswith("*")]
    for file in begun:
        haproxy.ask(f"abort ssl cert {file}")

"""By which names an environment is reached, and where their certificates come from, as its author writes it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import field, replace
from typing import Literal

from instar.frozen import dataclass
from instar.model.declaration import key

# A key reads as a paragraph: its type, its default, its words.
# fmt: off


@dataclass(frozen=True, kw_only=True, slots=True)
class HostNames:
    """By which names the machine's edge passes requests to an environment: "shop.example", or "shop.example/api" for
    the paths below it. ``redirect``: a name → the one of these that its requests are sent to. ``client_ca``: what
    clients' certificates must be signed by, PEM; None: nobody is asked for one."""

    http: tuple[str, ...] = field(default=(), metadata=key(
        "Names that are reached by http, of whole sites or of what is below a path.", "site", or_one=True,
        expected="a name such as 'shop.example' or 'shop.example/api', or a list of them"))
    https: tuple[str, ...] = field(default=(), metadata=key(
        "Names that are reached by https; whoever asks by http is sent there (308). Their certificates: `tls`.",
        "secure site", or_one=True,
        expected="a name such as 'shop.example', '*.shop.example' or 'shop.example/api', or a list of them"))
    redirect: Mapping[str, str] = field(default_factory=dict, metadata=key(
        "Names whose requests are sent to another one (308), with path and query: the other is one of `http` or "
        "`https`.", "host name", names="host name", expected="a section such as {www.shop.example: shop.example}"))
    hsts_ms: int | None = field(default=None, metadata=key(
        "How long browsers shall ask for the names of `https` by https only (`Strict-Transport-Security`). It can't be "
        "taken back before that time is over.", "age", default_about="they are told nothing"))
    client_ca: str | None = field(default=None, metadata=key(
        "A file beside the definition with the certificates (PEM) that those of clients have to be signed by: who has "
        "none of them reaches no name of `https`. The service sees a client's in `Client-Cert` (RFC 9440).",
        "author's path", default_about="nobody is asked for one"))

    @property
    def sites(self) -> tuple[str, ...]:
        """All names that requests come by, those that are sent on too."""
        return (*self.http, *self.https, *self.redirect)

    @property
    def secure_hosts(self) -> tuple[str, ...]:
        """The names that need a certificate, each once."""
        secure = {site.partition("/")[0]: None for site in self.https}
        return (*secure, *(source for source, to in self.redirect.items() if to in secure and source not in secure))

    def has_whole(self, host: str) -> bool:
        """Tell whether ``host`` is reached here, and not only a part of it: who has the whole says which clients."""
        return host in self.https or host in self.redirect

    def only(self, sites: Collection[str]) -> HostNames:
        """Return those of these names that are among ``sites``; where none is, nothing is left to be said of them."""
        if not any(one in sites for one in self.sites):
            return HostNames()
        return replace(
            self,
            http=tuple(one for one in self.http if one in sites),
            https=tuple(one for one in self.https if one in sites),
            redirect={source: to for source, to in self.redirect.items() if source in sites},
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Listen(HostNames):
    """What may be written at ``listen`` besides an address."""

    address: tuple[str, ...] = field(default=(), metadata=key(
        "Addresses beside the names.", "address", or_one=True,
        expected="an address such as '127.0.0.1:8080', or a list of them"))


@dataclass(frozen=True, kw_only=True, slots=True)
class Tls:
    """Where the certificates of an environment's names come from: by ACME, of the machine's own authority, or from
    ``files``, which are the author's."""

    kind: Literal["acme", "internal", "files"] = "acme"
    certificate_file: str | None = field(default=None, metadata=key(
        "File beside the definition with the certificate for all names of `https`, followed by those that lead to whom "
        "clients trust (PEM).", "author's path", name="certificate"))
    key_file: str | None = field(default=None, metadata=key(
        "File beside the definition with its key (PEM), not encrypted. It never goes into an image.", "secret file",
        name="key"))

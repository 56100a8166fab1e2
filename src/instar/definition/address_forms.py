"""The forms of addresses, networks, hosts and ports, as ``definition.forms`` has them of everything else."""

from __future__ import annotations

from typing import Final

from instar.definition.forms import NAME, Misfit, fits
from instar.definition.problems import nearest
from instar.model.environment import MACHINE

HOST: Final = r"[A-Za-z0-9_]([A-Za-z0-9._-]{0,252}[A-Za-z0-9_])?(:[0-9]{1,5})?"
PORT: Final = r"([1-9]\d{0,4})(?:/(tcp|udp))?"
INTERNAL: Final = "internal"  # the word for a service that has no address outside, and the end of names inside
HEADER: Final = "header"
_MACHINE: Final = ("host", "localhost", "this machine", "127.0.0.1")


def host(text: str) -> str:
    """What a request calls the service: a name or an IPv4 address, with a port or without."""
    if not fits(HOST, text) or not 0 < int(text.partition(":")[2] or 80) <= 65535:
        raise Misfit("write it without 'http://' and without a path" if "/" in text else "")
    return text


def network(text: str) -> str:
    """Return an address ("10.0.0.7") or a network ("10.0.0.0/8") in its one form."""
    import ipaddress  # only what has a server in front pays for it

    try:
        found = ipaddress.ip_network(text)
    except ValueError:
        try:
            wide = ipaddress.ip_network(text, strict=False)
        except ValueError:
            raise Misfit from None
        raise Misfit(f"did you mean '{wide}'?") from None
    if "%" in text:
        raise Misfit("an address with a '%zone' is this machine's business alone")
    return str(found.network_address) if found.prefixlen == found.max_prefixlen else str(found)


def address(text: str) -> str:
    """Return a listen address in its one form: "127.0.0.1:8080", "[::1]:8080"; ":8080" is every IPv4 address."""
    scheme, _, rest = text.partition("://")
    if rest and scheme in ("http", "https"):
        raise Misfit(f"names are written as {{{scheme}: [{rest.partition('/')[0].partition(':')[0]}]}}")
    host, colon, port = text.rpartition(":")
    if not colon and text == INTERNAL:
        raise Misfit(f"it stands alone: 'listen: {INTERNAL}'")
    if not colon and fits(r"[a-z0-9-]+(\.[a-z0-9-]+)*\.[a-z]+", text):
        raise Misfit(f"names are written as {{https: [{text}]}}")
    if not colon:
        raise Misfit(f"did you mean '127.0.0.1:{text}'?" if fits(r"\d{1,5}", text) else "the port is missing")
    if not fits(r"[1-9]\d{0,4}", port) or int(port) > 65535:
        raise Misfit("a port is a number from 1 to 65535")
    return f"{_host(host)}:{port}"


def preview(text: str) -> str:
    """Return an address as :func:`address` does, or the word that stands for requests with a header."""
    if text == HEADER:
        return text
    if fits(r"[A-Za-z-]+", text):
        raise Misfit(f"did you mean '{HEADER}'?" if nearest(text, [HEADER]) else "")
    return address(text)


def peer(text: str) -> str:
    """Return whom an entry names, in one form: SERVICE/ENVIRONMENT, "machine", or a network with its prefix."""
    from ipaddress import AddressValueError, IPv4Network, NetmaskValueError

    service, slash, environment = text.partition("/")
    if text == MACHINE or (slash and fits(NAME, service) and fits(NAME, environment)):
        return text
    if text in _MACHINE or nearest(text, [MACHINE]):
        raise Misfit(f"did you mean '{MACHINE}'?")
    if fits(NAME, text):
        raise Misfit(f"an environment is named with its service: 'SERVICE/{text}', or '{text}/ENVIRONMENT'")
    if ":" in text:
        raise Misfit("instances have no IPv6")
    if not fits(r"[\d./]+", text):
        raise Misfit("names of hosts are not looked up here: who answers for one could open what he likes")
    try:
        return str(IPv4Network(text))
    except (AddressValueError, NetmaskValueError) as error:
        raise Misfit from error
    except ValueError as error:
        raise Misfit(f"did you mean '{IPv4Network(text, strict=False)}'?") from error


def port(text: str) -> str:
    """Return a port with its protocol: "5432/tcp"."""
    found = fits(PORT, text)
    if not found or int(found[1]) > 65535:
        raise Misfit("a port is a number from 1 to 65535; of udp, it is written as '53/udp'")
    return f"{found[1]}/{found[2] or 'tcp'}"


def _host(text: str) -> str:
    if text in ("", "*"):
        return "0.0.0.0"  # noqa: S104  that is what the author asks for
    if text == "localhost":
        raise Misfit("write it as a number: 127.0.0.1")
    if text.startswith("[") and text.endswith("]"):
        return f"[{_version_6(text[1:-1])}]"
    if not fits(r"(0|[1-9]\d{0,2})(\.(0|[1-9]\d{0,2})){3}", text) or any(int(part) > 255 for part in text.split(".")):
        number = "an address is written in numbers, and a name as {https: [shop.example]}"
        raise Misfit("an IPv6 address stands in brackets, all in quotes" if ":" in text else number)
    return text


def _version_6(text: str) -> str:
    import ipaddress  # only an IPv6 address pays for it

    try:
        found = ipaddress.IPv6Address(text)
    except ValueError:
        raise Misfit from None
    if found.scope_id is not None:
        raise Misfit("an address with a '%zone' cannot be listened on")
    return found.compressed

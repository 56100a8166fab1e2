"""The section about what an environment's instances may reach, besides the world."""

from __future__ import annotations

import ipaddress
from ipaddress import IPv4Network
from typing import Final

from instar.definition import forms
from instar.definition.forms import Misfit, fits
from instar.definition.problems import nearest
from instar.definition.section import REQUIRED, Key, Section
from instar.definition.shapes import ListOf, Text, Whole
from instar.model import definition as model

_PORT: Final = r"([1-9]\d{0,4})(?:/(tcp|udp))?"
_MACHINE: Final = ("host", "localhost", "this machine", "127.0.0.1")
_LEAST_CONNECTIONS: Final = 16


def reached(text: str) -> str:
    """Return whom an entry names, in one form: SERVICE/ENVIRONMENT, "machine", or a network with its prefix."""
    service, slash, environment = text.partition("/")
    if text == model.MACHINE or (slash and fits(forms.NAME, service) and fits(forms.NAME, environment)):
        return text
    if text in _MACHINE or nearest(text, [model.MACHINE]):
        raise Misfit(f"did you mean '{model.MACHINE}'?")
    if fits(forms.NAME, text):
        raise Misfit(f"an environment is named with its service: 'SERVICE/{text}', or '{text}/ENVIRONMENT'")
    if ":" in text:
        raise Misfit("instances have no IPv6")
    if not fits(r"[\d./]+", text):
        raise Misfit("names of hosts are not looked up here: who answers for one could open what he likes")
    try:
        return str(IPv4Network(text))
    except (ipaddress.AddressValueError, ipaddress.NetmaskValueError) as error:
        raise Misfit from error
    except ValueError as error:
        raise Misfit(f"did you mean '{IPv4Network(text, strict=False)}'?") from error


def port(text: str) -> str:
    """Return a port with its protocol: "5432/tcp"."""
    found = fits(_PORT, text)
    if not found or int(found[1]) > 65535:
        raise Misfit("a port is a number from 1 to 65535; of udp, it is written as '53/udp'")
    return f"{found[1]}/{found[2] or 'tcp'}"


ALLOW = Section(
    "a section such as {to: database/production, ports: [5432]}",
    model.Allow,
    Key("to", Text("SERVICE/ENVIRONMENT, 'machine', or a network such as '169.254.169.254/32'", reached),
        "Whom the instances may begin to talk to: the instances of an environment and what its router listens on, now "
        "and whenever they change; `machine`, what this machine listens on; or a network of IPv4, whoever is in it.",
        default=REQUIRED),
    Key("ports",
        ListOf(Text("a port such as 5432 or '53/udp'", port, pattern=_PORT, kinds=("string", "integer")),
               "a list of ports, such as [5432, 53/udp]", minimum=1, unique=True),
        "At which ports, of tcp unless `/udp` follows.", default=(), default_about="any, of any protocol"),
)  # fmt: skip

REACHED = Section(
    "a section such as {allow: [{to: database/production, ports: [5432]}]}",
    model.Network,
    Key("allow", ListOf(ALLOW, "a list of sections such as {to: machine, ports: [5432]}"),
        "What the instances reach besides the world. Without an entry they reach neither one another, nor what this "
        "machine listens on, nor 169.254.0.0/16.", default=()),
    Key("connections", Whole(_LEAST_CONNECTIONS, 10_000_000),
        "How many connections an instance may have open at once that it began itself. It may begin a sixteenth of "
        "that each second, and half of it in a burst.",
        default_about="a sixteenth of what the machine can remember (`nf_conntrack_max`)"),
)  # fmt: skip

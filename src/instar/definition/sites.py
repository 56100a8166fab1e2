"""The forms of names that requests come by: as certificates have them, with the path that they are below."""

from __future__ import annotations

from typing import Final

from instar.definition.forms import Misfit, fits

HOST_NAME: Final = r"(?!.*\.[0-9]+$)(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)*[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
SITE_PATH: Final = r"(?!\.\.?(?:/|$))[A-Za-z0-9._~-]+(?:/(?!\.\.?(?:/|$))[A-Za-z0-9._~-]+)*"
SITE: Final = rf"{HOST_NAME}(?:/{SITE_PATH})?"
_OWN_PATH: Final = r"\.well-known/(?:acme-challenge|instar)(?:/.*)?"
LONGEST_HOST: Final = 253
LONGEST_CERTIFIED: Final = 230  # with what a file that is being written has before and after it: 255
LONGEST_PATH: Final = 256


def site(text: str) -> str:
    """Return a name that requests come by, with the path that they are below: "shop.example", "shop.example/api"."""
    if "://" in text:
        raise Misfit(f"write it without '{text.partition('://')[0]}://'")
    name, slash, path = text.partition("/")
    found = host_name(name)
    if slash and not path:
        raise Misfit(f"write it as '{found}'")
    if fits(_OWN_PATH, path):
        raise Misfit("what is below that path the edge answers itself: it proves that names are yours")
    if len(path) > LONGEST_PATH or (path and not fits(SITE_PATH, path)):
        clean = "/".join(part for part in path.split("/") if part)
        better = fits(SITE_PATH, clean) and clean != path
        raise Misfit(f"write it as '{found}/{clean}'" if better else "a path has letters, digits and ._~- in its parts")
    return text


def secure_site(text: str) -> str:
    """Return the same, or a name that stands for all one level below it: "*.shop.example"."""
    is_wildcard = text.startswith("*.")
    host = site(text[2 * is_wildcard :]).partition("/")[0]
    if is_wildcard and "." not in host:
        raise Misfit("a wildcard stands for the names below one of two parts at least")
    if len(host) > LONGEST_CERTIFIED:
        raise Misfit(f"a certificate is kept under its name, which has at most {LONGEST_CERTIFIED} characters")
    return text


def host_name(text: str) -> str:
    """Return the name of a host as certificates and requests have it: small letters, no port, no dot at its end."""
    if not text.isascii():
        raise Misfit(_punycode(text))
    bare, _, port = text.rpartition(":")
    if bare and port.isdigit():
        raise Misfit(f"ports are the machine's business; write '{bare}'")
    if fits(r"[\d.]+|\[?[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*]?", text):
        raise Misfit("that is an address, which is written alone, with its port: 'listen: 127.0.0.1:8080'")
    if "_" in text:
        raise Misfit(f"no '_' can stand in the name of a site; did you mean '{text.lower().replace('_', '-')}'?")
    if text != text.lower() or text.endswith("."):
        raise Misfit(f"write it as '{text.lower().rstrip('.')}'")
    if text.startswith("*."):
        raise Misfit("only a name of 'https' can stand for all below it")
    if len(text) > LONGEST_HOST or not fits(HOST_NAME, text):
        raise Misfit("it is too long" if len(text) > LONGEST_HOST else "")
    return text


def _punycode(text: str) -> str:
    """Return the advice for a name with other letters than a to z."""
    import idna  # only such a name pays for it

    try:
        return f"write it as '{idna.encode(text, uts46=True).decode()}'"
    except idna.IDNAError:
        return ""

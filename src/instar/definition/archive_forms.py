"""The forms of what says where an archive of others is: a definition comes from a colleague, and names no secret."""

from __future__ import annotations

import re
from typing import Final

from instar.definition.forms import NPM_PACKAGE, Misfit, fits
from instar.definition.machine_forms import is_loopback, split_url

SUITE: Final = r"(?!.*\.\.)(?:/|\./|[A-Za-z0-9][A-Za-z0-9._~+:/-]{0,120})"
COMPONENT: Final = r"(?!.*\.\.)[A-Za-z0-9][A-Za-z0-9._~+/-]{0,120}"
NPM_PACKAGES: Final = (
    rf"{NPM_PACKAGE}|(@[A-Za-z0-9~-][A-Za-z0-9._~-]*/[A-Za-z0-9._~-]*|[A-Za-z0-9~_-][A-Za-z0-9._~-]*)\*"
)
ONE_PROJECT: Final = r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,98}[A-Za-z0-9])?"
PROJECT: Final = ONE_PROJECT + r"|[A-Za-z0-9][A-Za-z0-9._-]{0,98}\*"


def project(text: str) -> str:
    """A project of Python in its normal form, or how the names of several begin. Source: PEP 503."""
    if not fits(PROJECT, text):
        raise Misfit("the index that all comes from is 'index'" if text == "*" else "")
    return re.sub(r"[-_.]+", "-", text).lower()


def one_project(text: str) -> str:
    """A project of Python in its normal form."""
    if not fits(ONE_PROJECT, text):
        raise Misfit("each is named: what is built runs code of its author's" if "*" in text else "")
    return project(text)


def npm_packages(text: str) -> str:
    """A package of npm, or how the names of several begin."""
    if not fits(NPM_PACKAGES, text):
        raise Misfit("the index that all comes from is 'index'" if text == "*" else "")
    return text


def address(text: str) -> str:
    """An address of https, or of this machine's loopback, with nobody's name and password in it."""
    parts, usable = split_url(
        text,
        user_advice="which password goes where is this machine's business: /etc/apt/auth.conf.d has it",
        otherwise="others than 'https://' are this machine's own business" if "://" in text else "",
    )
    if parts.query or parts.fragment or not usable:
        raise Misfit("write it without '?' and '#'" if usable else "")
    if parts.scheme != "https" and not is_loopback(parts.hostname or ""):
        raise Misfit("who is on the way could show an old archive as the newest: it has to begin with 'https://'")
    return text


def suite(text: str) -> str:
    if not fits(SUITE, text):
        raise Misfit
    return text


def component(text: str) -> str:
    if not fits(COMPONENT, text):
        raise Misfit
    return text

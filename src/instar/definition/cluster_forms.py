"""Forms of what stands in a section about a cluster: labels and annotations, as Kubernetes takes them.

Source: Kubernetes, "Labels and Selectors" and "Annotations", syntax and character set.
"""

from __future__ import annotations

from typing import Final

from instar.definition.address_forms import network
from instar.definition.forms import Misfit, fits

_WORD: Final = r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,61}[A-Za-z0-9])?"
KEY: Final = rf"(?:[a-z0-9](?:[a-z0-9.-]{{0,251}}[a-z0-9])?/)?{_WORD}"
VALUE: Final = rf"(?:{_WORD})?"
LABELLED: Final = rf"{KEY}={VALUE}"
OWN: Final = "instar/"
CONFINING: Final = (
    "container.apparmor.security.beta.kubernetes.io/",
    "container.seccomp.security.alpha.kubernetes.io/",
    "seccomp.security.alpha.kubernetes.io/",
    "kubernetes.io/config.",  # by which nodes know pods that are none of the API's
    "io.kubernetes.cri-o.",
)
NAMESPACE: Final = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"


def label_key(text: str) -> str:
    return _fitting(KEY, text)


def label_value(text: str) -> str:
    return _fitting(VALUE, text)


def labelled(text: str) -> str:
    """A label and its value."""
    return _fitting(LABELLED, text)


def annotation(text: str) -> str:
    """The name of an annotation that is not Instar's own."""
    if text.startswith(OWN):
        raise Misfit(f"names that begin with '{OWN}' are what Instar knows its own objects by")
    if text.startswith(CONFINING):
        raise Misfit("it has nodes confine a container otherwise, which no definition can have them do")
    return _fitting(KEY, text)


def sender(text: str) -> str:
    """A namespace, or a network with its prefix."""
    if "/" not in text:
        return _fitting(NAMESPACE, text)
    found = network(text)
    return found if "/" in found else f"{found}/{128 if ':' in found else 32}"


def query(text: str) -> str:
    """A template of a query about one group."""
    if "$group" not in text and "${group}" not in text:
        raise Misfit("it is about one group: name it by '$group'")
    return text


def _fitting(pattern: str, text: str) -> str:
    if not fits(pattern, text):
        raise Misfit
    return text

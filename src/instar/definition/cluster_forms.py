"""Forms of what stands in a section about a cluster: labels and annotations, as Kubernetes takes them.

Source: Kubernetes, "Labels and Selectors", "Annotations" and "Object Names and IDs", syntax and character set.
"""

from __future__ import annotations

import re
from typing import Final

from instar.definition.address_forms import network
from instar.definition.forms import Misfit, SecretMisfit, fits

_WORD: Final = r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,61}[A-Za-z0-9])?"
KEY: Final = rf"(?:[a-z0-9](?:[a-z0-9.-]{{0,251}}[a-z0-9])?/)?{_WORD}"
VALUE: Final = rf"(?:{_WORD})?"
LABELLED: Final = rf"{KEY}={VALUE}"
_LONGEST_CONTEXT: Final = 253
OWN: Final = "instar/"
CONFINING: Final = (
    "container.apparmor.security.beta.kubernetes.io/",
    "container.seccomp.security.alpha.kubernetes.io/",
    "seccomp.security.alpha.kubernetes.io/",
    "kubernetes.io/config.",  # by which nodes know pods that are none of the API's
    "io.kubernetes.cri-o.",
)
NAMESPACE: Final = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
OBJECT_NAME: Final = rf"(?=.{{1,253}}$){NAMESPACE}(?:\.{NAMESPACE})*"
CONTEXT: Final = r"[^\s\x00-\x1f\x7f]{1,253}"
BY_DIGEST: Final = r"[A-Za-z0-9][A-Za-z0-9._:/-]{0,400}@sha256:[0-9a-f]{64}"
PROMETHEUS: Final = r"https?://[^\s@\x00-\x1f]{1,400}"


def namespace(text: str) -> str:
    """A namespace, or an object that is called as one: a label of a host name."""
    return _named(NAMESPACE, text)


def object_name(text: str) -> str:
    """An object of which the name is a host name's."""
    return _named(OBJECT_NAME, text)


def context(text: str) -> str:
    """A context of a kubeconfig."""
    if not fits(CONTEXT, text):
        raise Misfit("it is too long" if len(text) > _LONGEST_CONTEXT else "a context has no spaces in its name")
    return text


def by_digest(text: str) -> str:
    """An image, in a registry, by its digest."""
    if not fits(BY_DIGEST, text):
        raise Misfit("a tag can become another image" if "@" not in text else "")
    return text


def prometheus(text: str) -> str:
    """Where a Prometheus is asked: no name and password are in it, since a definition holds no secret."""
    if "@" in text:
        raise SecretMisfit("write it without a name and a password")
    return _fitting(PROMETHEUS, text)


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


def _named(pattern: str, text: str) -> str:
    if not fits(pattern, text):
        near = re.sub(r"[^a-z0-9.]+" if pattern == OBJECT_NAME else r"[^a-z0-9]+", "-", text.lower()).strip("-.")
        raise Misfit(f"did you mean '{near}'?" if near != text and fits(pattern, near) else "")
    return text


def _fitting(pattern: str, text: str) -> str:
    if not fits(pattern, text):
        raise Misfit
    return text

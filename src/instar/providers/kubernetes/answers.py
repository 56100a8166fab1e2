"""What a cluster's answers that are no success mean: which may be asked again, and what a person can do about others.

Source: Kubernetes API concepts, "Status"; a status has a ``reason``, which is a word of a known set.
"""

from __future__ import annotations

import json
import math
import ssl
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from instar.errors import InstarError, ProviderError, ProviderUnavailable, Refused

_TOO_MANY: Final = 429
_SOON_S: Final = 1.0
_AT_ONCE_S: Final = 0.2  # of what somebody else has just changed: what is new is read, and decided on again
_LONGEST_S: Final = 30.0
_OF_POLICY: Final = "ValidatingAdmissionPolicy 'instar."
_ACCOUNT: Final = (
    "where instar kubernetes policy is applied, ask as the account that it is for: a kubeconfig with a token of "
    "kubectl create token instar -n NAMESPACE (docs/kubernetes.md, For whoever runs the cluster), then the same again"
)
_RBAC: Final = "the roles that Instar needs there: instar kubernetes rbac ENV | kubectl apply -f -"
_CLIENT: Final = (
    "the kubeconfig's user has 'client-certificate-data' and 'client-key-data', or a program that says them: get them "
    "anew from whoever runs the cluster"
)
_OF_OUR_CERTIFICATE: Final = {  # what a server's alert says of what it was shown. Source: RFC 8446, 6.2
    "TLSV13_ALERT_CERTIFICATE_REQUIRED": "wants a client's certificate, and these credentials have none",
    "TLSV1_ALERT_UNKNOWN_CA": "does not accept the client's certificate: it knows not its authority",
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": "does not accept the client's certificate: it has expired",
    "SSLV3_ALERT_BAD_CERTIFICATE": "does not accept the client's certificate",
    "SSLV3_ALERT_CERTIFICATE_UNKNOWN": "does not accept the client's certificate",
    "SSLV3_ALERT_CERTIFICATE_REVOKED": "does not accept the client's certificate: it was revoked",
}


class AlreadyExists(ProviderError):
    """An object of that name is there."""

    code = "object-exists"


class Forbidden(ProviderError):
    """These credentials have not the right to it."""


class Changed(ProviderUnavailable):
    """Somebody has changed an object since it was read."""


def refusal(what: str, status: int, body: bytes, retry_after: str | None = None) -> InstarError:
    """Return the error that an answer is. ``what`` was to be done: "create the Deployment 'shop/a'"."""
    told = _status(body)
    message, reason = str(told.get("message") or f"status {status}")[:600], told.get("reason")
    match status:
        case _ if status == _TOO_MANY or status >= 500:
            after = _seconds(retry_after) or _SOON_S
            return ProviderUnavailable(f"cannot {what}: the cluster says {status}: {message}", retry_after_s=after)
        case 401:
            return ProviderError(
                f"cannot {what}: the cluster does not accept these credentials ({message})",
                hint="they may have expired: get a new token or certificate into the kubeconfig, then ask again",
            )
        case 403 | 422 if _OF_POLICY in message:
            return ProviderError(f"cannot {what}: {message}", hint=_ACCOUNT)
        case 403 if _is_quota(message):
            return ProviderError(
                f"cannot {what}: {message}",
                hint="raise the namespace's ResourceQuota, or ask for less in the definition",
            )
        case 403:
            return Forbidden(f"cannot {what}: {message}", hint=_RBAC)
        case 409 if reason == "AlreadyExists":
            return AlreadyExists(f"cannot {what}: it exists already")
        case 409 if owners := _owners(told):
            return Refused(
                f"cannot {what}: {', '.join(owners)} wrote to it, and it is not forced",
                hint="kubectl get --show-managed-fields shows what; have that one let go of these, then ask again",
            )
        case 409:
            return Changed(f"cannot {what} now: {message}", retry_after_s=_AT_ONCE_S)
        case _:
            return ProviderError(f"cannot {what}: {message}")


def failure(what: str, server: str, error: Exception) -> InstarError:
    """Return the error of a call that got no answer."""
    cause: BaseException | None = error
    while cause is not None:
        if type(cause).__name__ == "LocalProtocolError":
            return unsendable(what)
        if isinstance(cause, ssl.SSLCertVerificationError):
            told, hint = _unverified(cause.verify_code)
            said = f"{told}: {cause.verify_message.rstrip('.')}"
            return ProviderError(
                f"cannot {what}: the certificate of '{server}' {said}", hint=f"{hint}; nothing was sent"
            )
        if isinstance(cause, ssl.SSLError) and (refused := _OF_OUR_CERTIFICATE.get(str(cause.reason))):
            return ProviderError(f"cannot {what}: '{server}' {refused}", hint=_CLIENT)
        cause = cause.__cause__ or cause.__context__
    text = " ".join(str(error).split()) or type(error).__name__
    return ProviderUnavailable(
        f"cannot {what}: '{server}' does not answer: {text[:200]}",
        hint="is it up, and reached from here (a VPN, a firewall, the kubeconfig's server and proxy-url)?",
    )


def _unverified(code: int) -> tuple[str, str]:
    """Say what is the matter with a server's certificate, and what helps. Source: OpenSSL, X509_V_ERR_*."""
    match code:
        case 62 | 64:  # of a host's name, or an IP address
            return "is for another name", (
                "the kubeconfig's 'server' has to be a name or address that it is for; or 'tls-server-name' beside it "
                "says one that it is for, where the cluster is reached through something in between"
            )
        case 10:
            return "has expired", "whoever runs the cluster has to renew it; or this machine's clock is wrong (date)"
        case 9:
            return "does not hold yet", "this machine's clock may be wrong (date), or that of whoever made it"
        case _:
            return "is not of the authority that the kubeconfig names", (
                "get the kubeconfig anew from whoever runs the cluster"
            )


def unsendable(what: str) -> InstarError:
    """Return the error of a call that is none of HTTP: nothing of it is said, for it has the credentials in it."""
    return ProviderError(
        f"cannot {what}: the kubeconfig's credentials cannot be sent: there is a line's end, or a letter that no token "
        "has, in the token or in a name to act as",
        hint="get the kubeconfig anew from whoever runs the cluster; nothing was sent",
    )


def unaccepted(what: str, plugin: str, until: datetime | None) -> InstarError:
    """Return the error of credentials that a program said, and the cluster does not accept."""
    over = f"; it says that they hold until {until:%Y-%m-%d %H:%M:%S} UTC" if until is not None else ""
    return ProviderError(
        f"cannot {what}: the cluster does not accept the credentials that '{plugin}' says{over}",
        hint="log in anew by that program, then ask again; or this identity is not one of that cluster",
    )


def starting(what: str, server: str) -> InstarError:
    """Return the error of a refusal by a server that is not ready to tell who has which rights."""
    return ProviderUnavailable(f"cannot {what} now: '{server}' refuses it, and is not ready")


def _status(body: bytes) -> Mapping[str, Any]:
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return {"message": body[:1_000].decode("utf-8", "replace").strip()[:200]}
    return found if isinstance(found, dict) else {}


def _is_quota(message: str) -> bool:
    """A quota is refused with the same status and reason as a missing right: what tells them is the words alone."""
    return "exceeded quota" in message or "failed quota" in message


def _owners(told: Mapping[str, Any]) -> list[str]:
    """Return the field managers that a server-side apply is in conflict with."""
    details = told.get("details")
    causes = details.get("causes") if isinstance(details, dict) else None
    known = [one for one in causes if isinstance(one, dict)] if isinstance(causes, list) else []
    found = [str(one.get("message", "")) for one in known if one.get("reason") == "FieldManagerConflict"]
    return sorted({text.removeprefix("conflict with ").partition(" using ")[0].strip('"') for text in found})


def _seconds(text: str | None) -> float | None:
    try:
        found = float(text or "")
    except ValueError:
        return None
    return min(max(found, 0.1), _LONGEST_S) if math.isfinite(found) else None

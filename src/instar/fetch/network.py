"""What fetching takes from its caller's environment: how this machine reaches the network, and nothing else."""

from __future__ import annotations

import os
from collections.abc import Mapping

_PROXIES = ("http_proxy", "https_proxy", "ftp_proxy", "all_proxy", "no_proxy")
_CERTIFICATES = ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CLIENT_CERT", "NETRC")

CONNECT_TIMEOUT_S = 20
RETRIES = 1


def network_environment(environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return the proxies and certificates that children which reach the network inherit."""
    names = (*_PROXIES, *(name.upper() for name in _PROXIES), *_CERTIFICATES)
    return {name: environ[name] for name in names if environ.get(name)}

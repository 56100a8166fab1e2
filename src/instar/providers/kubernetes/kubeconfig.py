"""Which cluster a context means, and by which credentials: read from kubeconfigs, or from inside a cluster.

``KUBECONFIG`` may name several files, as kubectl has it: they are one, and of two things of one name the first counts.
A path is from the folder of the file that names it. What is in a kubeconfig is this machine's: a definition only names
a context.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from instar.errors import ComponentMissing, Refused
from instar.frozen import dataclass
from instar.permissions import other_adder, other_writer

if TYPE_CHECKING:
    from lightkube import SingleConfig
    from lightkube.config.models import User

SERVICE_ACCOUNT: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_FILES: Final = ("certificate-authority", "client-certificate", "client-key", "tokenFile")
_SHOW: Final = "kubectl config view shows what is there"


@dataclass(frozen=True, kw_only=True, slots=True)
class Access:
    """How a cluster is asked: its address and credentials (``config``), and what the library does not know.

    ``server_name``: the name that its certificate is for, where that is not its address. ``acting_as``: headers by
    which somebody acts as somebody else.
    """

    config: SingleConfig
    proxy: str | None = field(default=None, repr=False)
    server_name: str | None = None
    acting_as: tuple[tuple[str, str], ...] = ()

    @property
    def shown(self) -> str:
        """The cluster's address as messages have it, without what a proxy's address may hold of a password."""
        if self.proxy is None:
            return self.config.cluster.server
        return f"{self.config.cluster.server} through {urlsplit(self.proxy).netloc.rpartition('@')[2]}"


class _Entries:
    """What several files say together: by kind and name, what it is and the file that says so."""

    def __init__(self, files: Iterable[Path]) -> None:
        self.found: dict[str, dict[str, tuple[Any, Path]]] = {"contexts": {}, "clusters": {}, "users": {}}
        self.current: str | None = None
        for file in files:
            self._read(file)

    def get(self, kind: str, name: str, context: str) -> tuple[Any, Path]:
        """Return what is called so. Raises Refused where a context names what is not there."""
        try:
            return self.found[kind][name]
        except KeyError as error:
            raise Refused(
                f"cannot use the context '{context}': it names '{name}' of the kubeconfig's {kind}, which is not there",
                hint=_SHOW,
            ) from error

    def _read(self, file: Path) -> None:
        import yaml

        try:
            told: Any = yaml.safe_load(file.read_text("utf-8"))
            for kind, known in self.found.items():
                # a file that was emptied by "kubectl config unset" has null where there were lists
                for one in told.get(kind) or ():
                    known.setdefault(str(one["name"]), (one[kind.removesuffix("s")], file.absolute()))
            self.current = self.current or told.get("current-context") or None
        except OSError as error:
            raise Refused(f"cannot read the kubeconfig '{file}': {error.strerror}") from error
        except Exception as error:  # a file of somebody else's may be wrong in more ways than there are names for
            cause = " ".join(str(error).split())[:200] or type(error).__name__
            raise Refused(f"cannot read the kubeconfig '{file}': {cause}", hint=_SHOW) from error


def find_config(context: str | None, environ: Mapping[str, str]) -> Access:
    """Return the cluster and the credentials that ``context`` means; None: the cluster that this runs in, else the
    kubeconfig's current one.

    Raises ComponentMissing where there is no kubeconfig, Refused for a context that is not in it, or is of no use.
    """
    if context is None and "KUBERNETES_SERVICE_HOST" in environ and (SERVICE_ACCOUNT / "token").exists():
        return Access(config=_in_cluster())
    files = _files(environ)
    there = [file for file in files if file.is_file()]
    if not there:
        where = ", ".join(f"'{file}'" for file in files)
        raise ComponentMissing(
            f"cannot find a cluster: there is no kubeconfig at {where}",
            hint="get one from whoever runs the cluster, and name it in KUBECONFIG (under sudo: sudo KUBECONFIG=…)",
        )
    entries = _Entries(there)
    name = context or entries.current
    if name is None or name not in entries.found["contexts"]:
        wanted = f"the context '{name}'" if name else "a current context"
        raise Refused(
            f"cannot find {wanted} in {', '.join(str(file) for file in there)}",
            hint=f"kubernetes.context is one of: {', '.join(sorted(entries.found['contexts'])) or 'none is there'}",
        )
    return _access(name, entries)


def _files(environ: Mapping[str, str]) -> list[Path]:
    named = [Path(part) for part in environ.get("KUBECONFIG", "").split(os.pathsep) if part]
    return named or [Path(environ.get("HOME") or "/") / ".kube" / "config"]


def _in_cluster() -> SingleConfig:
    from lightkube import KubeConfig

    found = KubeConfig.from_service_account(SERVICE_ACCOUNT).get()
    assert found is not None
    return found


def _access(name: str, entries: _Entries) -> Access:
    """Return what a context means, of whichever files. Raises Refused."""
    from lightkube import SingleConfig
    from lightkube.config.models import Cluster, Context, User

    told, file = entries.get("contexts", name, name)
    context = _converted(told, Context, name, file)
    cluster_told, cluster_file = entries.get("clusters", context.cluster, name)
    user_told, user_file = entries.get("users", context.user, name) if context.user else ({}, file)
    cluster = _converted(_with_files(cluster_told, cluster_file, name), Cluster, name, cluster_file)
    user = _converted(_with_files(user_told, user_file, name), User, name, user_file)
    _require_usable(name, cluster.server, cluster_told, user_told)
    _require_trusted(user_file, user)
    config = SingleConfig(context_name=name, context=context, cluster=cluster, user=user, fname=user_file)
    return Access(
        config=config,
        proxy=cluster_told.get("proxy-url") or None,
        server_name=cluster_told.get("tls-server-name") or None,
        acting_as=tuple(_acting_as(user_told)),
    )


def _converted(told: Any, kind: Any, context: str, file: Path) -> Any:
    import msgspec

    try:
        return msgspec.convert(told, kind)
    except msgspec.ValidationError as error:
        raise Refused(f"cannot use the context '{context}' of the kubeconfig '{file}': {error}", hint=_SHOW) from error


def _with_files(told: Any, file: Path, context: str) -> Any:
    """Return it with whole paths. Raises Refused for a file that cannot be read."""
    if not isinstance(told, Mapping):
        return told
    named = {key: file.parent / str(told[key]) for key in _FILES if told.get(key) and not told.get(f"{key}-data")}
    for key, path in named.items():
        try:
            path.open("rb").close()
        except OSError as error:
            raise Refused(
                f"cannot use the context '{context}' of the kubeconfig '{file}': its {key} is '{path}': "
                f"{error.strerror}",
                hint="get the kubeconfig anew from whoever runs the cluster, or that file",
            ) from error
    return {**told, **{key: str(path) for key, path in named.items()}}


def _require_usable(context: str, server: str, cluster: Mapping[str, Any], user: Mapping[str, Any]) -> None:
    """Raise Refused for what is said, and nothing that this can go by."""
    proxy = str(cluster.get("proxy-url") or "")
    certificate, key = (user.get(f"client-{one}") or user.get(f"client-{one}-data") for one in ("certificate", "key"))
    problems = [
        (not _is_address(server), f"'{server}' is no address of a cluster"),
        (proxy and not _is_address(proxy), "its proxy-url is none of http:// or https://, which Instar goes by"),
        (certificate and not key, "it has a client's certificate without its key"),
        (user.get("auth-provider"), "it wants an 'auth-provider', which kubectl has given up too: use 'exec'"),
        (user.get("as-user-extra"), "it acts with 'as-user-extra', which Instar cannot pass on"),
    ]
    for wrong, told in problems:
        if wrong:
            raise Refused(f"cannot use the context '{context}': {told}", hint=_SHOW)


def _is_address(text: str) -> bool:
    try:
        parts = urlsplit(text)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def _acting_as(user: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the headers by which somebody acts as somebody else, as kubectl sends them."""
    if user.get("as"):
        yield "Impersonate-User", str(user["as"])
        if user.get("as-uid"):
            yield "Impersonate-Uid", str(user["as-uid"])
        for group in user.get("as-groups") or ():
            yield "Impersonate-Group", str(group)


def _require_trusted(file: Path, user: User) -> None:
    """Raise Refused where root would run a program that somebody else has named, or send a file as a token."""
    if user.exec is not None:
        named = f"a program to run as root ('{user.exec.command}')"
    elif user.token_file is not None:
        named = f"a file that root is to send as its token ('{user.token_file}')"
    else:
        return
    if os.geteuid() != 0:
        return
    who = other_writer(file.stat()) or other_adder(file.resolve().parent.stat())
    if who is not None:
        raise Refused(
            f"cannot use the kubeconfig '{file}': it names {named}, and {who} can write to it",
            hint="ask again without sudo; or give root a kubeconfig of its own",
        )

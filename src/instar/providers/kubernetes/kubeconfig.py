"""Which cluster a context means, and by which credentials: read from the kubeconfig, or from inside a cluster.

``KUBECONFIG`` may name several files, as kubectl has it: the first one that has the context counts. What is in a
kubeconfig is this machine's: a definition only names a context.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from instar.errors import ComponentMissing, Refused
from instar.permissions import other_adder, other_writer

if TYPE_CHECKING:
    from lightkube import KubeConfig, SingleConfig

SERVICE_ACCOUNT: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount")


def find_config(context: str | None, environ: Mapping[str, str]) -> SingleConfig:
    """Return the cluster, the credentials and the namespace that ``context`` means; None: the one of the cluster that
    this runs in, else the kubeconfig's current one.

    Raises ComponentMissing where there is no kubeconfig, Refused for a context that is not in it.
    """
    if context is None and "KUBERNETES_SERVICE_HOST" in environ and (SERVICE_ACCOUNT / "token").exists():
        return _single(_in_cluster(), None, str(SERVICE_ACCOUNT))
    files = _files(environ)
    found = [(file, _read(file)) for file in files if file.is_file()]
    if not found:
        where = ", ".join(f"'{file}'" for file in files)
        raise ComponentMissing(
            f"cannot find a cluster: there is no kubeconfig at {where}",
            hint="get one from whoever runs the cluster, and name it in KUBECONFIG (under sudo: sudo KUBECONFIG=…)",
        )
    known = [name for _, config in found for name in config.contexts]
    for file, config in found:
        if (context or config.current_context) in config.contexts:
            single = _single(config, context, str(file))
            _require_trusted(file, single)
            return single
    wanted = f"the context '{context}'" if context else "a current context"
    raise Refused(
        f"cannot find {wanted} in {', '.join(str(file) for file, _ in found)}",
        hint=f"kubernetes.context is one of: {', '.join(sorted(set(known))) or 'none is there'}",
    )


def _files(environ: Mapping[str, str]) -> list[Path]:
    named = [Path(part) for part in environ.get("KUBECONFIG", "").split(os.pathsep) if part]
    return named or [Path(environ.get("HOME") or "/") / ".kube" / "config"]


def _read(file: Path) -> KubeConfig:
    import yaml
    from lightkube import KubeConfig

    try:
        found: Any = yaml.safe_load(file.read_text("utf-8"))
        # a file that was emptied by "kubectl config unset" has null where there were lists
        lists = {name: found.get(name) or [] for name in ("clusters", "contexts", "users")}
        return KubeConfig.from_dict({**found, **lists}, fname=file)
    except OSError as error:
        raise Refused(f"cannot read the kubeconfig '{file}': {error.strerror}") from error
    except Exception as error:  # a file of somebody else's may be wrong in more ways than the library has names for
        cause = " ".join(str(error).split())[:200] or type(error).__name__
        raise Refused(f"cannot read the kubeconfig '{file}': {cause}", hint="kubectl config view shows it") from error


def _in_cluster() -> KubeConfig:
    from lightkube import KubeConfig

    return KubeConfig.from_service_account(SERVICE_ACCOUNT)


def _single(config: KubeConfig, context: str | None, where: str) -> SingleConfig:
    try:
        found = config.get(context)
    except KeyError as error:
        raise Refused(
            f"cannot use the context '{context or config.current_context}' of {where}: it names {error}, which is not "
            "there",
            hint="kubectl config view shows what is",
        ) from error
    assert found is not None
    return found


def _require_trusted(file: Path, config: SingleConfig) -> None:
    """Raise Refused where root would run a program that somebody else has named."""
    if os.geteuid() != 0 or config.user is None or config.user.exec is None:
        return
    who = other_writer(file.stat()) or other_adder(file.resolve().parent.stat())
    if who is not None:
        raise Refused(
            f"cannot use the kubeconfig '{file}': it names a program to run as root ('{config.user.exec.command}'), "
            f"and {who} can write to it",
            hint="ask again without sudo; or give root a kubeconfig of its own",
        )

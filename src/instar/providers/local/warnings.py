"""What on this machine will get in an instance's way, said for people with what to do about it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Network

from instar.errors import InstarError
from instar.host.isolation import chroots
from instar.host.network import barriers, network, resolver
from instar.providers.local import record
from instar.providers.local.names import Names

_ANSWER_S = 0.5
_NAMED = 4
_TRUSTED_S = 600.0


def warnings(names: Names, subnet: IPv4Network | None, owners_stay: str | None) -> tuple[str, ...]:
    """Return the warnings. Asks the name servers at most every ten minutes, as long as they answer."""
    return (
        *_chroot(),
        *_firewall(names),
        *_resolver(names),
        *_subnet(names, subnet),
        *_users(owners_stay),
        *_older(names),
    )


def _chroot() -> Iterator[str]:
    if chroots.is_chrooted():
        yield (
            "Instar runs in a chroot: commands in instances (run, shell, 'health.command') are refused, since they "
            "would run outside of it; enter it by pivot_root, as systemd-nspawn and containers do"
        )


def _firewall(names: Names) -> Iterator[str]:
    with contextlib.suppress(InstarError):  # doctor says that nft is missing
        for barrier in barriers.barriers(names.bridge):
            yield (
                f"{barrier.what} on this machine drops what instances send to the world "
                f"(requests to them are not affected); allow it with: {' && '.join(barrier.allow)}"
            )


def _resolver(names: Names) -> Iterator[str]:
    servers = resolver.of_machine().servers
    if not servers:
        yield (
            f"{resolver.CONFIGURATION} names no server that an instance could ask (a loopback address is the "
            "instance's own inside): instances cannot look names up"
        )
    elif not _answered_lately(names) and not _answer_now(names, servers):
        listed = ", ".join(map(str, servers))
        yield f"none of this machine's name servers ({listed}) answers: instances cannot look names up"


def _subnet(names: Names, subnet: IPv4Network | None) -> Iterator[str]:
    if subnet and (cause := network.overlap(subnet, names.bridge)):
        yield (
            f"the instances' network {subnet} overlaps another: {cause}; to move it, destroy every environment, "
            f"remove {names.network_file}, and choose with INSTAR_SUBNET"
        )


def _older(names: Names) -> Iterator[str]:
    """Say what an upgrade changes for whom, as long as it has not changed it."""
    found = sorted(name for name, intent in record.all_intents(names).items() if intent and intent.guest is None)
    if found:
        shown = ", ".join(found[:_NAMED]) + (f" and {len(found) - _NAMED} more" if len(found) > _NAMED else "")
        yield (
            f"instances of an older Instar ({shown}) reach one another and this machine as before; those that follow "
            "them reach only what environments.NAME.network.allow says, besides the world"
        )


def _users(owners_stay: str | None) -> Iterator[str]:
    if owners_stay is not None:
        yield f"instances have no user namespace: {owners_stay}"


def _answered_lately(names: Names) -> bool:
    with contextlib.suppress(OSError):
        return 0 <= time.time() - (names.state.run / "resolver-answered").stat().st_mtime < _TRUSTED_S
    return False


def _answer_now(names: Names, servers: tuple[IPv4Address, ...]) -> bool:
    if not resolver.answers(servers, _ANSWER_S):
        return False
    with contextlib.suppress(OSError):
        (names.state.run / "resolver-answered").touch()
    return True

"""What instances use of this machine: their groups say it, and the host's sides of their links."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from instar.host.kernel.group_usage import usage
from instar.host.network.traffic import LinkTraffic, traffic
from instar.model.usage import Measured, MemberUsage, Usage
from instar.providers.local.names import InstanceNames


def measure(instances: Sequence[InstanceNames]) -> Measured:
    """Return what each uses; nothing of one of which nothing is left."""
    links = traffic()
    found = ((one.name, _usage(one, links)) for one in instances)
    return Measured(members=tuple(MemberUsage(name=name, group=name, usage=one) for name, one in found if one))


def _usage(names: InstanceNames, links: Mapping[str, LinkTraffic]) -> Usage | None:
    """Return what an instance uses: it has sent what its link on this side has received."""
    group, link = usage(names.group), links.get(names.link)
    if group.time_us is None and group.memory_bytes is None and link is None:
        return None
    return Usage(
        processor_us=group.time_us,
        memory_bytes=group.memory_bytes,
        cache_bytes=group.cache_bytes,
        limit_bytes=group.limit_bytes,
        processes=group.processes,
        received_bytes=link.sent_bytes if link else None,
        sent_bytes=link.received_bytes if link else None,
    )

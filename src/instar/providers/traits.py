"""What kinds of providers there are: values that a provider says of itself before it is asked for anything."""

from __future__ import annotations

from instar.frozen import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Traits:
    """What kind of a provider it is: all that ``control`` knows of whatever runs the groups.

    ``heals``: members that end or do not answer are replaced by the engine, and by nobody else. ``waits_to_begin``: a
    group can be made without being begun. ``heaviest_weight``: the heaviest that a group can have, at least 100.
    ``poll_s``: how soon it may be asked again. ``unseen_s``: for so long a look may not show yet what was done.
    ``needs_root``: who asks it for anything has to be root on this machine. ``of_one_machine``: what it runs, only the
    machine that began it can act on, whoever shares its ledger. ``passes_names``: requests get to its groups by name
    without an edge of a machine, and what passes them there has the certificates.
    ``judges``: it can judge a canary, by figures if an environment's settings say who has them.
    ``scales``: it has an autoscaler, which may have a group have more members than it was made with.
    ``network_of_release``: what instances may reach is made with them, and part of a release.
    ``finds_names``: its instances can find other environments of its own by name, whose addresses stay what they are;
    ``finds_roles``: and each role of these that has a port.
    ``sees_sessions``: it is known how many requests a group has in flight.
    ``volume_bytes``: how large a volume is made of which no size is said, and none grows by its size later; None: one
    holds as much as the disk does.
    ``patience_s``: for so long at least it is asked again when it says "not now", or nothing, whatever a release says.
    """

    heals: bool = False
    waits_to_begin: bool = True
    heaviest_weight: int = 256
    poll_s: float = 0.02
    unseen_s: float = 0.0
    needs_root: bool = True
    of_one_machine: bool = True
    passes_names: bool = False
    network_of_release: bool = False
    scales: bool = False
    judges: bool = False
    finds_names: bool = False
    finds_roles: bool = False
    sees_sessions: bool = True
    volume_bytes: int | None = None
    patience_s: float = 0.0

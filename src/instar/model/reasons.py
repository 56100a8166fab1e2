"""Why the entries of a lock are there: from what was asked for, along what each needs."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from instar.model.control import is_essential
from instar.model.lock import ASKED, ESSENTIAL, Why, needed_by, parent

# Essential packages depend on "usrmerge | usr-is-merged". The first converts an installed system, with the whole of
# Perl; a tree that was merged from its first file on needs only the second.
MERGED = "usr-is-merged"


def package_roots(
    controls: Mapping[str, Mapping[str, str]], asked: Collection[str], *, is_base: bool = True
) -> dict[str, Why]:
    """Return why those packages are there that need no other reason: ``asked`` for, or, where the base is made of them
    (``is_base``), of every Debian."""
    if not is_base:
        return dict.fromkeys(asked, ASKED)
    essential = {name: ESSENTIAL for name, control in controls.items() if name == MERGED or is_essential(control)}
    return {**dict.fromkeys(asked, ASKED), **essential}


def explain(roots: Mapping[str, Why], needs: Mapping[str, Collection[str]]) -> dict[str, Why]:
    """Return why each entry is there that can be reached from ``roots``: by the shortest way, then by name.

    ``needs`` has every entry and the names of those that it needs.
    """
    found = {name: roots[name] for name in sorted(roots) if name in needs}
    waiting = list(found)
    for name in waiting:
        for needed in sorted(needs[name]):
            if needed in needs and needed not in found:
                found[needed] = needed_by(name)
                waiting.append(needed)
    return found


def groundless(reasons: Mapping[str, Why | None], roots: Mapping[Why, Collection[str]]) -> tuple[str, ...]:
    """Return the names whose reasons lead to nothing that was asked for. ``roots`` are those that may say so.

    One of which it is not written down why it is there is taken as it is.
    """
    below: dict[str, list[str]] = {}
    waiting = list[str]()
    for name, why in reasons.items():
        above = parent(why) if why is not None else None
        if above is not None:
            below.setdefault(above, []).append(name)
        elif why is None or name in roots.get(why, ()):
            waiting.append(name)
    for name in waiting:
        waiting.extend(below.get(name, ()))
    return tuple(sorted(reasons.keys() - set(waiting)))

"""What Instar's tags hold in a registry."""

from __future__ import annotations

from typing import Any

from instar.model.held import HeldImage, HeldImages, read_tag
from instar.views.page import Page, Table


def held_json(found: HeldImages) -> dict[str, Any]:
    return {
        "name": str(found.repository),
        "other_tags": found.other_tags,
        "done": found.done,
        "tags": [
            {
                "tag": one.tag,
                "digest": one.digest,
                "state": one.state,
                "releases": one.releases,
                "change": one.change or None,
                "stays": one.stays or None,
            }
            for one in found.images
        ],
    }


def held_page(found: HeldImages) -> Page:
    if found.images:
        rows = [(one.tag, _change(one, found), _why(one)) for one in found.images]
        yield Table(rows=rows, header=("TAG", "", "WHY"))
    changes = [one.change for one in found.images if one.change]
    told = {
        (False, False): "nothing is to change",
        (False, True): "nothing was changed",
        (True, False): f"would put {changes.count('put')} and remove {changes.count('removed')}: with --yes",
        (True, True): f"put {changes.count('put')}, removed {changes.count('removed')}",
    }
    yield f"{found.repository}: {told[bool(changes), found.done]}; {found.other_tags} other tags stay"
    if "removed" in changes:
        yield "not known are machines with another ledger that pull from there and may not tag what they run"


def _change(one: HeldImage, found: HeldImages) -> str:
    if one.change == "put":
        return "put" if found.done else "to put"
    if one.change == "removed":
        return "removed" if found.done else "to go"
    return "stays"


def _why(one: HeldImage) -> str:
    if one.stays:
        return f"no release here needs it, but {one.stays}"
    _, holder = read_tag(one.tag) or ("", "")
    return {
        "needed": ", ".join(one.releases),
        "unneeded": "no release here needs it any more",
        "unreleased": "never released here: it may have been pushed for others",
        "others": "held by another ledger" if holder else "names no ledger: who pushed it had released nothing yet",
    }[one.state]

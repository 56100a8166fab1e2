"""What is due of a schedule is one Job, called after its entry and its time: of two that begin it, one is refused.

Whoever is refused takes the one that is there for its own, if it is of the same ledger, entry and time: its end is the
end of both. Anybody who may make Jobs can write that on one, and so keep it from being begun.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from instar.model.release import Instance
from instar.providers.kubernetes.api import Api
from instar.providers.kubernetes.kinds import CONFIG_MAP, JOB
from instar.providers.kubernetes.names import OCCURRENCE, Names, group_of, job_name
from instar.providers.kubernetes.settings import Place


def is_of_same_occurrence(job: Mapping[str, Any], group: Instance) -> bool:
    """Tell whether a Job of the same ledger is what a group is to run: that occurrence was begun already."""
    metadata = job["metadata"]
    told = (metadata.get("annotations") or {}).get(OCCURRENCE)
    is_named_so = metadata.get("name") == job_name(group) != group.id
    return is_named_so and group_of(job) != group.id and told == group.task


def find_other_anchor(api: Api, names: Names, place: Place, group: Instance) -> str | None:
    """Return the anchor of what somebody else began of the same occurrence; None: nobody did. A Job alone, whose labels
    anybody can write, names none."""
    name = job_name(group)
    job = None if name == group.id else api.find(JOB, place.namespace, name)
    if job is None or not names.owns(job) or not is_of_same_occurrence(job, group):
        return None
    anchor = api.find(CONFIG_MAP, place.namespace, group_of(job))
    if anchor is None or not names.owns(anchor) or (anchor.get("data") or {}).get("task") != group.task:
        return None
    owners = job["metadata"].get("ownerReferences") or ()
    is_its = any(one.get("uid") == anchor["metadata"]["uid"] for one in owners)
    return str(anchor["metadata"]["name"]) if is_its else None

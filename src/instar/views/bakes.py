"""Bakes and locks, as JSON and as pages."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from instar.definition.problems import listed
from instar.model.architectures import platform_of
from instar.views.page import Page

if TYPE_CHECKING:
    from instar.adopt import CarriedOver
    from instar.bake.baking import Baked, BakedDefinition
    from instar.bake.checking import BakeCheck
    from instar.bake.slim.left_out import LeftOut
    from instar.model.image import Image
    from instar.model.lock import Artifact, Locked


def baked_json(baked: Baked) -> dict[str, Any]:
    """``stages``: the layers of those that were needed, by their names; ``layers`` are the image's."""
    stages = {name: _layers(baked, name) for name in dict.fromkeys(step.stage for step in baked.steps if step.stage)}
    return {
        "digest": baked.image.digest,
        "cached": all(step.cached for step in baked.steps),
        "seconds": round(baked.seconds, 3),
        "layers": _layers(baked, None),
        **({"stages": stages} if stages else {}),
        **({"left_out": _left_out(baked.left_out)} if baked.left_out else {}),
    }


def _left_out(left: LeftOut) -> dict[str, Any]:
    return {"files": left.files, "size": left.size_bytes, "list": str(left.listed)}


def baked_all_json(done: Sequence[BakedDefinition]) -> list[dict[str, Any]]:
    return [
        {"file": str(one.file), **(baked_json(one.baked) if one.baked else {"error": _failure(one)})} for one in done
    ]


def baked_all_page(done: Sequence[BakedDefinition]) -> Page:
    """First those that are baked, by their digests, and then those that are not."""
    yield from (f"{one.baked.image.digest}  {one.file}" for one in done if one.baked)
    failed = [one for one in done if one.failure]
    for one in failed:
        yield f"failed: {one.file}: {_failure(one)}"
    if failed:
        yield f"{len(failed)} of {len(done)} could not be baked"


def _failure(one: BakedDefinition) -> str:
    return one.failure.message if one.failure else ""


def baked_platforms_json(image: Image, platforms: Mapping[str, Baked]) -> dict[str, Any]:
    """``digest`` is that of the image for all of them."""
    return {"digest": image.digest, "platforms": {name: baked_json(one) for name, one in platforms.items()}}


def _layers(baked: Baked, stage: str | None) -> list[dict[str, Any]]:
    return [
        {
            "step": step.step,
            "digest": step.layer.digest,
            "diff_id": step.layer.diff_id,
            "size": step.layer.size_bytes,
            "cached": step.cached,
            **({"why": step.why} if step.why else {}),
        }
        for step in baked.steps
        if step.stage == stage
    ]


def bake_check_json(checked: BakeCheck) -> dict[str, Any]:
    return {
        "digest": checked.baked.image.digest,
        "same": not checked.differences,
        "differ": checked.differences,
    }


def bake_check_page(checked: BakeCheck) -> Page:
    for one in checked.differences:
        yield f"{one.step}: {one.path}: {one.why}"
    yield str(checked.baked.image.digest)


def carried_over_page(carried: CarriedOver) -> Page:
    yield f"wrote {carried.path}"
    for where, why in carried.left:
        yield f"left: {where}"
        yield f"      {why}"
    for problem in carried.problems:
        yield f"to mend: {problem}"
    yield (
        "next: look at it, then instar validate" if carried.problems or carried.left else "next: sudo instar deploy dev"
    )


def locked_json(locked: Locked) -> dict[str, Any]:
    counts = {"packages": len(locked.lock.packages), "wheels": len(locked.lock.wheels)}
    if artifacts := _artifacts(locked):
        counts |= {"artifacts": len(artifacts)}
    stages = {"stages": sorted(locked.lock.build)} if locked.lock.build else {}
    stages |= {"platforms": _platforms(locked)} if locked.lock.platforms else {}
    return {"lock": str(locked.path), **counts, **stages, "changed": locked.changed, "changes": list(locked.changes)}


def locked_page(locked: Locked) -> Page:
    yield from locked.changes
    state = "wrote" if locked.changed else "unchanged:"
    wheels = f"{len(locked.lock.wheels)} wheels{_others(locked)}"
    stages = f"; and for {listed(sorted(locked.lock.build), 'and')}" if locked.lock.build else ""
    platforms = f"; for each of {listed(_platforms(locked), 'and')}" if locked.lock.platforms else ""
    yield f"{state} {locked.path}: {len(locked.lock.packages)} packages, {wheels}{stages}{platforms}"


def _platforms(locked: Locked) -> list[str]:
    return [platform_of(locked.lock.architecture), *locked.lock.platforms]


def lock_check_json(path: Path, differences: tuple[str, ...]) -> dict[str, Any]:
    return {"lock": str(path), "clean": not differences, "differences": [line.strip() for line in differences]}


def _artifacts(locked: Locked) -> frozenset[Artifact]:
    """Return those of the image and of its stages."""
    return frozenset(
        one for lock in locked.lock.whole for part in (lock, *lock.build.values()) for one in part.artifacts
    )


def _others(locked: Locked) -> str:
    counts = Counter(one.ecosystem for one in _artifacts(locked))
    return "".join(f", {count} of {name}" for name, count in sorted(counts.items()))


def lock_check_page(path: Path, differences: tuple[str, ...]) -> Page:
    yield from differences
    if differences:
        yield f"{path} differs from a fresh resolution; to take the newest of everything: instar lock --update"
    else:
        yield f"{path} matches a fresh resolution"

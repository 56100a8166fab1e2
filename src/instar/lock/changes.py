"""What moved between two locks, for people."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Literal

from instar.frozen import dataclass
from instar.model.architectures import platform_of
from instar.model.digest import Digest
from instar.model.lock import BASE, Artifact, BaseImage, Lock, Package, Wheel


@dataclass(frozen=True, kw_only=True, slots=True)
class Change:
    """One package or wheel that moved, of the image or of a ``stage`` of its build; ``platform``: of one besides the
    first.

    ``security``: its new version is from the release's security suite. ``beneath``: the base has it installed. A
    version that stayed may have another file: then ``old`` and ``new`` are the same, and the hashes are not.
    """

    what: Literal["package", "wheel", "artifact", "base"]
    kind: Literal["added", "removed", "changed"]
    name: str
    old: str | None = None
    new: str | None = None
    security: bool = False
    old_sha256: str | None = None
    new_sha256: str | None = None
    stage: str | None = None
    beneath: bool = False
    platform: str | None = None

    def __str__(self) -> str:
        told = f"{self._sentence()}  (of the base)" if self.beneath else self._sentence()
        return _of_part(told, self.stage, self.platform)

    @property
    def moved(self) -> tuple[str | bool | None, ...]:
        """What is the same where the same moved on another platform, too: there every version has files of its own."""
        files = (self.old_sha256, self.new_sha256) if self.old == self.new else ()
        return self.what, self.kind, self.name, self.old, self.new, self.stage, self.beneath, *files

    def _sentence(self) -> str:
        if self.old == self.new:
            return f"  {self.name} {self.new}: another file, SHA-256 {self.old_sha256} → {self.new_sha256}"
        moved = {"added": f"+ {self.name} {self.new}", "removed": f"- {self.name} {self.old}"}
        text = moved.get(self.kind, f"  {self.name} {self.old} → {self.new}")
        return f"{text}  (security)" if self.security else text


def changes(old: Lock | None, new: Lock) -> tuple[Change, ...]:
    """Return what moved from ``old`` to ``new``: the base, packages, wheels and others, each by name; of the image
    before the stages, of the first platform before the others. What moved on each of them stands there once."""
    found: dict[tuple[str | bool | None, ...], Change] = {}
    for stage, platform, before, now in _parts(old, new):
        secured = {one.name for one in now.packages if one.suite.endswith("-security")} if now else set[str]()
        packages = _changes("package", before.packages if before else (), now.packages if now else (), secured)
        wheels = _changes("wheel", before.wheels if before else (), now.wheels if now else (), set())
        others = _artifact_changes(before.artifacts if before else (), now.artifacts if now else ())
        base = (*_base_changes(before.base if before else None, now.base if now else None), *_beneath(before, now))
        for change in (*base, *packages, *wheels, *others):
            one = dataclasses.replace(change, stage=stage, platform=platform)
            found.setdefault(one.moved, one)
    return tuple(found.values())


def differences(old: Lock, new: Lock) -> tuple[str, ...]:
    """Return all that ``new`` says otherwise of what is in both, or has not in common with ``old``: lines for people.

    When the archives were published, whose the locks are and how they are baked is no difference.
    """
    found = [str(change) for change in changes(old, new)]
    for stage, platform, before, now in _parts(old, new):
        if before and now:
            lines = [*_otherwise(before.packages, now.packages), *_otherwise(before.wheels, now.wheels)]
            if before.base and now.base and before.base != now.base and before.base.key == now.base.key:
                lines.append("  the base has other layers or another environment than the lock says")
            if before.python != now.python:
                lines.append(f"  python {before.python} → {now.python}")
            found += [_of_part(line, stage, platform) for line in lines]
    return tuple(found)


def _of_part(text: str, stage: str | None, platform: str | None) -> str:
    parts = [*([f"build.{stage}"] if stage is not None else []), *([platform] if platform is not None else [])]
    return f"{text}  ({', '.join(parts)})" if parts else text


def _base_changes(before: BaseImage | None, now: BaseImage | None) -> Iterator[Change]:
    if before is None or now is None or before.key == now.key:
        return
    old, new = (Digest(one.key).short for one in (before, now))
    yield Change(what="base", kind="changed", name=BASE, old=old, new=new, old_sha256=before.key, new_sha256=now.key)


def _beneath(before: Lock | None, now: Lock | None) -> Iterator[Change]:
    """Yield what the base had installed when it was locked, and has otherwise now."""
    if before is None or now is None or before.installed is None or now.installed is None:
        return
    then, has = before.installed.versions, now.installed.versions
    for name in sorted(then.keys() | has.keys()):
        if then.get(name) != has.get(name):
            yield Change(
                what="base",
                kind="added" if name not in then else "removed" if name not in has else "changed",
                name=name,
                old=then.get(name),
                new=has.get(name),
                beneath=True,
            )


def _parts(old: Lock | None, new: Lock) -> Iterator[tuple[str | None, str | None, Lock | None, Lock | None]]:
    """Yield what was and what is locked for the image, and for each stage of either; then for each platform of either
    besides that which ``new`` has first, with its name."""
    first = platform_of(new.architecture)
    then = (old.find_platform(first) or (old if not old.platforms else None)) if old else None
    yield from _stages(None, then, new)
    names = {*new.platforms, *(old.platforms if old else ())}
    if old is not None and (new.platforms or old.platforms):
        names.add(platform_of(old.architecture))
    for name in sorted(names - {first}):
        yield from _stages(name, old.find_platform(name) if old else None, new.find_platform(name))


def _stages(
    platform: str | None, old: Lock | None, new: Lock | None
) -> Iterator[tuple[str | None, str | None, Lock | None, Lock | None]]:
    yield None, platform, old, new
    then, now = (lock.build if lock else {} for lock in (old, new))
    for stage in sorted(then.keys() | now.keys()):
        yield stage, platform, then.get(stage), now.get(stage)


def _otherwise(old: Sequence[Package | Wheel], new: Sequence[Package | Wheel]) -> Iterator[str]:
    """What a change does not say of one whose version stayed. A lock from before does not say why an entry is there."""
    before = {one.name: one for one in old}
    for one in new:
        was = before.get(one.name)
        if was is None or was.version != one.version:
            continue
        for field in dataclasses.fields(one):
            then, now = getattr(was, field.name), getattr(one, field.name)
            if then != now and then is not None and field.name != "sha256":
                yield f"  {one.name} {one.version}: {field.name} is '{then}' in the lock, and '{now}' now"


def _artifact_changes(old: Sequence[Artifact], new: Sequence[Artifact]) -> Iterator[Change]:
    """Yield what moved of other ecosystems. Several versions of one name may be there at once, each in its own right:
    only where one went and one came, it changed."""
    then, now = _by_name(old), _by_name(new)
    for ecosystem, name, kind in sorted(then.keys() | now.keys()):
        before, after = then.get((ecosystem, name, kind), {}), now.get((ecosystem, name, kind), {})
        gone = [version for version in before if after.get(version) != before[version]]
        come = [version for version in after if before.get(version) != after[version]]
        shown = f"{ecosystem} {name}{f' ({kind})' if kind else ''}"
        if len(gone) == len(come) == 1:
            yield Change(
                what="artifact",
                kind="changed",
                name=shown,
                old=gone[0],
                new=come[0],
                old_sha256=before[gone[0]],
                new_sha256=after[come[0]],
            )
            continue
        for version in gone:
            yield Change(what="artifact", kind="removed", name=shown, old=version, old_sha256=before[version])
        for version in come:
            yield Change(what="artifact", kind="added", name=shown, new=version, new_sha256=after[version])


def _by_name(artifacts: Sequence[Artifact]) -> dict[tuple[str, str, str], dict[str, str]]:
    found: dict[tuple[str, str, str], dict[str, str]] = {}
    for one in artifacts:
        found.setdefault((one.ecosystem, one.name, one.kind), {})[one.version] = one.sha256.hex
    return found


def _changes(
    what: Literal["package", "wheel"],
    old: Sequence[Package | Wheel],
    new: Sequence[Package | Wheel],
    secured: set[str],
) -> tuple[Change, ...]:
    then, now = {one.name: one for one in old}, {one.name: one for one in new}
    found = []
    for name in sorted(then.keys() | now.keys()):
        before, after = then.get(name), now.get(name)
        if before and after and (before.version, before.sha256) == (after.version, after.sha256):
            continue
        found.append(
            Change(
                what=what,
                kind="added" if before is None else "removed" if after is None else "changed",
                name=name,
                old=before.version if before else None,
                new=after.version if after else None,
                security=after is not None and name in secured,
                old_sha256=before.sha256.hex if before else None,
                new_sha256=after.sha256.hex if after else None,
            )
        )
    return tuple(found)

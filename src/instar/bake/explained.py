"""Why a step runs: what is different from the last bake of the same service on this machine.

STATE/steps/last/NAME.KEY.json holds, of the bake whose last step had that key, every step's key and the parts of its
input, each with what tells one from another. It is for people alone: no key and no layer depends on it, and where it
cannot be read, nothing is known of an earlier bake.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from instar import durable
from instar.bake.stages.takes import Take
from instar.bake.steps import VERSIONS, Step
from instar.frozen import dataclass
from instar.model.codec import canonical, from_json, parse
from instar.model.image_spec import STAGES
from instar.model.lock import Lock

_NAMED: Final = 3
_KEY_CHARACTERS: Final = 32
_LAYER_GONE = "its layer is no longer in the store"


@dataclass(frozen=True, kw_only=True, slots=True)
class StepBefore:
    """A step of the last bake; ``parts``: what its input is made of → what tells that from another."""

    kind: str
    key: str
    parts: Mapping[str, str]


@dataclass(frozen=True, kw_only=True, slots=True)
class BakeBefore:
    bake_format: int
    architecture: str
    epoch: int
    instar: Mapping[str, int]
    steps: tuple[StepBefore, ...]


def remember(folder: Path, name: str, steps: Sequence[Step], lock: Lock) -> None:
    """Keep what the steps of this bake were made of, where that is not what is kept already."""
    path = folder / "last" / f"{name}.{steps[-1].key[:_KEY_CHARACTERS]}.json"
    if path.exists():
        return
    with contextlib.suppress(OSError):  # nothing but an explanation depends on it
        path.parent.mkdir(mode=0o700, exist_ok=True)
        durable.write(path, canonical(_bake(steps, lock)), lasting=False)
        for other in path.parent.glob(f"{name}.*.json"):
            if other != path:
                other.unlink(missing_ok=True)


def explain(folder: Path, name: str, steps: Sequence[tuple[Step, bool]], lock: Lock) -> tuple[str, ...]:
    """Return a sentence for each step, with whether its layer is there already: why it runs; of one that does not, "".

    Raises nothing.
    """
    before = _last(folder, name)
    if before is None:
        service, at, _ = name.partition("@")
        cause = "no bake of this stage before is known here" if at else f"no bake of '{service}' before is known here"
        return tuple("" if known else _unknown(step) or cause for step, known in steps)
    now, old = _bake([step for step, _ in steps], lock), _numbered(before.steps)
    whole = "; ".join(_of_the_lock(before, now))
    told, otherwise = list[str](), whole
    for (which, one), (step, known) in zip(_numbered(now.steps).items(), steps, strict=True):
        then = old.get(which)
        told.append("" if known else _unknown(step) or _cause(one, then, otherwise))
        if not known:
            otherwise = f"'{step.full_name}' before it runs"
        elif not otherwise and (then is None or then.key != one.key):
            otherwise = f"'{step.full_name}' before it is another"
    return tuple(told)


def _unknown(step: Step) -> str:
    """Say what has to run before anybody knows whether this step has to; nothing where that is known."""
    stages = dict.fromkeys(f"'{STAGES}{take.stage}'" for take in step.takes if take.content is None)
    if stages or step.key:
        return f"what it takes out of {' and '.join(stages)} is not known before" if stages else ""
    return "a step before it takes out of a stage what is not known before"


def _cause(one: StepBefore, before: StepBefore | None, otherwise: str) -> str:
    if before is None:
        return "the last bake had no such step"
    if one.key == before.key:
        return _LAYER_GONE
    return "; ".join(_differences(before.parts, one.parts)) or otherwise or "a step before it was another"


def _of_the_lock(before: BakeBefore, now: BakeBefore) -> Iterator[str]:
    if now.bake_format != before.bake_format:
        yield f"the lock's bake format is {now.bake_format}, and was {before.bake_format}"
    if now.architecture != before.architecture:
        yield f"the lock is of {now.architecture}, and was of {before.architecture}"
    if now.epoch != before.epoch:
        yield "the lock has packages of newer archives"
    if now.instar != before.instar:
        yield "another Instar baked it"


def _differences(before: Mapping[str, str], now: Mapping[str, str]) -> Iterator[str]:
    changed = [name for name in now if name in before and now[name] != before[name]]
    yield from _named("changed", (_versions(name, before[name], now[name]) for name in changed), len(changed))
    for word, ones, others in (("new", now, before), ("gone", before, now)):
        names = [name for name in ones if name not in others]
        yield from _named(word, names, len(names))


def _versions(name: str, before: str, now: str) -> str:
    """Show a package with its versions; other parts are told apart by digests, which tell nobody anything."""
    old, new = before.partition(" ")[0], now.partition(" ")[0]
    return f"{name} {old} → {new}" if " " in now and old != new else name


def _named(word: str, names: Iterable[str], count: int) -> Iterator[str]:
    if count:
        shown = ", ".join(name for name, _ in zip(names, range(_NAMED), strict=False))
        yield f"{word}: {shown}" + (f" and {count - _NAMED} more" if count > _NAMED else "")


def _bake(steps: Sequence[Step], lock: Lock) -> BakeBefore:
    return BakeBefore(
        bake_format=lock.bake_format,
        architecture=lock.architecture,
        epoch=lock.epoch,
        instar=VERSIONS,
        steps=tuple(StepBefore(kind=step.kind, key=step.key, parts=dict(_parts(step))) for step in steps),
    )


def _parts(step: Step) -> Iterator[tuple[str, str]]:
    """Yield the parts of a step's input as people call them."""
    given = step.input
    if step.strip:
        yield "what is stripped", ",".join(step.strip)
    if step.kind in ("base", "packages"):
        yield from ((name, f"{version} {architecture} {sha256}") for name, version, architecture, sha256 in given)
    elif step.kind == "layer":
        yield "the image that it stands on", _digest(given)
    elif step.kind == "python":
        yield "the version of Python", given["python"]
        yield from ((filename, sha256) for filename, sha256 in given["wheels"])
    elif step.kind == "fetch":
        yield from ((str(to), _digest(sha256, to, *how)) for sha256, to, *how in given)
    elif step.kind == "npm":
        yield "how it is installed", _digest(given["use"], given["path"])
        yield from given["files"].items()
        yield from ((f"{name} {version}", _digest(sha256)) for name, version, _, sha256 in given["artifacts"])
    elif step.kind == "files":
        for entry, copy in zip(given, step.copies, strict=True):
            kept = (entry[name] for name in ("keep", "kept") if name in entry)
            yield f"how {entry['to']} is copied", _digest(entry["owner"], entry["mode"], *kept)
            if isinstance(copy, Take):
                yield f"{copy.path} of {STAGES}{copy.stage}", _digest(entry["taken"])
                continue
            for one in copy.found:
                path = f"{entry['to'].rstrip('/')}/{one.path}" if one.path else entry["to"]
                yield _shown(path), _digest(one.kind, _shown(one.content), one.executable)
    elif step.kind == "run":
        yield "its line", _digest(given["line"])
        if "offered" in given:
            yield "what go and cargo are offered", _digest(given["offered"])
        yield from ((f"the variable {name}", _digest(value)) for name, value in given["env"].items())
    else:
        yield f"the {step.kind}", _digest(given)


def _shown(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()


def _digest(*values: object) -> str:
    return hashlib.sha256(canonical(list(values))).hexdigest()[:_KEY_CHARACTERS]


def _numbered(steps: Iterable[StepBefore]) -> dict[tuple[str, int], StepBefore]:
    """Return steps by their kind, and which of that kind they are: there are several lines to run."""
    found = dict[tuple[str, int], StepBefore]()
    for one in steps:
        found[one.kind, sum(1 for kind, _ in found if kind == one.kind)] = one
    return found


def _last(folder: Path, name: str) -> BakeBefore | None:
    for path in sorted((folder / "last").glob(f"{name}.*.json"), key=lambda path: path.name):
        with contextlib.suppress(OSError, ValueError):
            return from_json(BakeBefore, parse(durable.read(path)))
    return None

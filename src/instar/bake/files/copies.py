"""What the step ``files`` copies, as it is planned: each entry of the definition with what was found for it.

The author's files are read for it, and nothing is written.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from instar.bake.files import sources
from instar.bake.files.excluded import Ignored, excluded, surprises
from instar.bake.files.ignore_file import read_ignore_file, unread
from instar.bake.files.kept import identity_of_kept
from instar.bake.files.sources import Copy
from instar.bake.stages.takes import Take
from instar.errors import BakeError, StepFailed
from instar.model.image_spec import NEW_UID, Files, ImageSpec, User

if TYPE_CHECKING:
    from instar.bake.files.excluded import DockerPatterns
    from instar.definition import Loaded
    from instar.definition.parts import ImagePart
    from instar.model.patterns import Patterns

_NAMED_SURPRISES = 3
_NOT_IN_MEMORY = 1 << 62  # of what a tmpfs may not hold: extended attributes
_NOT_BESIDE_NPM = ("node_modules", ".npmrc")  # the author's own, and what may have passwords in it


def plan_copies(part: ImagePart, bake_format: int) -> tuple[Copy | Take, ...]:
    """Return what each entry of ``files`` copies, in their order. Raises StepFailed, BakeError."""
    never, ignore = never_copied(part.loaded), _ignored(part) if part.made.files else None
    return tuple(
        _take(part, number, spec, bake_format)
        if spec.stage is not None
        else _copy(part, number, spec, never, ignore, bake_format)
        for number, spec in enumerate(part.made.files)
    )


def identity(copies: Iterable[Copy | Take]) -> list[dict[str, Any]]:
    """Return what the layer of these depends on, as the input of a step: of a stage, what is taken out of it alone."""
    return [
        {
            "to": copy.to,
            "owner": list(copy.owner) if copy.owner else "user",
            "mode": copy.mode,
            **({"taken": _known(copy)} if isinstance(copy, Take) else _found(copy)),
        }
        for copy in copies
    ]


def _known(take: Take) -> str | None:
    return take.content.digest if take.content else None


def _found(copy: Copy) -> dict[str, Any]:
    kept = {"keep": sorted(copy.keep), "kept": identity_of_kept(copy.found)} if copy.keep else {}
    return {"found": sources.identity(copy.found), **kept}


def size_in_memory_bytes(copies: Iterable[Copy | Take]) -> int:
    """Return what the copies take of a tmpfs."""
    return sum(_size_in_memory_bytes(copy) for copy in copies)


def _size_in_memory_bytes(copy: Copy | Take) -> int:
    if isinstance(copy, Take):
        return copy.content.size_bytes if copy.content else 0
    if any(found.kept.attributes for found in copy.found):
        return _NOT_IN_MEMORY
    return sum(sources.in_memory_bytes(found.size_bytes) for found in copy.found)


def surprises_of_format_1(copies: Sequence[Copy | Take], specs: Sequence[Files]) -> Iterator[str]:
    """Say what is copied although its author, who read ``exclude`` as .gitignore has it, believes that it is not."""
    for copy, spec in zip(copies, specs, strict=True):
        if isinstance(copy, Take):
            continue
        paths = [(found.path, found.kind == "directory") for found in copy.found]
        named = surprises(spec.exclude, paths) if spec.exclude else ()
        if named:
            shown = ", ".join(f"'{spec.source.rstrip('/')}/{path}'" for path in named[:_NAMED_SURPRISES])
            more = f" and {len(named) - _NAMED_SURPRISES} more" if len(named) > _NAMED_SURPRISES else ""
            yield (
                f"{copy.place}: {shown}{more} copied, though 'exclude' reads otherwise: in bake format 1 its patterns"
                " are not those of .gitignore; with format 2 they are: instar lock"
            )


def numbers_of_format_1(user: User) -> tuple[int, int]:
    """Return the numbers that bake format 1 gave a user, whatever a package said: both are the same."""
    uid = user.uid or NEW_UID
    if user.gid not in (None, uid):
        hint = "make a lock of format 2: instar lock"
        raise BakeError("cannot bake 'image.user': bake format 1 knows no 'gid'", hint=hint)
    return uid, uid


def surprises_of_docker(part: ImagePart, copies: Sequence[Copy | Take]) -> Iterator[str]:
    """Say what is copied although its author, who wrote a ``.dockerignore``, believes that it is not."""
    for told in unread(part.loaded.folder, part.made.ignore, part.made.files, copies):
        yield f"{part.place('files')}: {told}"


def _ignored(part: ImagePart) -> Patterns | DockerPatterns | None:
    """Return what the ignore file beside the definition leaves out, None where there is nothing of it."""
    try:
        return read_ignore_file(part.loaded.folder, part.made.ignore)
    except sources.UnusableFile as error:
        raise _failed(part, str(error), part.place("files")) from error


def _copy(
    part: ImagePart,
    number: int,
    spec: Files,
    never: frozenset[Path],
    ignore: Patterns | DockerPatterns | None,
    bake_format: int,
) -> Copy:
    place = part.place("files", number)
    exclude = excluded(spec.exclude, bake_format)
    if ignore is not None:
        exclude = Ignored(ignore, spec.source.rstrip("/"), exclude)
    try:
        origin, found = sources.find(part.loaded.folder, spec.source, exclude=exclude, never=never, keep=spec.keep)
    except sources.UnusableFile as error:
        raise _failed(part, str(error), place) from error
    owner = _owner(spec.owner, part, bake_format)
    return Copy(origin=origin, to=spec.to, owner=owner, mode=spec.mode, found=found, place=place, keep=spec.keep)


def _take(part: ImagePart, number: int, spec: Files, bake_format: int) -> Take:
    assert spec.stage is not None
    assert spec.path is not None
    return Take(
        stage=spec.stage,
        path=spec.path,
        exclude=spec.exclude,
        to=spec.to,
        owner=_owner(spec.owner, part, bake_format),
        mode=spec.mode,
        place=part.place("files", number),
        keep=tuple(sorted(spec.keep)),
    )


def _failed(part: ImagePart, cause: str, place: str) -> StepFailed:
    step = part.named("files")
    return StepFailed(f"cannot bake '{step}': {cause}", step=step, place=place, output="")


def _owner(text: str, part: ImagePart, bake_format: int) -> tuple[int, int] | None:
    """Return the numbers of an owner, which the definition has checked: root, the image's user, or numbers.

    None: the image's user, whose numbers the step before finds out. A stage has none.
    """
    if text == "root":
        return 0, 0
    if isinstance(part.made, ImageSpec) and text == part.made.user.name:
        return numbers_of_format_1(part.made.user) if bake_format == 1 else None
    uid, _, gid = text.partition(":")
    return int(uid), int(gid)


def never_copied(loaded: Loaded) -> frozenset[Path]:
    """Return the files that no image gets, whatever ``files`` says, as the directory entries that they are."""
    file = loaded.folder / Path(loaded.file).name
    named = {file, file.with_suffix(".lock"), *(loaded.folder / one for one in loaded.definition.config_files)}
    for environment in loaded.definition.environments.values():
        secrets = environment.secrets.values()
        own = (environment.tls.key_file, *(one.file for one in secrets), *(one.age for one in secrets))
        named.update(loaded.folder / file for file in own if file is not None)
    for made in (loaded.definition.image, *loaded.definition.build.values()):
        named.update(loaded.folder / npm.source / name for npm in made.npm for name in _NOT_BESIDE_NPM)
        for npm in made.npm:
            from instar.ecosystems.npm_workspaces import own_modules

            named.update(own_modules(loaded.folder, npm.source))
    return frozenset(path.parent.resolve() / path.name for path in named) | {path.resolve() for path in named}

"""The step ``slim`` as it is planned: what the definition says that runs in the image, and what is kept besides."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from instar.bake.image import environment
from instar.model.definition import Definition, Service
from instar.model.image_spec import ImageSpec
from instar.model.roles import path_of_role
from instar.model.slim import AT_THE_END

if TYPE_CHECKING:
    from instar.bake.scratch import Room
    from instar.definition.parts import ImagePart
    from instar.model.lock import Lock


def identity_of_slim(made: ImageSpec, definition: Definition, lock: Lock) -> dict[str, Any]:
    """Return the input of the step."""
    return {
        "commands": [words for _, words in _commands(definition)],
        "workdir": definition.service.workdir,
        "env": dict(environment(made, lock)),
        "keep": made.slim.keep if made.slim else (),
        "packages": sorted(made.packages),
        **({"without": without(made)} if without(made) else {}),
    }


def without(made: ImageSpec) -> tuple[str, ...]:
    """Return the tools without which the image is whole; none of a slim image, which has only what is needed."""
    return () if made.slim is not None else tuple(sorted(set(made.strip).intersection(AT_THE_END)))


def work_of_slim(part: ImagePart, made: ImageSpec, lock: Lock, kinds: tuple[str, ...], room: Room) -> None:
    """Do the work of the step, which stands on those of ``kinds``, from the lowest up. Raises StepFailed, OSError."""
    from instar.bake.slim.step import SlimImage, bake_slim

    definition, keep = part.loaded.definition, made.slim.keep if made.slim else ()
    places = part.loaded.places
    told = SlimImage(
        service=definition.name,
        commands=tuple((places.place_text(*path), words) for path, words in _commands(definition)),
        workdir=definition.service.workdir,
        env=environment(made, lock),
        port=definition.service.port,
        volumes=tuple({one.path: None for service in _everywhere(definition) for one in service.volumes}),
        keep=tuple((part.place("slim", "keep", number), path) for number, path in enumerate(keep)),
        packages=made.packages,
        without=without(made),
        kinds=kinds,
    )
    bake_slim(told, room)


def _commands(definition: Definition) -> Iterator[tuple[tuple[str | int, ...], tuple[str, ...]]]:
    """Yield what runs in instances of the image, each with where the definition says so; the service's own first, then
    what environments run in its place."""
    known = set[tuple[str, ...]]()
    for role, service in definition.services.items():
        for path, words in _commands_of(service):
            known.add(words)
            yield (*path_of_role(role), *path), words
    for name, services in definition.own_services.items():
        for service in services.values():
            for _, words in _commands_of(service):
                if words not in known:
                    known.add(words)
                    yield ("environments", name), words


def _everywhere(definition: Definition) -> Iterator[Service]:
    """Yield how instances run, whichever the environment."""
    yield from definition.services.values()
    for services in definition.own_services.values():
        yield from services.values()


def _commands_of(service: Service) -> Iterator[tuple[tuple[str | int, ...], tuple[str, ...]]]:
    yield ("command",), service.command
    if service.health.command:
        yield ("health", "command"), service.health.command
    for name, tasks in (("before", service.before), ("after", service.after)):
        yield from (((name, number, "command"), task.command) for number, task in enumerate(tasks))
    for number, check in enumerate(service.smoke):
        if check.command:
            yield ("smoke", number, "command"), check.command

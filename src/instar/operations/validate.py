"""``instar validate``: all that can be known to be wrong without a network, a lock or root."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Final

from instar.adopt.draft import looks_secret
from instar.definition import Loaded
from instar.definition.author_files import why_unusable
from instar.definition.base_definition import require_bases
from instar.definition.parts import parts_of, unneeded_stages
from instar.errors import DefinitionError, Problem
from instar.model.definition import Service
from instar.model.roles import path_of_role
from instar.operations.certificates import read_files
from instar.operations.lock import is_locked, whole_lock
from instar.operations.unfit import problems_of

_MAKING_CODE: Final = frozenset({"node", "nodejs", "java"})


def validate(loaded: Loaded) -> bool:
    """Check the files that a definition names, what the providers of its environments can give, and that its lock fits;
    return whether it has one.

    Raises DefinitionError, LockError.
    """
    problems = (*_missing(loaded), *problems_of(loaded)) or tuple(_unfit(loaded))
    if problems:
        raise DefinitionError(sorted(problems, key=lambda one: (one.file, one.line, one.column)))
    require_bases(loaded)
    locked = is_locked(loaded)
    if locked:
        whole_lock(loaded)
    return locked


def warnings(loaded: Loaded) -> Iterator[str]:
    """Yield what is no error and hardly what its author means."""
    yield from unneeded_stages(loaded)
    yield from _secret_in_config(loaded)
    for where, service in _services(loaded):
        program = next((word for word in service.command if PurePosixPath(word).name in _MAKING_CODE), None)
        if program is not None and not service.jit:
            yield (
                f"{where}: '{program}' makes code while it runs, of which instar drift tells: say 'jit: true' beside it"
            )


def _services(loaded: Loaded) -> Iterator[tuple[str, Service]]:
    """Yield how instances run, with where their command stands; of environments those that run another one."""
    places, definition = loaded.places, loaded.definition
    for role, service in definition.services.items():
        yield places.place_text(*path_of_role(role), "command"), service
    for name, services in definition.own_services.items():
        for role, service in services.items():
            if service.command != definition.services[role].command:
                yield places.place_text("environments", name), service


def _secret_in_config(loaded: Loaded) -> Iterator[str]:
    """Yield what a file of configuration has that looks like a secret, and is shown and kept as none."""
    for file, entries in loaded.places.config_files().items():
        for name, entry in entries.items():
            if looks_secret(name):
                advice = f"'secrets: {{{name}: {{file: secrets/{name.lower()}}}}}' keeps it from being shown"
                yield f"{Path(loaded.file).parent / file}:{entry.line}: '{name}' looks like a secret; {advice}"


def _missing(loaded: Loaded) -> Iterator[Problem]:
    """Yield a problem for each file that a definition names and that isn't there, or could not be used."""
    for part in parts_of(loaded):
        own = ((number, files) for number, files in enumerate(part.made.files) if files.stage is None)
        for number, files in own:
            yield from _problem(
                loaded, _why_not_copied(loaded.folder, files.source), *part.path, "files", number, "from"
            )
        if part.made.python:
            yield from _problem(loaded, why_unusable(loaded.folder, part.made.python), *part.path, "python")
        for name, archive in part.made.archives.items():
            if archive.signed_by is not None:
                why = why_unusable(loaded.folder, archive.signed_by)
                yield from _problem(loaded, why, *part.path, "archives", name, "signed_by")
    for environment in loaded.definition.environments.values():
        for name, secret in environment.secrets.items():
            for key, secret_file in (("file", secret.file), ("age", secret.age)):
                why = why_unusable(loaded.folder, secret_file) if secret_file is not None else None
                yield from _problem(loaded, why, "environments", environment.name, "secrets", name, key)
        for key, tls_file in (("certificate", environment.tls.certificate_file), ("key", environment.tls.key_file)):
            if tls_file is not None:
                where_tls = ("environments", environment.name, "tls", key)
                yield from _problem(loaded, why_unusable(loaded.folder, tls_file), *where_tls)


def _unfit(loaded: Loaded) -> Iterator[Problem]:
    """Yield what a deploy would say of certificates from files; nothing of such as only another user may read."""
    for environment in loaded.definition.environments.values():
        try:
            read_files(loaded, environment)
        except DefinitionError as error:
            if not isinstance(error.__cause__, PermissionError):
                yield from error.problems


def _problem(loaded: Loaded, message: str | None, *path: str | int) -> Iterator[Problem]:
    if message is not None:
        line, column = loaded.places.find(*path)
        yield Problem(file=loaded.file, line=line, column=column, message=message)


def _why_not_copied(folder: Path, source: str) -> str | None:
    """Say what is wrong with a source of ``files``, which may be a link, but to something in the same folder."""
    try:
        inside = (folder / source).resolve().is_relative_to(folder.resolve())
    except (OSError, RuntimeError):  # a ring of links
        inside = False
    if not inside:
        return f"'{source}' leads out of the definition's folder"
    return None if (folder / source).exists() else f"there is no '{source}' beside it"

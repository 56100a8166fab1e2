"""Which reader a file is for, and the draft that it makes of it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from instar.adopt.draft import Draft
from instar.definition.author_files import read_author_file
from instar.errors import Refused, UsageError

SOURCES: Final = "a Dockerfile, a compose file or a Procfile"
_LARGEST_BYTES: Final = 1 << 20
_DOCKERFILE: Final = re.compile(r"(?i)(docker|container)file(\..+)?|.+\.(docker|container)file")
_COMPOSE: Final = re.compile(r"(?i)(docker-)?compose[^/]*\.ya?ml")


def carry_over(path: Path, folder: Path, name: str, service: str | None = None) -> Draft:
    """Return what is made of the file at ``path`` for a definition in ``folder``. ``service``: of a compose file.

    Raises UsageError where it cannot be read, Refused where it is nothing of which a definition can be made.
    """
    from instar.adopt.compose import carry_compose
    from instar.adopt.dockerfile import carry_dockerfile
    from instar.adopt.procfile import carry_procfile

    try:
        data = read_author_file(path.parent, path.name, _LARGEST_BYTES)
    except OSError as error:
        raise UsageError(f"cannot read '{path}': {error.strerror}") from error
    try:
        text = data.decode()
        if _COMPOSE.fullmatch(path.name):
            return carry_compose(text, folder, name, path.name, service)
        if service is not None:
            raise ValueError("--service goes with a compose file")
        if _DOCKERFILE.fullmatch(path.name):
            return carry_dockerfile(text, folder, name, path.name)
        if path.name.lower() == "procfile":
            return carry_procfile(text, folder, name, path.name)
    except UnicodeDecodeError as error:
        raise Refused(f"cannot make a definition of '{path}': it is not UTF-8 text") from error
    except OSError as error:
        raise Refused(f"cannot read '{path}': {error.strerror}") from error
    except ValueError as error:
        raise Refused(f"cannot make a definition of '{path}': {error}") from error
    raise Refused(f"cannot make a definition of '{path}': it is not called like {SOURCES}")

"""What providers can print of an environment: ``instar PROVIDER DOCUMENT ENV``. Which there are, their packages say."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

from instar.cli import completing
from instar.cli.options import file_option, load_definition, workspace_for
from instar.cli.screen import say
from instar.entry_points import find_provider, provider_names
from instar.errors import ProviderMissing, UsageError

if TYPE_CHECKING:
    from instar.providers.package import Document


def providers_with_documents() -> tuple[str, ...]:
    """Return the names of the providers that can print something; one that is of no use is told of elsewhere."""
    return tuple(name for name in provider_names() if documents_of(name))


def documents_of(provider: str) -> Mapping[str, Document]:
    try:
        return getattr(find_provider(provider), "documents", None) or {}
    except ProviderMissing:
        return {}


def find_group(provider: str) -> click.Group | None:
    """Return the commands that print a provider's documents; None where it has none."""
    found = documents_of(provider) if provider in provider_names() else {}
    if not found:
        return None
    group = click.Group(provider, help=f"Print what '{provider}' makes of an environment. Nothing is changed.")
    for name, document in found.items():
        group.add_command(_command(provider, name, document))
    return group


def _command(provider: str, name: str, document: Document) -> click.Command:
    @click.command(name, help=document.about)
    @click.argument("environment", metavar="ENV", shell_complete=completing.environments)
    @click.option(
        "--image",
        metavar="IMAGE",
        help="Of this image in a registry, by its digest."
        if document.of_given
        else "Of this image instead of the definition's.",
        hidden=not (document.of_release or document.of_given),
        required=document.of_given,
    )
    @click.option("--out", type=click.Path(path_type=Path, file_okay=False), help="Write it to files in this folder.")
    @file_option
    def command(environment: str, image: str | None, out: Path | None, file: Path) -> int:
        from instar.operations.documents import document as make

        loaded = load_definition(file)
        texts = make(workspace_for(loaded, environment), loaded, environment, provider, document, image=image)
        if out is None:
            say("---\n".join(texts.values()).rstrip("\n"))
            return 0
        try:
            out.mkdir(parents=True, exist_ok=True)
            for one, text in texts.items():
                (out / one).write_text(text)
        except OSError as error:
            raise UsageError(f"cannot write to '{out}': {error.strerror}") from error
        say("\n".join(str(out / one) for one in texts))
        return 0

    return command

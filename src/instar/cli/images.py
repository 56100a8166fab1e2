"""Commands about the store: images, export, gc."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import click

from instar.cli import completing
from instar.cli.options import declared_registry, file_option, json_option, open_workspace
from instar.cli.screen import say, say_json, show


@click.group(cls=completing.Group, invoke_without_command=True)
@json_option
@click.pass_context
def images(ctx: click.Context, as_json: bool) -> None:
    """List, show and remove images in the store. (Without a subcommand: list.)"""
    if ctx.invoked_subcommand is None:
        ctx.invoke(list_images, as_json=as_json)
    elif as_json:
        raise click.UsageError(f"write --json after '{ctx.invoked_subcommand}'")


@images.command("list")
@json_option
def list_images(as_json: bool) -> None:
    """List the images, newest first, with the releases that need them."""
    from instar.operations.images import images as run
    from instar.views.images import images_json, images_page

    found = run(open_workspace(of_machine=True))
    if as_json:
        say_json(images_json(found))
    else:
        show(images_page(found))


@images.command("show")
@click.argument("image")
@json_option
def show_image(image: str, as_json: bool) -> None:
    """Show one image: IMAGE is a digest, the beginning of one, or a service's name (its newest bake)."""
    from instar.views.images import image_page

    found = open_workspace(of_machine=True).store.find(image)
    if as_json:
        say_json(found)
        return
    show(image_page(found))


@images.command("join")
@click.argument("image", nargs=-1, required=True)
@json_option
def join_images(image: tuple[str, ...], as_json: bool) -> None:
    """Make one image of several, each for another platform: an index over them, with a digest of its own.

    IMAGE is a digest, or the beginning of one: baked here, pulled or imported from a machine of the other kind; one is
    for this machine's. What is pushed, pulled, deployed and promoted is then the whole, under its own digest. It stays
    until the next gc, unless a release comes to need it.
    """
    from instar.operations.images import join as run
    from instar.views.images import joined_json

    if len(image) < 2:
        raise click.UsageError("write two images or more, each for another platform")
    joined = run(open_workspace(of_machine=True), image)
    if as_json:
        say_json(joined_json(joined))
    else:
        say(joined.digest)


@images.command("remove")
@click.argument("image")
def remove_image(image: str) -> None:
    """Remove an image that no release needs. Its layers go with the next gc."""
    from instar.operations.gc import remove_image as run

    say(f"removed {run(open_workspace(of_machine=True), image)}")


@click.command()
@click.argument("image")
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--compression",
    type=click.Choice(["zstd", "gzip"]),
    default="zstd",
    show_default=True,
    help="Of the layers; gzip is for tools that don't know zstd, and gives the image another digest.",
)
def export(image: str, file: Path, compression: Literal["zstd", "gzip"]) -> None:
    """Write an image to FILE as an OCI archive, which other tools read.

    IMAGE is a digest, the beginning of one, or a service's name (its newest bake).
    """
    store = open_workspace(of_machine=True).store
    found = store.find(image)
    digest = store.export(found.digest, file, compression=compression)
    say(f"wrote {file}: {digest}")


@click.command()
@click.option("--dry-run", is_flag=True, help="Show what would go; remove nothing.")
@click.option(
    "--all",
    "everything",
    is_flag=True,
    help="Also newest bakes of services without environments, downloads, and valid certificates that no name needs.",
)
@click.option(
    "--registry",
    "name",
    is_flag=False,
    flag_value="",
    metavar="[HOST/PATH]",
    help="Look at the tags of Instar's in a registry instead (without a name: the definition's 'registry').",
)
@click.option("--yes", is_flag=True, help="With --registry: remove there what nothing needs, and hold what is needed.")
@file_option
@json_option
def gc(dry_run: bool, everything: bool, name: str | None, yes: bool, file: Path, as_json: bool) -> None:
    """Remove images, layers, secrets, logs and fetched files that no kept release needs, and certificates that no name
    needs.

    Kept are all releases that run, the way back, those that are pinned, the newest keep.releases of each environment
    that ran well, the newest bake of each service, and certificates of ACME until they end.

    With --registry: show the tags by which images are held in a registry, with who needs them here; --yes removes those
    of images that were released by this machine's ledger and that no kept release needs. Everybody else's tags stay.
    """
    if name is not None:
        if (dry_run and yes) or everything:
            raise click.UsageError(
                "--registry shows what would go, or removes it with --yes; it goes with nothing else"
            )
        _in_registry(name, file, change=yes, as_json=as_json)
        return
    if yes:
        raise click.UsageError("--yes is for --registry")
    from instar.operations.gc import gc as run
    from instar.views.images import collection_json, collection_page

    collection = run(open_workspace(of_machine=True), dry_run=dry_run, everything=everything)
    if as_json:
        say_json(collection_json(collection))
    else:
        show(collection_page(collection, dry_run=dry_run))


def _in_registry(name: str, file: Path, *, change: bool, as_json: bool) -> None:
    from instar.model.reference import repository
    from instar.operations.held import held_images as run
    from instar.views.held import held_json, held_page

    named = name or declared_registry(file, "--registry HOST/PATH")
    try:
        found = run(open_workspace(of_machine=True), repository(named), change=change)
    except ValueError as error:
        raise click.UsageError(f"cannot look into '{named}': {error}") from error
    if as_json:
        say_json(held_json(found))
    else:
        show(held_page(found))

"""Commands about the store: images, export, gc."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import click

from instar.cli.options import json_option, open_workspace
from instar.cli.screen import say, say_json, show


@click.group(invoke_without_command=True)
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

    found = run(open_workspace())
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

    found = open_workspace().store.find(image)
    if as_json:
        say_json(found)
        return
    show(image_page(found))


@images.command("remove")
@click.argument("image")
def remove_image(image: str) -> None:
    """Remove an image that no release needs. Its layers go with the next gc."""
    from instar.operations.gc import remove_image as run

    say(f"removed {run(open_workspace(), image)}")


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
    store = open_workspace().store
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
@json_option
def gc(dry_run: bool, everything: bool, as_json: bool) -> None:
    """Remove images, layers, secrets, logs and fetched files that no kept release needs, and certificates that no name
    needs.

    Kept are all releases that run, the way back, those that are pinned, the newest keep.releases of each environment
    that ran well, the newest bake of each service, and certificates of ACME until they end.
    """
    from instar.operations.gc import gc as run
    from instar.views.images import collection_json, collection_page

    collection = run(open_workspace(), dry_run=dry_run, everything=everything)
    if as_json:
        say_json(collection_json(collection))
    else:
        show(collection_page(collection, dry_run=dry_run))

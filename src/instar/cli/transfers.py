"""Commands that bring images to registries and from them, and from files: push, pull, import."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from instar.cli.options import declared_registry, file_option, json_option, open_workspace
from instar.cli.screen import say, say_json, show

if TYPE_CHECKING:
    from instar.model.transfer import Transfer


@click.command()
@click.argument("image")
@click.argument("name", required=False)
@file_option
@json_option
def push(image: str, name: str | None, file: Path, as_json: bool) -> None:
    """Bring an image to a registry, under the digest that it has here.

    IMAGE is a digest, the beginning of one, or a service's name (its newest bake). NAME is HOST/PATH, such as
    registry.example.org/team/shop; without it, 'registry' of the definition. HOST/PATH:TAG also gives the image that
    tag there, as a label for people: Instar deploys digests only.

    Only what the registry has not got is sent. Who you are there is said by podman login, or docker login.
    """
    from instar.model.reference import tagged
    from instar.operations.transfers import push as run

    to = name or declared_registry(file, "IMAGE HOST/PATH")
    try:
        repository, tag = tagged(to)
    except ValueError as error:
        raise click.UsageError(f"cannot push to '{to}': {error}") from error
    _say(run(open_workspace(of_machine=True), image, repository, tag=tag), as_json=as_json)


@click.command()
@click.argument("reference", metavar="NAME@DIGEST")
@click.option("--all-platforms", is_flag=True, help="Also what an image for several platforms has for others.")
@json_option
def pull(reference: str, all_platforms: bool, as_json: bool) -> None:
    """Bring an image from a registry into the store. Every byte of it is checked by its digest.

    NAME@DIGEST is HOST/PATH@sha256:…, as push prints it. Only what is not here is fetched; what was cut off goes on
    where it ended. The image stays until the next gc, unless a release comes to need it.

    Of an image for several platforms comes what this machine's is, under the digest of the whole; to push it on or to
    export it takes all of them (--all-platforms).
    """
    from instar.model.reference import reference as read
    from instar.operations.transfers import pull as run

    try:
        what = read(reference)
    except ValueError as error:
        raise click.UsageError(f"cannot pull '{reference}': {error}") from error
    _say(run(open_workspace(of_machine=True), what, every_platform=all_platforms), as_json=as_json)


@click.command("import")
@click.argument("file", type=click.Path(path_type=Path, exists=True))
@click.option("--image", "which", metavar="NAME", help="Which of several images: its name, tag or digest in FILE.")
@json_option
def import_image(file: Path, which: str | None, as_json: bool) -> None:
    """Bring an image that another tool has written into the store.

    FILE is an OCI archive, the folder of an OCI image layout, or what docker save writes; an archive may be compressed
    by gzip or zstd. An OCI image keeps its digest; one of docker save gets one, the same on every machine. Nothing in
    FILE is trusted: every layer is unpacked, as guardedly as for an instance, before the image is in the store.
    """
    from instar.operations.transfers import import_image as run
    from instar.views.transfers import imported_json

    image = run(open_workspace(of_machine=True), file, which)
    if as_json:
        say_json(imported_json(image))
    else:
        say(image.digest)


def _say(done: Transfer, *, as_json: bool) -> None:
    from instar.views.transfers import transfer_json, transfer_page

    if as_json:
        say_json(transfer_json(done))
    else:
        show(transfer_page(done))

"""Commands about a definition: init, validate, schema, lock, bake. All but bake work without root."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from instar.cli.options import any_workspace, file_option, json_option, load_definition, open_workspace
from instar.cli.screen import Screen, say, say_json, show

if TYPE_CHECKING:
    from instar.definition import Loaded


@click.command()
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path), default=".")
@click.option("--name", help="The service's name; the folder's by default.")
@click.option(
    "--from", "source", type=click.Path(dir_okay=False, path_type=Path),
    help="Make it of a Dockerfile, a compose file or a Procfile, and say what could not be carried over.",
)  # fmt: skip
@click.option("--service", help="Of a compose file: which of its services.")
def init(folder: Path, name: str | None, source: Path | None, service: str | None) -> None:
    """Write a first definition, commented, that deploys as it is.

    FOLDER is where (default: here).
    """
    from instar.operations.init import init as write_starter
    from instar.operations.init import init_from, suggest_name
    from instar.views.bakes import carried_over_page

    chosen = name or suggest_name(folder)
    if source is not None:
        show(carried_over_page(init_from(source, folder, chosen, service)))
        return
    if service is not None:
        raise click.UsageError("--service goes with --from and a compose file")
    for path in write_starter(folder, chosen):
        say(f"wrote {path}")
    go = "" if folder.absolute() == Path.cwd() else f"cd {folder} && "
    say(f"next: {go}sudo instar deploy dev")


@click.command()
@file_option
def validate(file: Path) -> None:
    """Check a definition, that the files it names are there, that its environments' providers can give what it asks
    for, and that its lock fits; show all problems at once."""
    from instar.model.progress import Progress
    from instar.operations.validate import validate as check
    from instar.operations.validate import warnings

    loaded = load_definition(file)
    locked = check(loaded)
    for text in warnings(loaded):
        Screen()(Progress(stage="note", text=text, kind="warning"))
    name, environments = loaded.definition.name, ", ".join(loaded.definition.environments) or "none"
    note = "its lock fits" if locked else "not locked yet"
    is_service = bool(loaded.definition.service.command)
    what = f"service '{name}', environments: {environments}" if is_service else f"'{name}', for others to stand on"
    say(f"{file} is valid: {what}; {note}")


@click.command()
@click.option("--machine", is_flag=True, help="Of the machine's own file, /etc/instar/config.yaml, instead.")
def schema(machine: bool) -> None:
    """Print the JSON Schema of definitions, for editors to complete keys and mark mistakes.

    Once: instar schema >instar.schema.json, and as the first line of instar.yaml beside it:

    \b
      # yaml-language-server: $schema=instar.schema.json
    """
    from instar.definition.published import json_schema, machine_json_schema

    say_json(machine_json_schema() if machine else json_schema())


@click.command()
@file_option
@json_option
@click.option(
    "--update",
    is_flag=True,
    help="Take newer versions: of PACKAGE… ('base': of the image that it stands on), or of everything.",
)
@click.option("--check", is_flag=True, help="Resolve anew and say what differs from the lock; write nothing.")
@click.argument("packages", nargs=-1, metavar="[PACKAGE]...")
def lock(file: Path, as_json: bool, update: bool, check: bool, packages: tuple[str, ...]) -> int:
    """Resolve every outside input to exact versions and hashes, in instar.lock beside the definition.

    With --check: exit 2 when anything differs; with --update too, what newer versions there are.
    """
    from instar.operations.base_finder import base_finder
    from instar.operations.lock import lock as run
    from instar.operations.lock import user_cache
    from instar.operations.stage_sandbox import sandbox_opener
    from instar.views.bakes import locked_json, locked_page

    if packages and not update:
        raise click.UsageError("PACKAGE goes with --update")
    loaded = load_definition(file)
    wanted = frozenset(packages) or "all" if update else None
    if check:
        return _check_lock(loaded, wanted, as_json)  # type: ignore[arg-type]
    workspace = any_workspace()
    locked = run(
        loaded,
        cache=user_cache(),
        report=Screen(),
        update=wanted,  # type: ignore[arg-type]
        find_base=base_finder(workspace),
        open_sandbox=sandbox_opener(workspace),
    )
    if as_json:
        say_json(locked_json(locked))
    else:
        show(locked_page(locked))
    return 0


def _check_lock(loaded: Loaded, update: frozenset[str] | Literal["all"] | None, as_json: bool) -> int:
    from instar.operations.base_finder import base_finder
    from instar.operations.lock import check, lock_path, user_cache
    from instar.operations.stage_sandbox import sandbox_opener
    from instar.views.bakes import lock_check_json, lock_check_page

    workspace = any_workspace()
    find, sandbox = base_finder(workspace), sandbox_opener(workspace)
    found = check(loaded, cache=user_cache(), report=Screen(), update=update, find_base=find, open_sandbox=sandbox)
    path = lock_path(loaded)
    if as_json:
        say_json(lock_check_json(path, found))
    else:
        show(lock_check_page(path, found))
    return 2 if found else 0


@click.command()
@file_option
@json_option
@click.option(
    "--check", is_flag=True, help="Bake everything once more, elsewhere, and say which files differ (then: 2)."
)
@click.option(
    "--explain", is_flag=True, help="Say of each step that runs which of its inputs changed since the last bake."
)
@click.option(
    "--all-on", "base", type=click.Path(path_type=Path), metavar="BASE",
    help="Bake the definition BASE, and all below this folder that stand on it (base: {image: …}).",
)  # fmt: skip
@click.option(
    "--platform", metavar="PLATFORM",
    help="Bake for one of the definition's platforms, such as linux/arm64, instead of this machine's.",
)  # fmt: skip
@click.option(
    "--all-platforms", is_flag=True, help="Bake for all of the definition's platforms, as one image with one digest."
)
@click.pass_context
def bake(
    ctx: click.Context,
    file: Path,
    as_json: bool,
    check: bool,
    explain: bool,
    base: Path | None,
    platform: str | None,
    all_platforms: bool,
) -> None:
    """Bake the definition into an image. Steps whose input is known are not run again.

    For another platform than this machine's, steps that run its programs need an emulator: qemu-user-static, and a
    kernel with binfmt_misc. What only fetches and copies needs none. --all-platforms refuses as a whole, before
    anything is baked, what one of them cannot be baked for.

    With --all-on every YAML file below the current folder is looked at, but for folders whose names begin with a dot,
    and node_modules. One that cannot be baked holds up only those that stand on it; it is said at the end, and the exit
    status is 1.
    """
    from instar.operations.bake import bake as run
    from instar.views.bakes import baked_json

    workspace = open_workspace()
    if base is not None:
        if check or explain or platform or all_platforms:
            raise click.UsageError("--all-on goes without --check, --explain, --platform and --all-platforms")
        ctx.exit(_bake_all(base, as_json=as_json))
    if platform and all_platforms:
        raise click.UsageError("--platform and --all-platforms do not go together")
    if check:
        if platform or all_platforms:
            raise click.UsageError("--check is of this machine's platform")
        _check(ctx, load_definition(file), as_json=as_json)
        return
    if all_platforms:
        _bake_platforms(load_definition(file), explain=explain, as_json=as_json)
        return
    baked = run(workspace, load_definition(file), platform=_platform(platform), explained=explain)
    if as_json:
        say_json(baked_json(baked))
    else:
        say(baked.image.digest)


def _platform(text: str | None) -> str | None:
    """Return a platform as it was written. Raises UsageError for what is none, with what may be meant."""
    from instar.definition.forms import Misfit
    from instar.definition.platform_forms import platform

    try:
        return platform(text) if text else None
    except Misfit as error:
        raise click.UsageError(f"there is no platform '{text}': {error}") from error


def _bake_platforms(loaded: Loaded, *, explain: bool, as_json: bool) -> None:
    from instar.operations.platforms import bake_platforms
    from instar.views.bakes import baked_platforms_json

    done = bake_platforms(open_workspace(), loaded, explained=explain)
    if as_json:
        say_json(baked_platforms_json(done.image, done.platforms))
    else:
        say(done.image.digest)


def _bake_all(base: Path, *, as_json: bool) -> int:
    from instar.operations.bake_all import bake_all_on
    from instar.views.bakes import baked_all_json, baked_all_page

    done = tuple(bake_all_on(open_workspace(), base, Path()))
    if as_json:
        say_json(baked_all_json(done))
    else:
        show(baked_all_page(done))
    return 1 if any(one.failure for one in done) else 0


def _check(ctx: click.Context, loaded: Loaded, *, as_json: bool) -> None:
    from instar.operations.bake_check import check_bake
    from instar.views.bakes import bake_check_json, bake_check_page

    checked = check_bake(open_workspace(), loaded)
    if as_json:
        say_json(bake_check_json(checked))
    else:
        show(bake_check_page(checked))
    if checked.differences:
        ctx.exit(2)

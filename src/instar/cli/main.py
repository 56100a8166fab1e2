"""The ``instar`` command. Its commands live in the other files and are imported when they are called."""

from __future__ import annotations

import gc
import importlib
import os
import sys
from typing import Any, NoReturn, TextIO

import click

from instar import __version__
from instar.cli import completing, crashes, signals
from instar.cli.screen import warn
from instar.errors import CommandFailed, InstarError, NotRoot, StepFailed, UsageError

_COMMANDS = {
    "init": "definition",
    "validate": "definition",
    "schema": "definition",
    "lock": "definition",
    "bake": "definition",
    "images": "images",
    "export": "images",
    "push": "transfers",
    "pull": "transfers",
    "import": "transfers",
    "deploy": "releases",
    "promote": "releases",
    "rollback": "releases",
    "rollout": "rollouts",
    "maintenance": "maintenance",
    "status": "status",
    "explain": "status",
    "top": "top",
    "history": "history",
    "diff": "diff",
    "config": "config",
    "logs": "history",
    "drift": "drift",
    "run": "run",
    "schedule": "schedule",
    "taint": "break_glass",
    "shell": "break_glass",
    "replay": "break_glass",
    "volumes": "volumes",
    "secrets": "secrets",
    "pin": "releases",
    "unpin": "releases",
    "certificates": "certificates",
    "agent": "agent",
    "gc": "images",
    "destroy": "releases",
    "backup": "backup",
    "restore": "backup",
    "uninstall": "uninstall",
    "ledger": "ledger",
    "doctor": "doctor",
    "completion": "completion",
}
_IN_PYTHON = {"import": "import_image"}  # what a word is called that Python has for itself
_NEW_OBJECTS = 50_000  # more than a short command makes: Python looks for what can go no sooner

# what other tools call it, and what it is here
_FAMILIAR = {
    **dict.fromkeys(("plan", "preview"), "instar deploy ENV --plan"),
    **dict.fromkeys(("ps", "ls", "list", "info", "inspect"), "instar status"),
    **dict.fromkeys(("stats", "usage", "monitor"), "instar top ENV"),
    **dict.fromkeys(("exec", "ssh", "attach"), "instar shell ENV; of a command in an instance of its own: instar run"),
    **dict.fromkeys(("console", "task", "once"), "instar run ENV -- COMMAND"),
    **dict.fromkeys(("up", "apply", "start", "release", "switch"), "instar deploy ENV"),
    **dict.fromkeys(("down", "rm", "remove", "delete", "stop"), "instar destroy ENV"),
    **dict.fromkeys(("restart", "kill", "reload"), "instar taint ENV INSTANCE: nothing that runs is changed"),
    **dict.fromkeys(("scale", "set", "edit", "update"), "change the definition, then: instar deploy ENV"),
    **dict.fromkeys(("settings", "env", "values"), "instar config ENV"),
    **dict.fromkeys(("undo", "back", "revert"), "instar rollback ENV"),
    **dict.fromkeys(("abort", "cancel", "pause", "resume"), "instar rollout abort | pause | resume ENV"),
    **dict.fromkeys(("prune", "clean", "cleanup"), "instar gc"),
    **dict.fromkeys(("why", "describe"), "instar explain ENV"),
    **dict.fromkeys(("events", "audit", "journal"), "instar history ENV"),
    **dict.fromkeys(("verify", "check"), "instar drift ENV; of the definition: instar validate"),
    **dict.fromkeys(("cron", "jobs", "job", "periodic", "timer"), "instar schedule ENV"),
    "build": "instar bake",
    "new": "instar init",
    "version": "instar --version",
    "help": "instar --help",
}


# what changes nothing, and says nothing by its exit status: who has read enough of it, as `head` does, has all
_SHOW = frozenset({"config", "explain", "history", "images", "logs", "schema", "status", "top"})


class Commands(completing.Group):
    """Commands in the order of a first day, each imported only when it is wanted."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        from instar.cli.documents import providers_with_documents

        return [*_COMMANDS, *providers_with_documents()]

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in _COMMANDS:
            from instar.cli.documents import find_group

            return find_group(name)
        module = importlib.import_module(f"instar.cli.{_COMMANDS[name]}")
        command: click.Command = getattr(module, _IN_PYTHON.get(name, name))
        return command

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            if args[0] in _FAMILIAR:
                raise click.UsageError(f"{error.format_message()} You may mean: {_FAMILIAR[args[0]]}", ctx) from error
            import difflib

            near = difflib.get_close_matches(args[0], _COMMANDS, n=1)
            if near:
                raise click.UsageError(f"{error.format_message()} Did you mean '{near[0]}'?", ctx) from error
            raise


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, message="instar %(version)s")
def instar() -> None:
    """Immutable infrastructure, end to end, in one tool.

    A server is never changed after it is deployed. From one file that describes a service, instar bakes an image
    that has the same bytes wherever it is baked, starts new instances beside the old ones, moves the traffic over,
    and keeps the old ones untouched for a rollback that takes milliseconds.

    Begin with: instar init, then: sudo instar deploy dev

    \b
    Exit status: 0 done · 1 failed · 64 wrong usage
    2 there are differences (--plan, drift, --check), or a backup leaves something out
    69 a needed component is missing · 75 somebody else works on the environment · 130 interrupted
    """


def main() -> NoReturn:
    """Run the command line and leave the process with the exit status that its outcome has."""
    if os.geteuid() == 0:  # what root makes is nobody else's to write to, whatever the shell says
        os.umask(os.umask(0o022) | 0o022)
    gc.set_threshold(_NEW_OBJECTS)
    crashes.install_hooks()
    try:
        signals.install()
        status = instar.main(prog_name="instar", standalone_mode=False)
        _flush(sys.stdout)
    except (Exception, KeyboardInterrupt) as error:
        status = _status_of(error)
    _give_up_what_is_left()
    gc.freeze()  # what is left goes with the process: Python need not look through it twice as it ends
    sys.exit(status if isinstance(status, int) else 0)


def _status_of(error: Exception | KeyboardInterrupt) -> int:
    """Say what happened, and return the exit status that it has."""
    match error:
        case click.exceptions.NoArgsIsHelpError():
            click.echo(error.format_message())
            return 0
        case click.UsageError():
            warn(error.format_message(), _usage_hint(error))
            return UsageError.exit_status
        case click.ClickException():
            warn(error.format_message())
        case KeyboardInterrupt() | click.Abort():
            warn("interrupted")
            return 130
        case BrokenPipeError():
            return 0 if _asked() in _SHOW else 1
        case InstarError():
            return _tell(error)
        case OSError():
            where = f" '{error.filename}'" if error.filename else ""
            warn(f"cannot go on: {error.strerror or error}{where}")
        case _:
            crashes.report(error)
    return 1


def _asked() -> str:
    """Return which command it is."""
    return next((word for word in sys.argv[1:] if not word.startswith("-")), "")


def _flush(stream: TextIO | None) -> None:
    if stream is not None:  # it was closed
        stream.flush()


def _give_up_what_is_left() -> None:
    """Let Python not try again, as it ends, to write what could not be written: it would change the exit status."""
    for stream in (sys.stdout, sys.stderr):
        try:
            _flush(stream)
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _tell(error: InstarError) -> int:
    output = error.output if isinstance(error, StepFailed | CommandFailed) else ""
    place = f"{error.place}: " if isinstance(error, StepFailed) and error.place else ""
    hint = error.hint
    if isinstance(error, NotRoot) and error.hint == "ask again with sudo":
        from instar.cli.options import any_workspace
        from instar.cli.ownership import readers_may

        hint = "; ".join(filter(None, (error.hint, readers_may(any_workspace()))))
    warn(place + error.message, hint, output.splitlines()[-20:])
    return error.exit_status


def _usage_hint(error: click.UsageError) -> str | None:
    return f"{error.ctx.command_path} --help" if error.ctx else None

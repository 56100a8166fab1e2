"""The command that has a shell complete what is typed."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

import click
from click.shell_completion import get_completion_class

from instar import durable
from instar.errors import HostError

_SHELLS = ("bash", "zsh", "fish")
_BEGINS_COMPLETION = "(( $+functions[compdef] )) || { autoload -Uz compinit && compinit }\n"  # zsh does it when asked


@click.command()
@click.argument("shell", metavar="[bash|zsh|fish]", type=click.Choice(_SHELLS), required=False)
@click.option("--install", is_flag=True, help="Write it where the shell finds it, in place of printing it.")
def completion(shell: str | None, install: bool) -> None:
    """Have your shell complete commands, options, environments, releases and instances.

    Without a name: the shell that SHELL says. Once: instar completion --install, then begin a new shell. Environments
    that only root may read are completed for root, and for those who may look (docs/readers.md); those of the
    definition beside, for everybody.
    """
    wanted = shell or Path(os.environ.get("SHELL", "")).name
    if wanted not in _SHELLS:
        raise click.UsageError(f"say which shell: {', '.join(_SHELLS)}; SHELL names none of them")
    found = get_completion_class(wanted)
    assert found is not None
    script = found(click.Group("instar"), {}, "instar", "_INSTAR_COMPLETE").source()
    script = _BEGINS_COMPLETION + script if wanted == "zsh" else script
    if not install:
        click.echo(script)
        return
    for line in _install(wanted, script):
        click.echo(line, err=True)


def _install(shell: str, script: str) -> list[str]:
    """Write the script, and a line that reads it into what the shell reads as it begins, once. Return what was done."""
    home = Path.home()
    if shell == "fish":
        path = Path(os.environ.get("XDG_CONFIG_HOME") or home / ".config") / "fish/completions/instar.fish"
        _write(path, script)
        return [f"written: {path}; a new fish reads it"]
    path = Path(os.environ.get("XDG_DATA_HOME") or home / ".local/share") / f"instar/completion.{shell}"
    _write(path, script)
    rc = Path(os.environ.get("ZDOTDIR") or home) / ".zshrc" if shell == "zsh" else home / ".bashrc"
    quoted = shlex.quote(str(path))
    line = f"[ ! -r {quoted} ] || . {quoted}  # instar completion --install"
    try:
        text = rc.read_text(errors="surrogateescape") if rc.exists() else ""
        if f"\n{line}\n" in f"\n{text}\n":
            return [f"written: {path}; {rc} reads it already"]
        with rc.open("a", errors="surrogateescape") as file:
            file.write(f"{'' if not text or text.endswith(chr(10)) else chr(10)}{line}\n")
    except OSError as error:
        raise HostError(f"cannot write to '{rc}': {error.strerror}", hint=f"put this into it: {line}") from error
    return [f"written: {path}, and a line in {rc} that reads it; begin a new {shell}"]


def _write(path: Path, script: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        durable.write(path, script.encode(), mode=0o644)
    except OSError as error:
        raise HostError(f"cannot write '{path}': {error.strerror}") from error

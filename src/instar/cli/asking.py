"""Nothing that can't be had back is removed before somebody has typed what it is."""

from __future__ import annotations

import sys

import click


def have_typed(what: str, word: str, *, left: str = "nothing was removed", instead: str = "add --yes") -> None:
    """Say ``what`` is removed, and have somebody type ``word`` before it is gone on. ``left`` says how all is where
    nobody does, ``instead`` what to do where there is no terminal.

    Raises click.UsageError where nobody does, click.Abort at a terminal where it is broken off.
    """
    try:
        answer = click.prompt(f"{what} Type '{word}' to go on", err=True)
    except click.Abort:
        if sys.stdin.isatty():
            raise
        click.echo(err=True)
        hint = f"there is no terminal to ask on, so {left}; to skip the question, {instead}"
        raise click.UsageError(hint) from None
    if answer != word:
        raise click.UsageError(f"that is not '{word}': {left}")

"""The command that looks for what Instar stands on."""

from __future__ import annotations

import click

from instar.cli.options import (
    any_workspace,
    json_option,
)
from instar.cli.screen import say_json, show, warn
from instar.errors import ComponentMissing


@click.command()
@json_option
def doctor(as_json: bool) -> None:
    """Check every component that instar depends on; exit 69 when a required one is missing, or the ledger is out of
    reach."""
    from instar.operations.doctor import doctor as look
    from instar.views.components import diagnosis_json, diagnosis_page

    diagnosis = look(any_workspace())
    if as_json:
        say_json(diagnosis_json(diagnosis))
    else:
        show(diagnosis_page(diagnosis))
        for text in diagnosis.warnings:
            warn(text)
    if not diagnosis.complete:
        missing = ", ".join(one.name for one in diagnosis.components if one.required and not one.found)
        raise ComponentMissing(f"cannot bake and deploy here: missing {missing}", hint="see HOW TO GET IT above")

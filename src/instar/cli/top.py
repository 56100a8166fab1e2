"""The command that shows what an environment uses, live on a terminal."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from instar.cli.options import environment_argument, file_option, json_option, service_beside
from instar.cli.screen import LivePage, say_json, show

if TYPE_CHECKING:
    from instar.model.usage import EnvironmentConsumption

_EVERY_S = 2.0


@click.command()
@environment_argument
@file_option
@json_option
@click.option(
    "--every",
    type=click.FloatRange(0.5, 3600),
    metavar="SECONDS",
    help="Between two readings: 2 on a terminal, else 1, by default.",
)
def top(environment: str, file: Path, as_json: bool, every: float | None) -> int:
    """Show what the instances of ENV use and answer, by release, role and instance; on a terminal until ^C.

    CPU: 100 % is one processor all the time. MEMORY: what can't be given back at once, beside the limit; CACHE: page
    cache that can. REQUESTS, FAILED (answered 5xx, or not at all) and RESPONSE (mean time until the head of an answer)
    as the router counts them. A figure a second is the mean since the reading before.
    """
    from instar.cli.looking import look
    from instar.operations.top import FIRST_S
    from instar.reading.questions import Top
    from instar.views.top import top_json, top_page

    live = not as_json and LivePage.is_possible()
    screen = LivePage()

    def draw(figures: EnvironmentConsumption) -> None:
        if live:
            screen.draw(partial(top_page, figures))
        elif as_json:
            say_json(top_json(figures))
        else:
            show(top_page(figures))

    every_s = every or (_EVERY_S if live else FIRST_S)
    service = service_beside(environment, file)
    return look(Top(environment=environment, service=service, every_s=float(every_s), live=live), figures=draw)

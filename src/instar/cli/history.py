"""Commands that show what happened: history, logs."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from instar.cli import completing
from instar.cli.options import (
    DEFAULT_FILE,
    Number,
    environment_argument,
    file_option,
    json_option,
    open_workspace,
    service_beside,
)
from instar.cli.screen import moment, say, say_json

if TYPE_CHECKING:
    from instar.model.log_line import LogLine


@click.command()
@click.argument("environment", metavar="[ENV]", required=False, shell_complete=completing.environments)
@file_option
@json_option
@click.option("-n", "--last", type=Number(), metavar="N", help="Only the last N events.")
@click.option("--verify", is_flag=True, help="Check the whole ledger: its chains of hashes, and that all else follows.")
def history(environment: str | None, file: Path, as_json: bool, last: int | None, verify: bool) -> int:
    """Show what happened to ENV (or to all), oldest first: who did what, when. ENV may be gone."""
    from instar.cli.looking import look, terminal_width
    from instar.reading.questions import History

    if verify:
        _verify(as_json=as_json)
        return 0
    service = service_beside(environment, file) if environment else None
    width = terminal_width()
    return look(History(environment=environment, service=service, last=last, as_json=as_json, width=width))


def _verify(*, as_json: bool) -> None:
    verified = open_workspace().ledger.verify()
    if as_json:
        say_json(verified)
        return
    say(f"the chains hold: {verified.events} events, head {verified.head}; the tables follow from them")
    for name, number in verified.unprovable.items():
        say(f"of {name} from event {number} on: what had ended before does not follow from events")
    for name, number in verified.unproven_stages.items():
        say(f"of {name}: where {number} rollouts were that an older version began does not follow from events")


@click.command()
@environment_argument
@click.argument("instance", required=False, shell_complete=completing.instances)
@click.option(
    "--and",
    "beside",
    metavar="ENV",
    multiple=True,
    shell_complete=completing.environments,
    help="Those of another environment (SERVICE/ENV) among them; may be said again.",
)
@click.option("--file", type=click.Path(path_type=Path), default=DEFAULT_FILE, help="The definition.")
@click.option("-n", "--last", type=Number(or_none=True), metavar="N", help="Only the last N lines.")
@click.option("--since", metavar="TIME", help="Only from then on: 10m, 2h, 1d ago, or 2026-11-28T14:05 (local time).")
@click.option("--until", metavar="TIME", help="Only up to then.")
@click.option("--grep", metavar="PATTERN", help="Only lines that this regular expression matches somewhere.")
@click.option("--release", type=Number(), metavar="N", help="Of release N's instances, gone ones too.")
@click.option(
    "--role",
    metavar="ROLE",
    shell_complete=completing.roles,
    help="Of one role's instances, where the definition names several.",
)
@click.option("--access", is_flag=True, help="The requests that came, where 'access_log: true' has them written down.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object a line.")
@click.option("-f", "--follow", is_flag=True, help="Keep printing new lines until ^C.")
def logs(
    environment: str,
    instance: str | None,
    beside: tuple[str, ...],
    file: Path,
    last: int | None,
    since: str | None,
    until: str | None,
    grep: str | None,
    release: int | None,
    role: str | None,
    access: bool,
    as_json: bool,
    follow: bool,
) -> int:
    """Show what the instances of ENV printed, in the order of time; of one INSTANCE also when it is gone.

    With --and, those of other environments among them: instar logs production --and db/production.

    With --access, the requests to ENV instead, whichever release answered: time, client, method, host and path (never
    the query), protocol, status, bytes, duration, instance, release.

    Off a terminal each line has its whole time; on one, the time of day here.
    """
    from instar.cli.looking import look
    from instar.reading.questions import Logs
    from instar.views.logs import log_json, log_text

    _require_one_choice(instance, beside, {"release": release, "role": role})
    if until is not None and follow:
        raise click.UsageError("--follow has no end: leave --until away")
    now = datetime.now(UTC)
    question = Logs(
        environments=(environment, *beside),
        service=None if all("/" in one for one in (environment, *beside)) else service_beside("", file),
        instance=instance,
        release=release,
        role=role,
        last=last,
        since=moment(since, now) if since else None,
        until=moment(until, now) if until else None,
        follow=follow,
        access=access,
    )
    short, named = sys.stdout.isatty(), bool(beside) if access else instance is None

    def written(line: LogLine) -> str:
        return log_json(line) if as_json else log_text(line, named=named, short=short)

    try:
        return look(question, matching=_pattern(grep) if grep is not None else None, line=written)
    except KeyboardInterrupt:
        if not follow:
            raise
        return 130  # it has no other end


def _require_one_choice(instance: str | None, beside: tuple[str, ...], chosen: Mapping[str, object]) -> None:
    """Raise UsageError for two words of which one says what the other does, or of which there is one an environment."""
    for word, said in chosen.items():
        if instance is not None and said is not None:
            raise click.UsageError(f"an instance is of one {word}: leave --{word} away, or INSTANCE")
        if beside and said is not None:
            raise click.UsageError(f"a {word} is of one environment: leave --{word} away, or --and")
    if beside and instance is not None:
        raise click.UsageError("an instance is of one environment: leave --and away, or INSTANCE")


def _pattern(text: str) -> re.Pattern[str]:
    try:
        return re.compile(text)
    except (re.error, OverflowError, RecursionError) as error:
        raise click.UsageError(f"'{text}' is no regular expression: {error}") from None

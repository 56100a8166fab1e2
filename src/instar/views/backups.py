"""Backups as JSON and as sentences: what is in one, what was restored, and what is left to do by hand."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from instar.backup.contents import KeptEnvironment, Lost, Part, Summary
from instar.backup.outcomes import Checked, Made, Restored
from instar.model.sizes import size_text
from instar.views.page import Page, Table

_HEADER = ("ENVIRONMENT", "RELEASE", "IMAGE", "REACHED AT")


def summary_json(summary: Summary) -> dict[str, Any]:
    return {
        "id": summary.id,
        "at": summary.at,
        "version": summary.version,
        "machine": summary.machine,
        "secrets": summary.secrets,
        "volumes": summary.volumes,
        "environments": [
            {"environment": one.name, "release": one.release, "image": one.image} for one in summary.environments
        ],
    }


def made_json(made: Made) -> dict[str, Any]:
    return {
        **summary_json(made.summary),
        "file": str(made.file),
        "bytes": made.size_bytes,
        "encrypted": made.encrypted,
        "images": made.images,
        "without": made.without,
        "left_out": made.left_out,
        "lost": made.lost,
        "snapshots": made.snapshots,
    }


def made_lines(made: Made) -> Iterator[str]:
    how = "encrypted" if made.encrypted else "not encrypted"
    secrets = "with secrets" if made.summary.secrets else "without secrets and certificates"
    yield (
        f"{made.file}: {size_text(made.size_bytes)}, {how}, {secrets}; {_count(made.summary.environments)}, "
        f"{made.images} image{'' if made.images == 1 else 's'}"
    )
    yield f"check it where it is kept: instar restore --check {made.file}"


def made_notes(made: Made) -> Iterator[str]:
    """Yield what is not in it."""
    if made.without:
        yield f"not in it, for their images are not here: releases {', '.join(made.without)}"
    volumes = [f"{one.name} {name}" for one in made.summary.environments for name in one.volumes]
    if volumes and made.summary.volumes is None:
        yield f"not in it: the data of volumes ({', '.join(volumes)})"
    if made.summary.volumes:
        yield f"volumes in it, as services were writing them: {', '.join(made.summary.volumes)}"
    for volume, kinds in sorted(made.left_out.items()):
        counted = ", ".join(f"{count} {kind}{'s' * (count != 1)}" for kind, count in sorted(kinds.items()))
        yield f"left out of {volume}: {counted}; what makes them makes them again"
    yield from _lost(made.lost)
    if made.snapshots:
        yield f"not in it: snapshots of volumes ({made.snapshots}; instar volumes snapshots lists them)"
    if made.encrypted:
        yield "the identity that reads it has to be kept elsewhere than on this machine"


def _lost(lost: Lost) -> Iterator[str]:
    """Yield which data of volumes is not in a backup."""
    for volume, texts in sorted(lost.items()):
        for text in texts:
            yield f"DATA OF {volume} THAT IS NOT IN IT: {text}"


def checked_json(checked: Checked) -> dict[str, Any]:
    parts: Mapping[str, Part] = checked.parts
    return {
        **summary_json(checked.summary),
        "encrypted": checked.encrypted,
        "events": checked.events,
        "lost": checked.lost,
        "parts": {name: {"files": one.members, "bytes": one.size_bytes} for name, one in parts.items()},
    }


def checked_page(checked: Checked) -> Page:
    summary = checked.summary
    yield f"whole: made {_at(summary)} on {summary.machine} by Instar {summary.version}"
    rows = [
        (name, f"{one.members} file{'s' * (one.members != 1)}", size_text(one.size_bytes))
        for name, one in checked.parts.items()
    ]
    yield Table(rows=rows)
    yield f"the ledger is verified, {checked.events} events"
    yield from _lost(checked.lost)
    yield from _environments(summary)


def restored_json(restored: Restored) -> dict[str, Any]:
    return {
        **summary_json(restored.summary),
        "id": restored.state_id,
        "machine_file": restored.machine_file,
        "missing": restored.missing,
        "lost": restored.lost,
        "beside": restored.beside,
    }


def restored_page(restored: Restored, state: str) -> Page:
    """What is there again, and what has to be done by hand, in its order."""
    summary = restored.summary
    yield f"restored into {state}, as it was {_at(summary)} on {summary.machine}; nothing runs yet"
    yield from _environments(summary)
    yield from _lost(restored.lost)
    yield ""
    yield "now, by hand:"
    for number, step in enumerate(_steps(restored), 1):
        yield f" {number}. {step}"


def _steps(restored: Restored) -> Iterator[str]:
    summary = restored.summary
    if restored.beside is None:
        yield f"see that {summary.machine} is off, and stays off: nothing else keeps both from answering"
    else:
        yield _beside(restored)
    match restored.machine_file:
        case "none":
            yield "if that machine had a file of its own (/etc/instar/config.yaml), write it again: docs/machine.md"
        case "there":
            yield (
                "the machine's own file is there again: look it through before anything starts, since root runs what "
                "it names as a command, and bring back the files that it names"
            )
        case "left":
            yield "the machine's own file was left out: write one, where its settings are wanted: docs/machine.md"
        case "other":
            yield (
                "the machine's own file was here already and stays as it is, also with --machine-file; it is another "
                "than in the backup: look it through"
            )
        case "unwritten":
            yield "the machine's own file could not be written: put the backup's there (machine/config.yaml)"
    if restored.missing:
        yield f"bake again, or pull, what was released after the backup: {', '.join(restored.missing)}"
    if secret := [one.name for one in summary.environments if one.secrets and not summary.secrets]:
        yield f"secrets are not in it: deploy again, where the definitions are: {', '.join(secret)}"
    if lost := _lost_volumes(restored):
        yield f"volumes are not in it: put their data back before anything starts, or they begin empty: {lost}"
    if any(one.volumes for one in summary.environments):
        yield "snapshots of volumes are in no backup: until the next one is taken, no rollback brings data back"
    yield "start everything: instar agent --once; from then on: the agent as a service (instar agent --help)"
    if names := [name for one in summary.environments for name in one.names]:
        yield f"have these names lead to this machine (DNS): {', '.join(dict.fromkeys(names))}"
    yield "compare: instar status, instar drift ENV"


def _beside(restored: Restored) -> str:
    listen = dict.fromkeys(address for one in restored.summary.environments for address in one.listen)
    shown = f"at {', '.join(listen)}, where those of the original listen" if listen else "as those of the original do"
    return (
        f"the original is on this machine ('{restored.beside}'), and these environments listen {shown}: an address is "
        "had by one alone. End the original first (instar uninstall), or deploy here with other addresses"
    )


def _lost_volumes(restored: Restored) -> str:
    if restored.summary.volumes is not None or restored.kept_volumes:
        return ""
    return ", ".join(f"{one.name} {name}" for one in restored.summary.environments for name in one.volumes)


def _environments(summary: Summary) -> Page:
    if summary.environments:
        yield Table(header=_HEADER, rows=[_row(one) for one in summary.environments])


def _row(one: KeptEnvironment) -> tuple[str, str, str, str]:
    release = "—" if one.release is None else str(one.release)
    return one.name, release, one.image or "—", ", ".join((*one.listen, *one.names)) or "—"


def _at(summary: Summary) -> str:
    return f"{summary.at:%Y-%m-%d %H:%M:%S} UTC"


def _count(environments: tuple[KeptEnvironment, ...]) -> str:
    return f"{len(environments)} environment{'' if len(environments) == 1 else 's'}"

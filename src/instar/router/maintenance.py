"""Maintenance: all requests but those of checks and of previews are answered with a page, by HAProxy itself: pure.

Whether it is on is an entry in a map of HAProxy's, which is changed while HAProxy runs and read from
``maintenance.map`` when it starts; the page is ``maintenance.html``, read only then. Those answers have a backend of
their own, so that they count as nobody's failures.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

MAP: Final = "maintenance.map"
PAGE: Final = "maintenance.html"
SHOW: Final = f"show map {MAP}"
LARGEST_BYTES: Final = 16 * 1024
RETRY_AFTER_S: Final = 60

USUAL_PAGE: Final = """\
<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>Maintenance</title>
<style>body { font: 1.1em/1.5 sans-serif; max-width: 34em; margin: 20vh auto; padding: 0 1em }</style>
<h1>Down for maintenance</h1>
<p>This service is being worked on, and will be back soon.</p>
</html>
"""

_BACKEND: Final = "maintenance"
_ENTRY: Final = "on 1"


def render(on: bool) -> str:
    return f"{_ENTRY}\n" if on else ""


def read(text: str) -> bool:
    """Tell whether it is on, by the file, or by what HAProxy showed of its map."""
    return any("on" in line.split()[:2] for line in text.splitlines())


def known(shown: str) -> bool:
    """Tell whether HAProxy has the map: one that an older Instar started has none."""
    return not shown.startswith("Unknown map")


def commands(on: bool, shown: str) -> Sequence[str]:
    """Return what makes HAProxy's map so; nothing when it is."""
    if not known(shown) or read(shown) == on:
        return ()
    return (f"add map {MAP} {_ENTRY}" if on else f"del map {MAP} on",)


def conditions(health_path: str | None) -> Sequence[str]:
    """Return the conditions of the public frontend. A check from outside goes on, unless it asks for what visitors see
    first."""
    asked = health_path if health_path not in (None, "/") else None
    refused = "  acl maintenance str(on),map(maintenance.map) -m found"
    return (refused, f"  acl checked pathq {asked}") if asked else (refused, "  acl checked always_false")


HELD: Final = "!maintenance"  # what may wait for an instance
SELECTION: Final = f"  use_backend {_BACKEND} if maintenance !checked"


def backend() -> Sequence[str]:
    return (
        f"backend {_BACKEND}",
        f'  http-request return status 503 content-type "text/html; charset=utf-8" file {PAGE}'
        f" hdr Retry-After {RETRY_AFTER_S} hdr Cache-Control no-store",
    )


def answered(table: Mapping[tuple[str, str], Mapping[str, str]]) -> int:
    """Return how many requests of the public frontend's were answered with the page."""
    row = table.get((_BACKEND, "BACKEND"))
    return 0 if row is None else int(row["hrsp_5xx"])

"""Which values hold in an environment, as JSON and as a page."""

from __future__ import annotations

from typing import Any

from instar.model.setting import HeldSettings, Setting
from instar.views.page import Page, Table


def settings_json(held: HeldSettings) -> dict[str, Any]:
    """Of a secret ``value`` is null, and ``source`` says where it stands."""
    return {
        "service": held.environment.service,
        "environment": held.environment.name,
        "settings": [_setting_json(one) for one in held.settings],
        "active": held.active,
        "unknown": held.unknown,
        "refused": held.refused,
        "running_otherwise": [{"what": one.what, "runs": one.before, "says": one.after} for one in held.changes],
    }


def settings_page(held: HeldSettings, *, with_usual: bool) -> Page:
    """Yield each value with where it comes from; then what the active release has otherwise."""
    shown = [one for one in held.settings if with_usual or one.layer != "usual"]
    yield Table(rows=[(one.name, _shown(one), one.layer, one.place or "") for one in shown])
    if held.unknown is not None:
        yield f"\nwhat runs is not known: {held.unknown}"
    if held.refused is not None:
        yield f"\n{held.refused}"
    if held.changes:
        yield f"\nrelease {held.active} runs with others, until the next deploy:"
        yield Table(rows=[("  " + one.what, one.before or "—", "here:", one.after or "—") for one in held.changes])


def _shown(one: Setting) -> str:
    return f"(a secret, {one.value})" if one.is_secret else one.value or '""'


def _setting_json(one: Setting) -> dict[str, Any]:
    secret = {"value": None, "source": one.value} if one.is_secret else {"value": one.value}
    return {"name": one.name, **secret, "from": one.layer, "place": one.place}

"""``instar destroy``: an environment with all its instances, its router and its record. Volumes stay unless asked."""

from __future__ import annotations

from instar.control.loop import Loop
from instar.model.release import EnvironmentState
from instar.operations.deploy import clear_orphans
from instar.operations.old_secrets import remove_if_free
from instar.operations.parts import Parts, hold_environment, require_root


def destroy(parts: Parts, environment: EnvironmentState, *, volumes: bool, take_over: bool = False) -> None:
    """Remove ``environment``. Killed in the middle, it is gone on with by asking again."""
    require_root("destroy")
    environment_id = environment.id
    provider = parts.provider(environment.settings.provider)
    with hold_environment(parts, environment_id, take_over=take_over):
        parts.ledger.set_destroying(environment_id)
        Loop(ledger=parts.ledger, provider=provider, find_image=parts.store.image, report=parts.report).run(
            environment_id
        )
        provider.runtime.forget(environment_id, parts.ledger.instance_names(environment_id), volumes=volumes)
        parts.ledger.remove_environment(environment_id)
        clear_orphans(parts, provider)
    remove_if_free(parts)

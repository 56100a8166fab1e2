"""The rules between the keys about rollouts, checks, previews and replacements; ``rules`` asks for them.

The strictest: an analysis that could never have a verdict is refused, for its rollouts would all be given up.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from instar.definition import door_rules, forms, role_rules
from instar.definition.address_forms import HEADER
from instar.definition.problems import Problems, listed
from instar.definition.section import Reading, blame, readings
from instar.definition.shapes import FAILED
from instar.definition.source import Listing
from instar.model import definition as model

_KEYS_OF: Final = {"canary": ("steps", "pause"), "rolling": ("batch",)}
_WITHOUT_TEXT: Final = (204, 304)  # Source: RFC 9110, 15.3.5 and 15.4.5


def check(reading: Reading, problems: Problems) -> None:
    """A check asks one thing, and judges it by what can be the answer."""
    kinds = [name for name in ("path", "command", "url") if name in reading.section.keys]
    chosen = [name for name in kinds if name in reading.values]
    if not chosen and reading.node.entries.keys() <= reading.section.keys.keys():
        problems.add(reading.node.mark, f"{reading.path}: {_quoted(kinds, 'or')} is missing")
    if len(chosen) > 1:
        blame(reading, chosen[1], problems, f"expected one of {_quoted(kinds)}, found {listed(chosen, 'and')}")
    for key in ("status", "contains"):
        if key in reading.values and chosen == ["command"]:
            blame(reading, key, problems, "a command is judged by its exit status alone; remove it")
    if "host" in reading.values and chosen and chosen != ["path"]:
        blame(reading, "host", problems, "only a request for 'path' can be given a host; remove it")
    status = reading.get("status")
    if "contains" in reading.values and status in _WITHOUT_TEXT and chosen != ["command"]:
        blame(reading, "contains", problems, f"an answer of {status} never has a text; remove it, or 'status'")


def data(reading: Reading, problems: Problems) -> None:
    version, reads = reading.get("version"), reading.get("reads")
    if FAILED in (version, reads) or not reads or FAILED in reads or version in reads:
        return
    fitting = ", ".join(str(number) for number in sorted([*reads, version]))
    message = f"a release has to read what it writes, but version {version} is not among them; write [{fitting}]"
    blame(reading, "reads", problems, message)


def rollout(reading: Reading, problems: Problems) -> None:
    for owner, keys in _misplaced(reading):
        kind = f"only a {owner} rollout has {_quoted(keys)}, and this one is {reading.get('strategy')}"
        remove = "them" if len(keys) > 1 else "it"
        blame(reading, keys[0], problems, f"{kind}; write 'strategy: {owner}', or remove {remove}")
    _check_steps(reading, problems)


def scaling(reading: Reading, problems: Problems) -> None:
    low, high = reading.get("min"), reading.get("max")
    if FAILED not in (low, high) and None not in (low, high) and high < low:
        blame(reading, "max", problems, f"expected at least {low}, as 'min' has it, found {high}")


def instances_of(one: Reading, bound: str, service: Reading | None = None) -> Any:
    """Return how many instances an environment has at least ("min") or at most ("max"), of several roles those of the
    ``service`` that requests go to; FAILED where nobody knows."""
    if service is not None and service.path != "service":
        return role_rules.bound_of(role_rules.instances(one, service), bound)
    return role_rules.bound_of(one.get("instances"), bound)


def task(asked: Reading, service: Reading, problems: Problems) -> None:
    """A task gets volumes that there are."""
    wanted, volumes = asked.get("volumes"), service.get("volumes")
    if wanted in (None, FAILED) or volumes is FAILED:
        return
    known = [volume.get("name") for volume in readings(volumes)]
    for name in wanted:
        if name is not FAILED and FAILED not in known and name not in known:
            there = f"there are {_quoted(known)}" if known else "it has none"
            blame(asked, "volumes", problems, f"the service has no volume '{name}'; {there}")


def answerable(asked: Reading, service: Reading, problems: Problems) -> None:
    """A check of a path needs a service that speaks http."""
    port = service.get("port")
    if asked.get("path") in (None, FAILED) or port is FAILED:
        return
    if port is None:
        advice = f"add {service.path}.port, or check with {{command: […]}}"
        blame(asked, "path", problems, f"there is no port that could be asked; {advice}")
    elif why := unaskable(service):
        blame(asked, "path", problems, f"{why}; check with {{command: […]}}")


def unaskable(service: Reading) -> str | None:
    """Return why nobody can ask a service with a port for a path, None where that can be: checks are of HTTP/1.1."""
    protocol = service.get("protocol")
    if protocol == "h2":
        return "a path is asked for in HTTP/1.1, and the service speaks h2"
    return "the service speaks tcp, so there is no path that could be asked for" if protocol == "tcp" else None


def environment(one: Reading, service: Reading | None, known: Mapping[str, Reading], problems: Problems) -> None:
    """Check what an environment says of rollouts against its instances and the service, None if that is unreadable.
    ``known``: the roles, none where there is but the service."""
    if service:
        _check_preview(one, service, problems, reads=door_rules.speaks_http(one, service, known))
        _check_age(one.get("replace"), service, problems)
    chosen = one.get("rollout")
    if not isinstance(chosen, Reading) or chosen.get("strategy") is FAILED:
        return
    if service and _refuse_strategy(chosen, service, problems):
        return
    if service:
        _check_batch(one, chosen, service, problems)
    analysis = chosen.get("analysis")
    if not isinstance(analysis, Reading) or _misplaced(chosen):
        return
    if not _refuse_analysis(one, chosen, service, problems) and service:
        _check_analysis(analysis, service, problems)


def _misplaced(reading: Reading) -> list[tuple[str, list[str]]]:
    """Return the keys of a rollout that another strategy has, by that strategy."""
    chosen = reading.get("strategy")
    others = {} if chosen is FAILED else {owner: keys for owner, keys in _KEYS_OF.items() if owner != chosen}
    found = [(owner, [key for key in keys if key in reading.values]) for owner, keys in others.items()]
    return [(owner, keys) for owner, keys in found if keys]


def _check_steps(reading: Reading, problems: Problems) -> None:
    steps, listing = reading.get("steps"), reading.node_of("steps")
    if steps is FAILED or not isinstance(listing, Listing):
        return
    last = -1
    for step, node in zip(steps, listing.items, strict=True):
        inner = isinstance(step, Reading)
        weight = step.get("weight") if inner else step
        if weight is FAILED:
            continue
        if weight <= last:
            mark = step.node_of("weight").mark if inner else node.mark
            problems.add(mark, f"{reading.path}.steps: steps rise, but {weight} comes after {last}")
        last = weight


def _refuse_strategy(chosen: Reading, service: Reading, problems: Problems) -> bool:
    """Say why a service cannot have its strategy, if it cannot."""
    strategy, volume = chosen.get("strategy"), _exclusive(service)
    if strategy != "blue-green" and volume:
        reason = f"volume '{volume}' is exclusive, so the old instance stops before the new one starts"
        blame(chosen, "strategy", problems, f"{reason}; write 'strategy: blue-green' (or 'access: shared')")
        return True
    if strategy == "canary" and service.get("port") is None:
        reason = "the service has no port, so there is no traffic to share out"
        blame(chosen, "strategy", problems, f"{reason}; write 'strategy: rolling' or 'strategy: blue-green'")
        return True
    return False


def _check_batch(one: Reading, chosen: Reading, service: Reading, problems: Problems) -> None:
    batch, instances = chosen.get("batch"), instances_of(one, "min", service)
    if "batch" not in chosen.values or chosen.get("strategy") != "rolling" or FAILED in (batch, instances):
        return
    if batch > instances:
        known = "there are no more instances" if "instances" in one.values else "'instances' is 1 unless you say more"
        blame(chosen, "batch", problems, f"expected at most {instances}, found {batch}; {known}")


def _refuse_analysis(one: Reading, chosen: Reading, service: Reading | None, problems: Problems) -> bool:
    """Say why an analysis has nothing to compare the new release with, if it has nothing."""
    reason = ""
    batch, instances = chosen.get("batch"), instances_of(one, "min", service)
    if chosen.get("strategy") == "blue-green":
        reason = f"blue-green moves all traffic at once, so there is nothing to compare with; {_instead(service)}"
    elif chosen.get("strategy") == "rolling" and FAILED not in (batch, instances) and batch == instances:
        if instances == 1:
            reason = "the only instance is replaced at once, so there is nothing to compare with; "
            reason += "write 'instances: 2' or more, or remove it"
        else:
            reason = f"one batch replaces all {instances} instances, so there is nothing to compare with; "
            reason += f"write 'batch: {instances // 2}' or less, or remove it"
    if reason:
        blame(chosen, "analysis", problems, f"it could never have a verdict: {reason}")
    return bool(reason)


def _instead(service: Reading | None) -> str:
    if service and _exclusive(service):
        return f"remove it, and ask the new release with '{service.path}.smoke'"
    strategy = "rolling" if service and service.get("port") is None else "canary"
    return f"write 'strategy: {strategy}', or remove it"


def _check_analysis(analysis: Reading, service: Reading, problems: Problems) -> None:
    """Refuse questions that nothing answers, and an analysis without questions."""
    port, least, checks = service.get("port"), analysis.get("min_requests"), analysis.get("checks")
    for asked in readings(checks):
        answerable(asked, service, problems)
    for key in ("max_failed", "max_slower", "slower_than"):
        if key not in analysis.values:
            continue
        if port is None:
            blame(analysis, key, problems, "the service has no port, so there are no requests to compare; remove it")
        elif key != "max_failed" and service.get("protocol") == "tcp":
            blame(analysis, key, problems, "tcp has no response times, so they are left out of the analysis; remove it")
    if FAILED in (port, least, checks):
        return
    if port is None and least > 0:
        reason = "the service has no port, so no request is ever counted"
        message = f"it could never have a verdict: {reason}; write 'min_requests: 0', and ask with 'checks'"
        blame(analysis, "min_requests", problems, message)
    elif not least and not checks:
        advice = (
            "add 'checks'"
            if port is None
            else "add 'checks', or write 'min_requests: 1' or more, with 'quiet: pass' where no traffic is fine"
        )
        blame(analysis, "min_requests", problems, f"with no requests and no checks, nothing is asked; {advice}")


def _check_preview(one: Reading, service: Reading, problems: Problems, *, reads: bool) -> None:
    port = service.get("port")
    if "preview" not in one.values or port is FAILED:
        return
    if port is None:
        advice = f"add {service.path}.port, or remove this"
        blame(one, "preview", problems, f"the service has no port to send requests to; {advice}")
    elif service.get("protocol") == "tcp" and not reads:
        blame(one, "preview", problems, "a preview is for requests of http, but the service speaks tcp; remove this")
    elif service.get("protocol") == "tcp" and one.get("preview") not in (HEADER, FAILED):
        advice = f"write 'preview: {HEADER}', for the doors that speak http"
        blame(one, "preview", problems, f"an address of its own leads to the first port, which speaks tcp; {advice}")


def _check_age(chosen: Any, service: Reading, problems: Problems) -> None:
    age = chosen.get("max_age") if isinstance(chosen, Reading) else None
    health = service.get("health")
    deadline = health.get("deadline") if isinstance(health, Reading) else model.Health(kind="none").deadline_ms
    if health is FAILED or deadline is FAILED or age in (None, FAILED) or age > deadline:
        return
    found = f"expected more than {forms.show_duration(deadline)}, found '{forms.show_duration(age)}'"
    advice = f"{service.path}.health.deadline lets a new instance take that long until it is healthy"
    blame(chosen, "max_age", problems, f"{found}; {advice}")


def _exclusive(service: Reading) -> str | None:
    """Return the name of the first exclusive volume; None when there is none, or nobody can tell."""
    for volume in readings(service.get("volumes")):
        if volume.get("access") == "exclusive":
            return str(volume.get("name"))
    return None


def _quoted(words: Any, last: str = "and") -> str:
    return listed((f"'{word}'" for word in words), last)

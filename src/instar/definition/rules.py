"""What one key alone cannot tell: the rules between the keys of a definition.

Every rule looks only at what could be read, and says nothing about what has a problem of its own already.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from instar.definition import door_rules, forms, role_rules, rollout_rules, secret_rules, stage_rules, use_rules
from instar.definition.image_rules import NOT_IN_IMAGE, is_within
from instar.definition.problems import Problems, listed, nearest
from instar.definition.section import REQUIRED, Reading, Section, blame, readings
from instar.definition.shapes import FAILED
from instar.model.slim import AT_THE_END

LONGEST_NAMES: Final = 48  # service and environment: with release and instance they make a host name of at most 63

_NOT_A_VOLUME: Final = (*NOT_IN_IMAGE, "/tmp")  # noqa: S108  a name, nothing is written there
_UNREAD: Final = "the router does not read what a service of tcp is sent; remove it, or 'protocol: tcp'"
_OF_HTTP: Final = ("requests", "compression", "access_log")  # keys of an environment about what is sent
_SYSTEM: Final = ("/", "/bin", "/boot", "/etc", "/lib", "/lib32", "/lib64", "/opt/venv", "/sbin", "/usr", "/var")


def health(reading: Reading, problems: Problems) -> None:
    kinds = [name for name in ("path", "tcp", "command") if name in reading.values]
    if len(kinds) > 1:
        blame(reading, kinds[1], problems, f"expected one of 'path', 'tcp' and 'command', found {listed(kinds, 'and')}")
    if "host" in reading.values and "path" not in reading.values:
        blame(reading, "host", problems, "only a request for 'path' has a host; add 'path', or remove it")
    timeout, deadline = reading.get("timeout"), reading.get("deadline")
    if FAILED in (timeout, deadline) or deadline >= timeout:
        return
    shown = f"{forms.show_duration(deadline)}, which is shorter than one check may take"
    key = "deadline" if "deadline" in reading.values else "timeout"
    blame(reading, key, problems, f"the deadline is {shown} ({forms.show_duration(timeout)})")


def volume(reading: Reading, problems: Problems) -> None:
    path = reading.get("path")
    if path is FAILED:
        return
    if path in _SYSTEM:
        blame(reading, "path", problems, f"a volume at '{path}' would hide the image; put it in a folder below")
    for folder in _NOT_A_VOLUME:
        if is_within(path, folder):
            blame(reading, "path", problems, f"'{folder}' is the instance's own and passes with it; put data elsewhere")


def service(reading: Reading, problems: Problems) -> None:
    _check_health(reading, problems)
    door_rules.ports(reading, problems)
    _check_volumes(readings(reading.get("volumes")), problems)
    for key in ("headers", "keep_alive"):
        if key in reading.values and reading.get("protocol") == "tcp":
            blame(reading, key, problems, _UNREAD)
    timeouts = reading.get("timeouts")
    if isinstance(timeouts, Reading) and "stream" in timeouts.values and reading.get("protocol") == "tcp":
        blame(timeouts, "stream", problems, f"'tunnel' is for connections of tcp; {_UNREAD}")
    for asked in readings(reading.get("smoke")):
        rollout_rules.answerable(asked, reading, problems)
    for task in (*readings(reading.get("before")), *readings(reading.get("after"))):
        rollout_rules.task(task, reading, problems)


def definition(reading: Reading, problems: Problems) -> None:
    stage_rules.definition(reading, problems)
    role_rules.definition(reading, problems)
    if not {"service", "roles"} & reading.values.keys():
        _check_without_service(reading, problems)
    environments = reading.get("environments")
    if environments is FAILED:
        return
    found = {name: one for name, one in environments.items() if isinstance(one, Reading)}
    _check_names(reading.get("name"), found, problems)
    _check_promotions(found, set(environments), problems)
    _check_addresses(found, problems)
    _check_sites(found, problems)
    for one in found.values():
        use_rules.environment(one, reading.get("name"), problems)
        _check_provider(one, problems)
        own = role_rules.holding_in(one, reading, problems)
        service = role_rules.first(own)
        role_rules.environment(one, own, problems)
        secret_rules.environment(one, problems)
        if service:
            _check_environment(one, service, own, problems)
        rollout_rules.environment(one, service, role_rules.by_name(own), problems)


def _check_without_service(reading: Reading, problems: Problems) -> None:
    """What others stand on has no service: nothing of it runs, and nothing says what a service would need."""
    if reading.get("environments") not in (FAILED, {}):
        expected = "expected a section that says how the service runs, or no 'environments'"
        problems.add(reading.node.mark, f"'service' is missing; {expected}: others can stand on an image alone")
    image = reading.get("image")
    if not isinstance(image, Reading):
        return
    if image.get("slim") not in (None, FAILED):
        blame(image, "slim", problems, "what a service needs is left, and there is no 'service' here")
    strip = image.get("strip")
    found = [kind for kind in AT_THE_END if strip is not FAILED and kind in strip]
    if found:
        blame(image, "strip", problems, f"'{found[0]}' is for the image of a service, and there is no 'service' here")


def listen(reading: Reading, problems: Problems) -> None:
    """A name stands once, and is sent on only to one that is there."""
    http, https, redirect = (reading.get(name) for name in ("http", "https", "redirect"))
    if FAILED in (http, https, redirect) or FAILED in (*http, *https, *redirect.values()):
        return
    if not (http or https or reading.values.get("address")):
        problems.add(reading.node.mark, f"{reading.path}: expected names of 'http' or 'https'")
    known = {site.partition("/")[0] for site in (*http, *https)}
    for to in redirect.values():
        if to not in known:
            near = nearest(to, known)
            advice = f"did you mean '{near}'?" if near else "add it to 'https'"
            blame(reading, "redirect", problems, f"'{to}' is none of these names; {advice}")
    for name in ("hsts", "client_ca"):
        if name in reading.values and not https:
            blame(reading, name, problems, "it is about names of 'https', and there are none here; remove it")


def tls(reading: Reading, problems: Problems) -> None:
    for one, other in (("certificate", "key"), ("key", "certificate")):
        if one in reading.values and other not in reading.values:
            blame(reading, one, problems, f"'{other}' is missing: both are needed")
    if not reading.values:
        problems.add(reading.node.mark, f"{reading.path}: expected {reading.section.expected}, found an empty one")


def _check_sites(environments: dict[str, Reading], problems: Problems) -> None:
    """A name belongs to one environment."""
    taken: dict[str, tuple[str, int]] = {}
    for name, one in environments.items():
        for section in door_rules.sections(one):
            for key, site in _sites(section):
                found = taken.get(site)
                if found:
                    whose = "this one" if found[0] == name else f"environment '{found[0]}'"
                    blame(section, key, problems, f"'{site}' is taken: {whose} has it in line {found[1]}")
                taken.setdefault(site, (name, section.line_of(key)))


def _sites(section: Reading) -> Iterator[tuple[str, str]]:
    """Yield the names of a section, each with its key."""
    for key in ("http", "https", "redirect"):
        found = section.get(key)
        yield from ((key, site) for site in (() if found is FAILED else found) if site is not FAILED)


def _check_names_served(one: Reading, service: Reading, problems: Problems) -> None:
    """Requests that come by name are of http, and only names of https have certificates."""
    listen = door_rules.of_first(one, service)
    known = all(each is not FAILED and FAILED not in each for each in door_rules.written(one).values())
    sections = [section for section in door_rules.sections(one) if any(_sites(section))]
    is_tcp = service.get("protocol") == "tcp"
    if is_tcp and any(any(_sites(section)) for section in readings(listen)):
        advice = "the service speaks tcp, which is reached by address: 'listen: 127.0.0.1:8080'"
        blame(one, "listen", problems, f"only requests of http can come by name; {advice}")
    elif is_tcp and sections:
        advice = "reach the others by address too, or make the one that speaks http the first"
        blame(one, "listen", problems, f"no port is found by name where the first one speaks tcp; {advice}")
    if "tls" in one.values and known and not any(part.get("https") for part in sections):
        blame(one, "tls", problems, "there are no names of 'https' that need a certificate; remove it")


def _check_provider(one: Reading, problems: Problems) -> None:
    """A provider's section is that of the environment's own provider, which may need it."""
    chosen = one.get("provider")
    if chosen is FAILED:
        return
    for name in one.values.keys() - one.section.keys.keys() - {chosen}:
        advice = f"this environment's provider is '{chosen}'; remove it, or write 'provider: {name}'"
        blame(one, name, problems, advice)
    if "provider" not in one.values or chosen in one.values:
        return
    section = one.section.find_key(chosen)
    if section is None or not isinstance(section.shape, Section):
        return
    needed = [f"'{key.name}', {key.shape.expected}" for key in section.shape.keys.values() if key.default is REQUIRED]
    if needed:
        problems.add(one.node.mark, f"{one.path}: '{chosen}' is missing; it needs {', and '.join(needed)}")


def _check_health(reading: Reading, problems: Problems) -> None:
    chosen, port = reading.get("health"), reading.get("port")
    if not isinstance(chosen, Reading) or port is FAILED:
        return
    for kind in ("path", "tcp"):
        if kind in chosen.values and port is None:
            advice = f"add {reading.path}.port, or check with {{command: […]}}"
            blame(chosen, kind, problems, f"there is no port that could be checked; {advice}")
    if "path" in chosen.values and port is not None and (why := rollout_rules.unaskable(reading)):
        advice = "write {tcp: true} or {command: […]}, or remove 'protocol'"
        blame(chosen, "path", problems, f"{why}; {advice}")


def _check_volumes(volumes: list[Reading], problems: Problems) -> None:
    """Names and paths are different, and no volume lies in another, whichever stands first."""
    names: dict[str, Reading] = {}
    paths: dict[str, Reading] = {}
    around: dict[str, str] = {}  # every folder above a volume → the volume's path
    for one in volumes:
        name, path = one.get("name"), one.get("path")
        if name in names:
            blame(
                one,
                "name",
                problems,
                f"'{name}' is the name of two volumes, first in line {names[name].line_of('name')}",
            )
        if name is not FAILED:
            names.setdefault(name, one)
        if path is FAILED:
            continue
        above = [path[:end] for end, letter in enumerate(path) if letter == "/" and end]
        outer = next((folder for folder in above if folder in paths), None)
        if path in paths:
            blame(one, "path", problems, f"two volumes are at '{path}', first in line {paths[path].line_of('path')}")
        elif outer or path in around:
            inner, outer = (path, outer) if outer else (around[path], path)
            blame(one, "path", problems, f"a volume cannot lie in another: '{inner}' is in '{outer}'")
        paths.setdefault(path, one)
        around.update(dict.fromkeys(above, path))


def _check_names(name: Any, environments: dict[str, Reading], problems: Problems) -> None:
    for environment, one in environments.items():
        length = 0 if name is FAILED else len(name) + len(environment)
        if length > LONGEST_NAMES and len(environment) <= 31:
            message = f"the names of service and environment have {length} characters together"
            problems.add(one.node.mark, f"{one.path}: {message}; expected at most {LONGEST_NAMES}")


def _check_promotions(environments: dict[str, Reading], names: set[str], problems: Problems) -> None:
    for name, one in environments.items():
        source = one.get("promote_from")
        if source in (None, FAILED) or (source in names and source != name) or problems.full:
            continue
        others = sorted(names - {name})
        near = nearest(source, others)
        advice = f"did you mean '{near}'?" if near else f"expected {listed(others)}"
        advice = advice if others else f"there is none besides '{name}'"
        missing = f"there is no environment '{source}'" if source != name else f"'{name}' is this very environment"
        blame(one, "promote_from", problems, f"{missing}; {advice}")
    for circle in _circles(environments):
        first = environments[circle[0]]
        blame(first, "promote_from", problems, f"promotions go in a circle: {' from '.join((*circle, circle[0]))}")


def _circles(environments: dict[str, Reading]) -> Iterator[list[str]]:
    """Yield every circle of two or more environments once, each after the one that it promotes to."""
    walked: set[str] = set()
    for start in environments:
        way: dict[str, int] = {}
        name: Any = start
        while name in environments and name not in walked:
            walked.add(name)
            way[name] = len(way)
            name = environments[name].get("promote_from")
        if name in way and way[name] < len(way) - 1:
            yield list(way)[way[name] :]


def _check_addresses(environments: dict[str, Reading], problems: Problems) -> None:
    """No two sockets want the same; "all addresses" of one family takes each of that family."""
    taken: dict[tuple[str, str], tuple[str, str, str, int]] = {}  # (host, port) → (key, address, whose, line)
    for name, one in environments.items():
        for key, address, mark in door_rules.addresses(one):
            host, _, port = address.rpartition(":")
            every = "[::]" if host.startswith("[") else "0.0.0.0"  # noqa: S104  compared, not listened on
            some = f"some of {every}"
            found = taken.get((host, port)) or taken.get((some if host == every else every, port))
            if found:
                use, has, owner, line = found
                whose = f"'{use}'" if owner == name else f"'{use}' of environment '{owner}'"
                problems.add(mark, f"{one.path}.{key}: {address} is taken: {whose} is {has}, in line {line}")
            for place in ((host, port), (some, port)):
                taken.setdefault(place, (key, address, name, mark[0]))


def _check_environment(one: Reading, service: Reading, own: Reading, problems: Problems) -> None:
    port, listen = service.get("port"), one.get("listen")
    door_rules.environment(one, service, role_rules.by_name(own), problems)
    if port is None and "listen" in one.values:
        advice = f"add {service.path}.port, or remove this"
        blame(one, "listen", problems, f"the service has no port to send requests to; {advice}")
    for key in ("accept_proxy", *_OF_HTTP):
        if port is None and key in one.values:
            blame(one, key, problems, "the service has no port, so nobody connects to it; remove this")
    for key in _OF_HTTP:
        if key in one.values and not door_rules.speaks_http(one, service, role_rules.by_name(own)):
            blame(one, key, problems, _UNREAD)
    if port not in (None, FAILED) and listen == ():
        advice = "the service has a port; say where it is reached, such as 'listen: 127.0.0.1:8080'"
        problems.add(one.node.mark, f"{one.path}: 'listen' is missing; {advice}")
    _check_names_served(one, service, problems)
    if service.path == "service":  # of roles that is said already
        role_rules.alone(service, one, rollout_rules.instances_of(one, "max"), problems)

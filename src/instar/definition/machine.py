"""/etc/instar/config.yaml, the machine's own file: key by key, read as strictly as a definition.

It decides what root runs and whom it tells, so it is read only where nobody but root (or, without root, whoever runs
this) could have written it: the file itself, its folder, and no link.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from instar.definition import machine_forms, secret_rules
from instar.definition.author_files import AuthorFile, open_author_file
from instar.definition.declared import About, Sections, read_section
from instar.definition.load import decoded
from instar.definition.problems import Problems
from instar.definition.section import Key, Reading, Section, blame
from instar.definition.shapes import FAILED
from instar.definition.source import SIZE_LIMIT_BYTES
from instar.errors import HostError
from instar.model import machine as model
from instar.model.component import Component
from instar.model.state import MACHINE_FILE_VARIABLE as VARIABLE
from instar.model.state import machine_file
from instar.permissions import other_writer

_ELSEWHERE: Final = {
    **dict.fromkeys(("state", "home", "state_directory"), "where state is kept is said by INSTAR_HOME"),
    "commands": "it is not in this version",
    **dict.fromkeys(("name", "image", "service", "environments"), "a service stands in its own instar.yaml"),
}
_INDEX_ELSEWHERE: Final = dict.fromkeys(("token", "login", "auth"), "a file with it is 'password'; who asks is 'user'")


def _index(reading: Reading, problems: Problems) -> None:
    """Nobody on the way may read a password."""
    if "user" in reading.values and "password" not in reading.values:
        blame(reading, "user", problems, "'password' is missing: a file with the password in it")
    url = reading.get("url")
    if "password" in reading.values and url is not FAILED and not machine_forms.is_private(url):
        advice = "everybody on the way would read the password; it has to begin with 'https://'"
        blame(reading, "url", problems, advice)


def _says(key: str, reading: Reading, problems: Problems) -> None:
    """A section that is there for one ``key`` has it: who left it out believes that it is said."""
    if key not in reading.values:
        expected = reading.section.keys[key].shape.expected
        problems.add(reading.node.mark, f"{reading.path}: '{key}' is missing; expected {expected}")


def _ship(reading: Reading, problems: Problems) -> None:
    secret_rules.one_of(reading, ("command", "file", "socket", "journald"), problems)


def _edge(reading: Reading, problems: Problems) -> None:
    """No two sockets want the same; "all addresses" of one family takes each of that family from the other scheme."""
    http, https = reading.get("http"), reading.get("https")
    if FAILED in (http, https) or FAILED in (*http, *https):
        return
    told = model.EdgeSettings(http=http, https=https)
    for one in told.https_addresses:
        for other in told.http_addresses:
            if _overlap(one, other):
                key = "https" if https else "http"
                blame(reading, key, problems, f"{one} and {other} are one port: http and https need one each")
    for key in ("http", "https"):
        for address in sorted({one for one in reading.get(key) if reading.get(key).count(one) > 1}):
            blame(reading, key, problems, f"{address} stands twice")


def _overlap(one: str, other: str) -> bool:
    hosts, ports = zip(*(address.rpartition(":")[::2] for address in (one, other)), strict=True)
    every = "[::]" if hosts[0].startswith("[") else "0.0.0.0"  # noqa: S104  compared, not listened on
    same_family = hosts[0].startswith("[") == hosts[1].startswith("[")
    return ports[0] == ports[1] and same_family and (hosts[0] == hosts[1] or every in hosts)


MACHINE: Final = Sections(
    {
        model.MachineSettings: About("a section such as {agent: {metrics: '127.0.0.1:9464'}}", elsewhere=_ELSEWHERE),
        model.AgentSettings: About("a section {metrics, check, log_format}"),
        model.EdgeSettings: About("a section {http, https, accept_proxy}", check=_edge),
        model.NoticeSettings: About("a section {command, url}"),
        model.AcmeSettings: About("a section {directory, contact, ca, profile, check, dns}"),
        model.DnsSettings: About("a section {command, timeout, wait}"),
        model.RegistrySettings: About("a section {ca, http, tokens, mirrors}"),
        model.IndexSettings: About(
            "a section such as {url: 'https://pypi.example.org/simple'}", check=_index, elsewhere=_INDEX_ELSEWHERE
        ),
        model.LogSettings: About("a section such as {ship: {journald: true}}", check=partial(_says, "ship")),
        model.ShipSettings: About("a section such as {journald: true}", check=_ship),
        model.ReaderSettings: About("a section such as {group: instar-readers}", check=partial(_says, "group")),
        model.AgeSettings: About(
            "a section such as {identities: /etc/instar/age-identities}", check=partial(_says, "identities")
        ),
        model.SecretSettings: About("a section such as {file: /etc/instar/token}", check=secret_rules.source),
    }
).of(model.MachineSettings)

for _, _section in MACHINE.sections():
    _section.root = MACHINE


def load_machine(environ: Mapping[str, str]) -> model.MachineSettings | None:
    """Return what this machine's file says; None where there is no file, and none was asked for by name.

    Raises:
        HostError: it cannot be read, or somebody else could have written it.
        MachineFileError: all that is wrong in it, in the order of its lines.
    """
    path = machine_file(environ)
    try:
        found = _opened(path)
    except FileNotFoundError as error:
        if environ.get(VARIABLE):
            raise HostError(f"cannot read '{path}', which {VARIABLE} names: no such file") from error
        return None
    with found.discreet(str(path)):
        return parse_machine(decoded(found.data, Problems(str(path), of_machine=True)), str(path))


def parse_machine(text: str, file: str) -> model.MachineSettings:
    """Read the machine's file in ``text``; ``file`` names it in messages. Raises MachineFileError."""
    settings: model.MachineSettings = read_section(MACHINE, text, Problems(file, of_machine=True))
    return settings


def as_component(path: Path, settings: model.MachineSettings | None) -> Component:
    """Return the machine's file as ``doctor`` lists it, with what it sets: of an address no more than its host, of a
    command only the program, since the rest may be secret."""
    found = None if settings is None else ", ".join(_set_words(settings)) or "it sets nothing"
    purpose = "the machine's own settings"
    return Component(name=str(path), purpose=purpose, found=found, get="docs/machine.md", required=False)


def _set_words(settings: Any, section: Section = MACHINE, before: str = "") -> Iterator[str]:
    for name, key in section.keys.items():
        value = getattr(settings, key.field)
        if isinstance(key.shape, Section):
            yield from _set_words(value, key.shape, f"{before}{name}.")
        elif value != key.default:
            yield f"{before}{name} {_discreet(key, value)}"


def _discreet(key: Key, value: Any) -> str:
    if key.name == "command":
        return str(value[0])
    if key.name in ("url", "ledger"):
        parts = urlsplit(value)
        return f"{parts.scheme}://{parts.hostname or ''}/…"
    if isinstance(value, Mapping):
        return ", ".join(value)
    written = key.shape.written(value)
    return " ".join(map(str, written)) if isinstance(written, tuple | list) else str(written)


def _opened(path: Path) -> AuthorFile:
    try:
        found = open_author_file(path.parent, path.name, SIZE_LIMIT_BYTES)
    except FileNotFoundError:
        raise
    except OSError as error:
        cause = "it is a link" if error.errno == errno.ELOOP else (error.strerror or str(error)).lower()
        raise HostError(f"cannot read '{path}': {cause}", hint=f"{VARIABLE}=FILE names another one") from error
    for what, status in ((path, found.status), (path.parent, path.parent.stat())):
        who = other_writer(status, (os.geteuid(),))
        if who is not None:
            cause = f"{who} may write to '{what}', and it decides what root runs"
            hint = f"when what it says is right: chown root: '{what}' && chmod go-w '{what}'"
            raise HostError(f"cannot use '{path}': {cause}", hint=hint)
    return found

"""The file that a user writes, key by key: the one source of its reading, its JSON Schema and its reference page.

Defaults are those of ``model.definition``. What looks at several keys at once is in ``rules``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, Literal

from instar.definition import forms, rules
from instar.definition.drift import DRIFT
from instar.definition.network import REACHED
from instar.definition.rollout import CHECKS, DATA, REPLACE, ROLLOUT, TASKS
from instar.definition.section import REQUIRED, Key, Section
from instar.definition.shapes import Choice, Decimal, Either, Flag, ListOf, MapOf, OneOrMore, Text, Whole
from instar.definition.values import (
    ADDRESS,
    BESIDE,
    COMMAND,
    DURATION,
    HOST,
    INSIDE,
    MODE,
    NAME,
    NETWORK,
    PREVIEW,
    SECRET_FILE,
    SIZE,
    VARIABLES,
)
from instar.model import definition as model

_SIGNALS = """
HUP INT QUIT ILL TRAP ABRT BUS FPE KILL USR1 SEGV USR2 PIPE ALRM TERM STKFLT CHLD CONT STOP TSTP TTIN TTOU URG XCPU
XFSZ VTALRM PROF WINCH IO PWR SYS
"""  # Source: signal(7)


def _health(*, path: str | None = None, tcp: bool = False, **values: Any) -> model.Health:
    """``none`` when nothing was chosen: the service decides, which knows whether there is a port."""
    kind: Literal["http", "tcp", "command", "none"] = "tcp" if tcp else "none"
    if path is not None:
        kind = "http"
    elif "command" in values:
        kind = "command"
    return model.Health(kind=kind, path=path, **values)


def _service(*, health: model.Health | None = None, port: int | None = None, **values: Any) -> model.Service:
    chosen = health or model.Health(kind="none")
    if chosen.kind == "none" and port is not None:
        chosen = dataclasses.replace(chosen, kind="tcp")
    return model.Service(health=chosen, port=port, **values)


def _definition(*, environments: dict[str, dict[str, Any]] | None = None, **values: Any) -> model.Definition:
    named = {name: model.Environment(name=name, **fields) for name, fields in (environments or {}).items()}
    return model.Definition(environments=named, **values)


def _file_of(*, file: str) -> str:
    return file


def _user_named(text: str) -> model.User:
    return model.User(name=forms.user_name(text))


def _prefixed(prefix: str, words: Sequence[str]) -> tuple[str, ...]:
    return tuple(prefix + word for word in words)


FETCH = Section(
    "a section such as {url: …, sha256: …, to: /opt/tool}",
    model.Fetch,
    Key("url", Text("an address such as 'https://example.org/tool.tar.gz'", forms.url, pattern=forms.URL),
        "Where the file is fetched from, once; later it comes from the cache."),
    Key("sha256", Text("64 hexadecimal digits", forms.sha256, pattern=forms.SHA256),
        "SHA-256 of the file. Bytes with another one are refused."),
    Key("to", INSIDE, "Where the file is put, or the folder that it is unpacked into."),
    Key("unpack", Flag(), "Whether it is an archive to unpack."),
    Key("mode", MODE, "Permissions of the file.", default_about="`0644`"),
    check=rules.fetch,
)  # fmt: skip

FILES = Section(
    "a section such as {from: app, to: /srv/app}",
    model.Files,
    Key("from", BESIDE, "A file or folder beside the definition.", field="source"),
    Key("to", INSIDE, "Where it is in the image. Of a folder, what is in it is put there."),
    Key("owner", Text("'root', the name of the image's user, or numbers such as '33:33'", forms.owner),
        "Who owns what is copied."),
    Key("mode", MODE, "Permissions of every file.", default_about="`0644`, or `0755` where the file is executable"),
    Key("exclude", ListOf(Text("a pattern such as '*.pyc'", forms.exclude), "a list of patterns, such as ['*.pyc']"),
        "Patterns as in `.gitignore`, of what is left out besides `.git`, `__pycache__`, `.env` and every declared "
        "secret."),
    check=rules.files,
)  # fmt: skip

USER = Section(
    "a section {name, uid}",
    model.User,
    Key("name", Text("a user name other than root", forms.user_name, pattern=forms.USER),
        "Name of the user: one that a package makes, or a new one."),
    Key("uid", Whole(1, 65533), "Number of the user. One that a package gives another number is refused.",
        default_about="what the image has; of a new user `10001`"),
    Key("gid", Whole(1, 65533), "Number of the user's group.",
        default_about="what the image has; of a new user its uid"),
)  # fmt: skip

IMAGE = Section(
    "a section that says what the image is made of",
    model.ImageSpec,
    Key("base", Text("'debian:' and a suite, such as 'debian:bookworm'", forms.base, pattern=forms.BASE),
        "The Debian suite that the image stands on, bootstrapped from locked packages."),
    Key("packages",
        ListOf(Text("the name of a package, such as 'curl' or 'curl=7.88.1-10'", forms.package, pattern=forms.PACKAGE),
               "a list of packages, such as [curl, ca-certificates]", unique=True),
        "Debian packages: `name`, or `name=version`."),
    Key("suites",
        ListOf(Text("the name of a suite, such as 'bookworm-backports'", forms.suite, pattern=forms.SUITE),
               "a list of suites, such as [bookworm-backports]", unique=True),
        "Suites that packages may come from besides those of `base`: as this machine's apt sources call them."),
    Key("python", BESIDE, "A requirements file; what it names is installed from locked wheels into `/opt/venv`, "
        "which is first on PATH."),
    Key("fetch", ListOf(FETCH, "a list of sections such as {url, sha256, to}"),
        "Files from the network, each known by its hash."),
    Key("files", ListOf(FILES, "a list of sections such as {from: app, to: /srv/app}"),
        "Files of your own, copied in this order."),
    Key("run", ListOf(Text("one line for the shell", forms.word), "a list of lines for the shell"),
        "Lines that `/bin/sh` runs as root while the image is baked, without a network; each makes a layer."),
    Key("run_timeout", DURATION, "How long one of them may take.", field="run_timeout_ms"),
    Key("env", VARIABLES, "Environment variables of every process in the image."),
    Key("user", Either(Text("the name of a user, such as 'app'", _user_named, pattern=forms.USER), USER),
        "Who the service runs as. Never root.", default_about="`app`, which is new and has the numbers 10001"),
    check=rules.image,
)  # fmt: skip

HEALTH = Section(
    "a section such as {path: /healthz}, {tcp: true} or {command: [./check]}",
    model.Health,
    Key("path", Text("a path such as '/healthz'", forms.health_path, pattern=forms.HEALTH_PATH),
        "GET this path: healthy when the answer is 200 to 399."),
    Key("host", HOST, "What the request for it says as its `Host`."),
    Key("tcp", Flag(only_true=True), "Connect to the port: healthy when that succeeds.", default=False,
        default_about="when there is a port and nothing else is chosen"),
    Key("command", COMMAND, "Run this in the instance: healthy when it exits with 0."),
    Key("interval", DURATION, "From one check to the next.", field="interval_ms"),
    Key("timeout", DURATION, "How long one check may take.", field="timeout_ms"),
    Key("deadline", DURATION, "How long a new instance may take until it is healthy.", field="deadline_ms"),
    Key("steady", DURATION, "How long an instance of a new release has to stay healthy before it gets traffic; with an "
        "exclusive volume: before the rollout is done.", field="steady_ms",
        default_about="its first good answer is enough"),
    make=_health,
    check=rules.health,
)  # fmt: skip

TIMEOUTS = Section(
    "a section {request, tunnel, wait}",
    model.Timeouts,
    Key("request", DURATION, "How long the router waits for the service.", field="request_ms"),
    Key("tunnel", DURATION, "How long a WebSocket or a TCP connection may be silent.", field="tunnel_ms"),
    Key("wait", DURATION, "How long a request waits in the router while there is no instance that can take it, as "
        "while an exclusive volume changes hands; then it is answered with 503.", field="wait_ms",
        default_about="it is answered with 503 at once"),
)  # fmt: skip

HEADERS = Section(
    "a section {size, count}",
    model.Headers,
    Key("size", SIZE, "How long the head of a request or of an answer may be; at most 1M.", field="size_bytes"),
    Key("count", Whole(10, 4_000), "How many lines it may have."),
    check=rules.headers,
)

STOP = Section(
    "a section {signal, grace, drain}",
    model.Stop,
    Key("signal",
        Choice(_prefixed("SIG", _SIGNALS.split()), prefix="SIG", expected="the name of a signal, such as SIGTERM"),
        "What tells the service to end."),
    Key("grace", DURATION, "How long it may take to end before it is killed.", field="grace_ms"),
    Key("drain", DURATION, "How long requests in flight may take before the service is told to end.",
        field="drain_ms"),
)  # fmt: skip

LIMITS = Section(
    "a section {memory, cpus, pids}",
    model.Limits,
    Key("memory", SIZE, "Memory of one instance, what it writes to /tmp included; at least 4M.", field="memory_bytes"),
    Key("cpus", Decimal(3, 10, 1_024_000), "Processors that one instance can keep busy.", field="cpus_milli"),
    Key("pids", Whole(2, 4_194_304), "Processes and threads of one instance."),
    check=rules.limits,
)

VOLUME = Section(
    "a section such as {name: data, path: /var/lib/app}",
    model.Volume,
    Key("name", NAME, "Name of the volume; it belongs to the service in one environment."),
    Key("path", INSIDE, "Where the service finds it."),
    Key("access", Choice(("exclusive", "shared")),
        "`exclusive`: one instance at a time, so the old one stops before the new one starts. `shared`: the service "
        "takes care of several at once."),
    Key("exec", Flag(), "Whether programs in it can be run."),
    Key("size", SIZE,
        "The most that it holds, at least 16M, reserved on the disk. It only grows: a smaller number changes nothing.",
        field="size_bytes", default_about="as much as the disk holds"),
    check=rules.volume,
)  # fmt: skip

TMP = Section(
    "a section {size, exec}",
    model.Tmp,
    Key("size", SIZE, "Room in the instance's own /tmp.", field="size_bytes"),
    Key("exec", Flag(), "Whether programs in it can be run."),
)

SERVICE = Section(
    "a section that says how the service runs",
    model.Service,
    Key("command", COMMAND, "The program and its arguments, a word an item. No shell is in between."),
    Key("workdir", INSIDE, "Folder that the service starts in."),
    Key("port", Whole(1, 65535), "Port that the service listens on, on 0.0.0.0. Left out: a worker, without traffic."),
    Key("protocol", Choice(("http", "tcp"), later=("http2", "grpc", "udp")), "What the router takes the traffic for."),
    Key("health", HEALTH, "How an instance is known to be well; one of `path`, `tcp` and `command`.", default=None,
        default_about="`{tcp: true}` with a port; without one, that it runs"),
    Key("timeouts", TIMEOUTS, "How long the router waits."),
    Key("headers", HEADERS, "How large the headers of a request or of an answer may be, of a service of http. What is "
        "larger is answered with 400 or 502."),
    Key("stop", STOP, "How an instance ends."),
    Key("limits", LIMITS, "What one instance may use."),
    Key("volumes", ListOf(VOLUME, "a list of sections such as {name: data, path: /var/lib/app}"),
        "Data that outlives releases. All else in an instance is read-only, besides /tmp and /run."),
    Key("tmp", TMP, "The instance's own /tmp, in memory."),
    Key("shm", SIZE, "Room in the instance's own /dev/shm, in memory, which counts to `limits.memory`.",
        field="shm_bytes"),
    Key("capabilities",
        ListOf(Choice(_prefixed("CAP_", model.CAPABILITIES), prefix="CAP_",
                      expected="a Linux capability, such as SYS_NICE"),
               "a list of Linux capabilities, such as [SYS_NICE]", unique=True),
        "What the service may do beyond an ordinary user. Low ports need none."),
    Key("jit", Flag(), "The service makes code while it runs, as java, node, PostgreSQL or PHP do: its memory may be "
        "executable. Else `instar drift` tells of it."),
    Key("smoke", CHECKS, "What a candidate is asked before it gets traffic, besides `health`. One that fails ends the "
        "rollout."),
    Key("before", TASKS, "Commands that run one after the other before the new release starts, each in an instance of "
        "its own from the new image, such as a migration. One that fails ends the rollout."),
    Key("after", TASKS, "Commands that run in the same way when the new release has all the traffic."),
    Key("data", DATA, "Which form of its data the service writes, and which it can read, so that no way back leads to "
        "a release that cannot read what there is."),
    make=_service,
    check=rules.service,
    elsewhere={
        **dict.fromkeys(("env", "environment", "config"), "variables stand in an environment's 'config', or in "
            "'image.env' when they are the same everywhere"),
        **dict.fromkeys(("instances", "replicas"), "how many run is 'instances' of an environment"),
        "user": "who the service runs as is 'image.user'",
        "secrets": "secrets are an environment's: 'environments.NAME.secrets'",
        "image": "what it is made of stands in the section 'image' at the top",
    },
)  # fmt: skip

SECRET = Section(
    "a section such as {file: secrets/token}",
    model.Environment,
    Key("file", SECRET_FILE, "File beside the definition that holds the secret. It never goes into an image.",
        default=REQUIRED),
    make=_file_of,
    elsewhere=dict.fromkeys(
        ("env", "value", "variable", "command", "from"),
        "a secret is a file beside the definition, such as {file: secrets/token}; what is no secret stands in 'config'",
    ),
)  # fmt: skip

KEEP = Section(
    "a section {hot, releases}",
    model.Keep,
    Key("hot", Whole(0, 5), "Releases before the active one whose instances stay ready for a rollback."),
    Key("releases", Whole(1, 100), "Releases whose images `instar gc` spares."),
)

ENVIRONMENT = Section(
    "a section, such as {listen: '127.0.0.1:8080'}",
    model.Environment,
    Key("provider", Choice(("local",), later=("kubernetes", "vm", "aws")), "What runs the instances."),
    Key("listen", OneOrMore(ADDRESS, "an address such as '127.0.0.1:8080', or a list of them", later=["tls"]),
        "Where the service is reached, one address or a list; `:8080` is every IPv4 address of the machine.",
        default_about="**required** with a port"),
    Key("accept_proxy", OneOrMore(NETWORK, "an address such as '10.0.0.7', or a list of them"),
        "Servers in front, by address or network: their connections begin with the PROXY protocol's header (version 1 "
        "or 2), which says who asks. Nobody else's do."),
    Key("instances", Whole(1, 100), "How many instances run."),
    Key("promote_from", NAME, "The environment whose image `instar promote` brings here; a direct deploy is refused."),
    Key("config", VARIABLES, "Environment variables of the instances here. A change makes a new release of the same "
        "image."),
    Key("secrets", MapOf(VARIABLES.key, SECRET, "a section such as {TOKEN: {file: secrets/token}}"),
        "Secrets of the instances here, by name."),
    Key("rollout", ROLLOUT, "How the traffic moves to a new release."),
    Key("preview", PREVIEW,
        "Where a candidate is reached before it gets traffic, of a service of http: an address of its own, or "
        "`header`: the service's own address, for requests with `X-Instar-Release: NUMBER`."),
    Key("replace", REPLACE, "How often instances are replaced."),
    Key("replace_within", DURATION, "How long after `instar shell` an instance is replaced.",
        field="replace_within_ms"),
    Key("drift", DRIFT, "How often it is checked that what runs is what was baked, and what follows."),
    Key("network", REACHED,
        "What the instances reach besides the world. A change applies at once, and makes no release."),
    Key("keep", KEEP, "What is kept of releases before."),
    make=dict,
    bare=True,
    elsewhere={
        **dict.fromkeys(("env", "environment", "variables"), "variables of an environment stand in its 'config'"),
        **dict.fromkeys(("port", "ports", "address", "bind"), "where it is reached is 'listen: 127.0.0.1:8080'"),
        **dict.fromkeys(("replicas", "count", "scale"), "how many run is 'instances'"),
    },
)  # fmt: skip

DEFINITION = Section(
    "a definition, which begins with 'name: …'",
    model.Definition,
    Key("name", NAME, "Name of the service."),
    Key("image", IMAGE, "What the image is made of. Changing it makes a new image."),
    Key("service", SERVICE, "How an instance runs. Changing it makes a new release."),
    Key("environments", MapOf(NAME, ENVIRONMENT, "a section with one section for each environment, such as 'dev'"),
        "Where releases run, by name.", default={}),
    make=_definition,
    check=rules.definition,
)  # fmt: skip

for _, _section in DEFINITION.sections():
    _section.root = DEFINITION

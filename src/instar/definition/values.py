"""What may stand at a key, by the name that its declaration gives it (``model.declaration``)."""

from __future__ import annotations

import functools
from typing import Final

from instar.definition import (
    address_forms,
    archive_forms,
    base_forms,
    cluster_forms,
    door_forms,
    forms,
    input_forms,
    machine_forms,
    platform_forms,
    schedule_forms,
    sites,
    use_forms,
)
from instar.definition.composed import ListOf, MapOf
from instar.definition.problems import listed
from instar.definition.shapes import Choice, Decimal, Flag, Installed, Shape, Text, Whole
from instar.entry_points import provider_names
from instar.model import reference
from instar.model.architectures import PLATFORMS
from instar.model.capabilities import CAPABILITIES
from instar.model.drift import KINDS
from instar.model.image_spec import User
from instar.model.slim import Slim

_SIGNALS: Final = """
HUP INT QUIT ILL TRAP ABRT BUS FPE KILL USR1 SEGV USR2 PIPE ALRM TERM STKFLT CHLD CONT STOP TSTP TTIN TTOU URG XCPU
XFSZ VTALRM PROF WINCH IO PWR SYS
"""  # Source: signal(7)
_ABOUT_ITSELF: Final = ("rule",)  # an expired rule can't be ignored by another


def _slim(text: str) -> Slim:
    if text != "true":
        raise forms.Misfit("leave the key out")
    return Slim()


def _user_named(text: str) -> User:
    return User(name=forms.user_name(text))


VARIABLE: Final = Text(
    "a name of letters, digits and '_' that does not begin with a digit", forms.variable, pattern=forms.VARIABLE
)
NAME: Final = Text(
    "a name of a-z, 0-9 and '-', which begins with a letter and has at most 31 characters",
    forms.name,
    pattern=forms.NAME,
)
HOST_NAME: Final = Text("a name such as 'www.shop.example'", sites.host_name, pattern=sites.HOST_NAME)
_REGISTRY: Final = Text("the host of a registry, such as 'registry.example.org' or '10.0.0.5:5000'",
    machine_forms.registry, pattern=reference.HOST)  # fmt: skip
_PROJECT: Final = Text("a project such as 'acme-core', or how several begin, such as 'acme-*'", archive_forms.project,
    pattern=archive_forms.PROJECT)  # fmt: skip
_SOURCE: Final = Text("a project such as 'acme-core'", archive_forms.one_project, pattern=archive_forms.ONE_PROJECT)
_VALUE: Final = Text(
    "a text, a number, or true or false, taken as it is written", kinds=("string", "number", "boolean")
)
_time: Final = functools.partial(Text, pattern=forms.DURATION, show=forms.show_duration)
_DURATION: Final = _time("a time such as '500ms', '2s', '1m30s' or '1h'", forms.duration)
_SIZE: Final = Text("a size such as '64K', '256M' or '1G'", forms.size, pattern=forms.SIZE, show=forms.show_size)

# of numbers, by the unit in the name of their field
BY_UNIT: Final = {"_ms": _DURATION, "_bytes": _SIZE}
# of names that the author gives: the keys of a section of his own
NAMES: Final = {
    "variable": VARIABLE,
    "name": NAME,
    "host name": HOST_NAME,
    "door": Text("a role, or a port of one, such as 'web' or 'web.admin'", door_forms.door, pattern=door_forms.DOOR),
    "kept door": Text("a port or a role, such as '.admin'", door_forms.kept, pattern=door_forms.KEPT),
    "registry": _REGISTRY,
    "annotation": Text("a name such as 'prometheus.io/scrape'", cluster_forms.annotation, pattern=cluster_forms.KEY),
}

# A value reads as a line or two: its name, what a wrong one is told, its form.
# fmt: off
VALUES: Final[dict[str, Shape]] = {
    "name": NAME,
    "text": Text("a text", forms.word),
    "line": Text("one line for the shell", forms.word),
    "reason": Text("a text that says why", forms.word),
    "command": ListOf(Text("a text, one word of the command", forms.word), "a list of words, such as [python3, app.py]",
        minimum=1),
    "variable": VARIABLE,
    "variables": MapOf(VARIABLE, _VALUE, "a section of names and values, such as {GREETING: hello}"),
    "plain value": _VALUE,
    "only true": Flag(only_true=True),
    # times and sizes
    "duration": _DURATION,
    "cron": Text("a line such as '0 3 * * *'", schedule_forms.cron),
    "time zone": Text("a time zone such as 'Europe/Berlin'", schedule_forms.zone),
    "kept time zone": Text("the name of a time zone", schedule_forms.kept_zone),
    "age": _time("a time such as '24h' or '30m'", forms.age),
    "pause": Text("a time such as '30s', or the word 'manual'", forms.pause, pattern=f"{forms.MANUAL}|{forms.DURATION}",
        show=forms.show_pause),
    "interval": Text("a time such as '60s', or the word 'never'", forms.interval,
        pattern=f"{forms.NEVER}|{forms.DURATION}", show=forms.show_interval),
    "day": Text("a day such as '2027-01-31'", forms.day, pattern=forms.DAY),
    "size": _SIZE,
    "number of instances": Whole(1, 100),
    "number of a port": Whole(1, 65535),
    "share": Whole(1, 99, advise=forms.percent),
    "points": Decimal(1, 0, 1_000, advise=forms.percent),
    # files, and what an image is made of
    "path inside": Text("an absolute path in the image, such as '/srv/app'", forms.inside, pattern="/.*"),
    "author's path": Text("a path in the definition's folder, such as 'app'", forms.author_path, pattern="[^/].*"),
    "secret file": Text("a path in the definition's folder, such as 'secrets/token'", forms.secret_file,
        pattern="[^/].*"),
    "mode": Text("permissions such as '0644' or '0755'", forms.mode, pattern=forms.MODE, show="{:04o}".format,
        kinds=("string", "integer")),
    "owner": Text("'root', the name of the image's user, or numbers such as '33:33'", forms.owner),
    "pattern": Text("a pattern such as '*.pyc'", forms.exclude),
    "only slim": Text("true", _slim, pattern="true", kinds=("boolean",)),
    "ignore file": Choice((".instarignore", ".dockerignore")),
    "property of files": Choice(("setuid", "capabilities", "attributes", "hardlinks", "links")),
    "user": Text("the name of a user, such as 'app'", _user_named, pattern=forms.USER),
    "user's name": Text("a user name other than root", forms.user_name, pattern=forms.USER),
    "base": Text("'debian:' and a suite, such as 'debian:bookworm', or 'scratch'", base_forms.base,
        pattern=base_forms.BASE),
    "image of others": Text("an image such as 'registry.example.org/team/base:1.2' or './base.tar'",
        base_forms.image_of_others, pattern=r"\./.+|.+:.+"),
    "other definition": Text("the file of a definition, such as '../base/instar.yaml'", base_forms.other_definition,
        pattern=r"[^/].*\.ya?ml"),
    "platform": Text(listed(PLATFORMS), platform_forms.platform, pattern="|".join(PLATFORMS)),
    "package": Text("the name of a package, such as 'curl', 'curl=7.88.1-10' or 'curl=7.88*'", forms.package,
        pattern=forms.PACKAGE),
    "suite of an archive": Text("a suite such as 'stable', or a path such as './'", archive_forms.suite,
        pattern=archive_forms.SUITE),
    "component": Text("a component such as 'main'", archive_forms.component, pattern=archive_forms.COMPONENT),
    "projects by index": MapOf(NAME, ListOf(_PROJECT, "a list of projects, such as [acme-core, 'acme-*']", minimum=1,
        unique=True), "a section of indexes and projects, such as {internal: [acme-core, 'acme-*']}"),
    "projects by stage": MapOf(NAME, ListOf(_SOURCE, "a list of projects, such as [acme-core]", minimum=1,
        unique=True), "a section of stages and projects, such as {compile: [acme-core]}"),
    "address of an index": Text("an address such as 'https://pypi.example.org/simple'", machine_forms.index_address,
        pattern=forms.URL),
    "user of an index": Text("a name without spaces and ':'", machine_forms.index_user, pattern=r"[!-9;-~]{1,200}"),
    "address of an archive": Text("an address such as 'https://deb.example.org/debian'", archive_forms.address,
        pattern=forms.URL),
    "part of packages": Choice(("docs", "locales", "apt", "shell")),
    "suite": Text("the name of a suite, such as 'bookworm-backports'", forms.suite, pattern=forms.SUITE),
    "npm package": Text("the name of a package of npm, such as 'bcrypt' or '@scope/name'", forms.npm_package,
        pattern=forms.NPM_PACKAGE),
    "packages of npm by index": MapOf(NAME, ListOf(Text("a package such as '@acme/core', or how several begin, such as "
        "'@acme/*'", archive_forms.npm_packages, pattern=archive_forms.NPM_PACKAGES), "a list of packages, such as "
        "['@acme/*']", minimum=1, unique=True), "a section of indexes and packages, such as {internal: ['@acme/*']}"),
    "goal of Maven": Text("a word such as 'package' or '-DskipTests'", forms.word),
    "commit": Text("the 40 hexadecimal digits of a commit", input_forms.commit, pattern=input_forms.COMMIT),
    "sha256": Text("64 hexadecimal digits", forms.sha256, pattern=forms.SHA256),
    "address of a file": Text("an address such as 'https://example.org/tool.tar.gz'", input_forms.address,
        pattern=input_forms.ADDRESS),
    # what is asked, and of whom
    "address of a page": Text("an address such as 'https://example.org/status'", forms.url, pattern=forms.URL),
    "database": Text("the address of a PostgreSQL database, such as 'postgresql://instar@db.example/instar'",
        machine_forms.database, pattern="postgres(ql)?://.*"),
    "webhook": Text("an address such as 'https://example.org/notices'", machine_forms.webhook, pattern=forms.URL),
    "address of a directory": Text("an address such as 'https://acme.example.org/directory'", machine_forms.secure_url,
        pattern=r"https://[A-Za-z0-9\[][!-~]*"),
    "mail address": Text("a mail address such as 'ops@example.org'", machine_forms.mail_address,
        pattern=machine_forms.MAIL_ADDRESS),
    "file of the machine": Text("an absolute path, such as '/etc/instar/ca.pem'", machine_forms.machine_path,
        pattern="/.*"),
    "socket": Text("a socket, such as 'unix:/run/vector.sock' or 'tcp:127.0.0.1:5170'", machine_forms.socket_address,
                   pattern=r"(unix:/|tcp:).+"),
    "group of users": Text("the name of a group of users, such as 'instar-readers'", machine_forms.user_group,
        pattern="[a-z_][a-z0-9_-]{0,31}"),
    "word": Text("a word of letters, digits, '-', '_' and '.'", machine_forms.plain_word,
        pattern=machine_forms.PLAIN_WORD),
    "registry": _REGISTRY,
    "mirror": Text("a registry such as 'mirror.example.org', or 'mirror.example.org/hub'", machine_forms.mirror,
        pattern=rf"{reference.HOST}(?:/{reference.PATH})?"),
    "repository": Text("a repository such as 'registry.example.org/team/shop'", machine_forms.repository,
        pattern=rf"{reference.HOST}/{reference.PATH}"),
    "namespace": Text("a name of at most 63 small letters, digits and '-'", cluster_forms.namespace,
        pattern=cluster_forms.NAMESPACE),
    "object's name": Text("a name of small letters, digits, '-' and '.'", cluster_forms.object_name,
        pattern=cluster_forms.OBJECT_NAME),
    "context": Text("the name of a context", cluster_forms.context, pattern=cluster_forms.CONTEXT),
    "image by its digest": Text("an image by its digest, such as 'registry.example.org/busybox@sha256:…'",
        cluster_forms.by_digest, pattern=cluster_forms.BY_DIGEST),
    "Prometheus": Text("an address such as 'http://prometheus.monitoring.svc:9090'", cluster_forms.prometheus,
        pattern=cluster_forms.PROMETHEUS),
    "label of a node": Text("a name such as 'topology.kubernetes.io/zone'", cluster_forms.label_key,
        pattern=cluster_forms.KEY),
    "labelled": Text("a label such as 'disk=ssd'", cluster_forms.labelled, pattern=cluster_forms.LABELLED),
    "sender": Text("a namespace, or a network such as '10.0.0.0/8'", cluster_forms.sender,
        pattern=rf"{cluster_forms.NAMESPACE}|[0-9A-Fa-f.:]+/\d{{1,3}}"),
    "query": Text("a query with '$group' in it", cluster_forms.query, pattern=r"(?:.|\n)*\$\{?group(?:.|\n)*"),
    "value of a label": Text("a value of at most 63 letters, digits, '-', '_' and '.'", cluster_forms.label_value,
        pattern=cluster_forms.VALUE),
    "path of a request": Text("a path such as '/healthz'", forms.health_path, pattern=forms.HEALTH_PATH),
    "host name": HOST_NAME,
    "site": Text("a name such as 'shop.example' or 'shop.example/api'", sites.site, pattern=sites.SITE),
    "secure site": Text("a name such as 'shop.example', '*.shop.example' or 'shop.example/api'", sites.secure_site,
        pattern=rf"(?:\*\.)?(?:{sites.SITE})"),
    "certificates": Choice(("acme", "internal")),
    "host": Text("a host such as 'example.org' or 'example.org:8443'", address_forms.host, pattern=address_forms.HOST),
    "address": Text("an address such as '127.0.0.1:8080'", address_forms.address, pattern=r".*:\d{1,5}"),
    "listening address": Text("an address such as '127.0.0.1:8080', or the word 'internal'", use_forms.listening,
        pattern=rf".*:\d{{1,5}}|{address_forms.INTERNAL}"),
    "network": Text("an address or a network, such as '10.0.0.7' or '10.0.0.0/8'", address_forms.network,
        pattern=r"[0-9A-Fa-f.:]+(/\d{1,3})?"),
    "media type": Text("a type such as 'text/html'", forms.media_type, pattern=forms.MEDIA_TYPE),
    "preview": Text("an address such as '127.0.0.1:8081', or the word 'header'", address_forms.preview,
        pattern=rf"{address_forms.HEADER}|.*:\d{{1,5}}"),
    "environment of a service": Text("SERVICE/ENVIRONMENT, such as 'shop/production'",
        machine_forms.service_environment, pattern=rf"{forms.NAME}/{forms.NAME}"),
    "used environment": Text("a service such as 'redis', SERVICE/ENVIRONMENT such as 'db/production', or a role of "
        "either such as 'shop:api'", use_forms.used, pattern=rf"{forms.NAME}(?:/{forms.NAME})?(?::{forms.NAME})?"),
    "peer": Text("SERVICE/ENVIRONMENT, 'machine', or a network such as '169.254.169.254/32'", address_forms.peer),
    "port": Text("a port such as 5432 or '53/udp'", address_forms.port, pattern=address_forms.PORT,
        kinds=("string", "integer")),
    # words
    "provider": Installed(provider_names, later=("vm", "aws")),
    "signal": Choice(tuple(f"SIG{name}" for name in _SIGNALS.split()), prefix="SIG",
        expected="the name of a signal, such as SIGTERM"),
    "capability": Choice(tuple(f"CAP_{name}" for name in CAPABILITIES), prefix="CAP_",
        expected="a Linux capability, such as SYS_NICE"),
    "kind of finding": Choice(tuple(kind for kind in KINDS if kind not in _ABOUT_ITSELF)),
    "place of a finding": Text("a text such as '*:9000'", forms.word),
}

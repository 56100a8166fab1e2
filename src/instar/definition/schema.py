"""The file that a user writes, as its section: the one source of its reading, its JSON Schema and its reference page.

Its keys are declared in ``model.definition`` and ``model.environment``. Here is what a section as a whole is told, what
its values become where that is not its dataclass as it stands, and which of ``rules`` looks at several keys at once.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, Final, Literal

from instar.definition import (
    address_forms,
    image_rules,
    origin_rules,
    rollout_rules,
    rules,
    schedule_rules,
    secret_rules,
    taken_apart,
)
from instar.definition.declared import About, Sections
from instar.definition.layers import OVERRIDABLE, not_overridable
from instar.definition.section import Key
from instar.entry_points import find_provider, provider_names
from instar.errors import ProviderMissing
from instar.model import base, environment, host_names, image_sources, image_spec
from instar.model import definition as model
from instar.model.codec import to_json
from instar.model.doors import Door, Port
from instar.model.overrides import Overrides
from instar.model.projects import MavenProject, NpmPackages, PythonProjects
from instar.model.requests import Compression, Rate, Requests
from instar.model.roles import SERVICE
from instar.model.scaling import Scaling
from instar.model.slim import Slim

DEFAULT_STEPS: Final = (10, 50)  # of a canary, in percent


def _health(*, path: str | None = None, tcp: bool = False, **values: Any) -> model.Health:
    """``none`` when nothing was chosen: the service decides, which knows whether there is a port."""
    kind: Literal["http", "tcp", "command", "none"] = "tcp" if tcp else "none"
    if path is not None:
        kind = "http"
    elif "command" in values:
        kind = "command"
    return model.Health(kind=kind, path=path, **values)


def _service(
    *,
    health: model.Health | None = None,
    port: int | None = None,
    ports: dict[str, int | Port] | None = None,
    **values: Any,
) -> model.Service:
    return model.Service(health=_chosen(health, port), port=port, ports=_ports(ports), **values)


def _ports(ports: dict[str, int | Port] | None) -> dict[str, Port]:
    return {name: Port(port=one) if isinstance(one, int) else one for name, one in (ports or {}).items()}


def _chosen(health: model.Health | None, port: int | None) -> model.Health:
    chosen = health or model.Health(kind="none")
    return dataclasses.replace(chosen, kind="tcp") if chosen.kind == "none" and port is not None else chosen


def _part(
    kind: type[image_spec.BuildStage], *, python: str | PythonProjects | None = None, **values: Any
) -> image_spec.BuildStage:
    if isinstance(python, PythonProjects):
        values |= {"indexes": python.sources, "from_source": python.from_source}
        python = python.requirements
    return kind(python=python, **values)


def _role(
    *,
    health: model.Health | None = None,
    port: int | None = None,
    ports: dict[str, int | Port] | None = None,
    **values: Any,
) -> model.Role:
    return model.Role(health=_chosen(health, port), port=port, ports=_ports(ports), **values)


def _definition(
    *,
    environments: dict[str, dict[str, Any]] | None = None,
    roles: dict[str, model.Role] | None = None,
    **values: Any,
) -> model.Definition:
    known = roles or {}
    named = {
        name: _environment(name=name, roles=_roles(known, fields.pop("roles", {})), first=_first(known), **fields)
        for name, fields in (environments or {}).items()
    }
    made = model.Definition(environments=named, roles=known, **values)
    return dataclasses.replace(made, service=made.services[made.first_role])


def _first(roles: dict[str, model.Role]) -> str:
    """Return how the role is called that the first door leads to."""
    return next((name for name, role in roles.items() if role.port is not None), SERVICE)


def _roles(roles: dict[str, model.Role], own: dict[str, dict[str, Any]]) -> dict[str, environment.RoleSettings]:
    """Return what holds of each role in an environment, which says ``own`` of some."""
    return {
        name: environment.RoleSettings(
            **{"instances": role.instances, "when": role.when, **own.get(name, {}), **_scaled(own.get(name, {}))}
        )
        for name, role in roles.items()
    }


def _scaled(own: dict[str, Any]) -> dict[str, Any]:
    """Return a number of instances that an autoscaler says as what is kept of it."""
    bounds = own.get("instances")
    return {"scaling": bounds, "instances": bounds.min} if isinstance(bounds, Scaling) else {}


def _environment(
    *,
    first: str,
    listen: tuple[str | host_names.Listen, ...] | dict[str, tuple[str | host_names.Listen, ...]] = (),
    tls: str | host_names.Tls = "acme",
    instances: int | Scaling = 1,
    config_file: str | None = None,
    **values: Any,
) -> environment.Environment:
    """Addresses and names, which are written together, are apart in what is kept of them; and so are the number of
    instances, and who else may say it."""
    if isinstance(instances, Scaling):
        values["scaling"], instances = instances, instances.min
    source = host_names.Tls(kind=tls) if isinstance(tls, str) else tls  # type: ignore[arg-type]
    by_door = dict(listen) if isinstance(listen, dict) else {first: listen}
    listen = by_door.pop(first, ())
    doors = {
        door.removeprefix(first) if door.startswith(f"{first}.") else door: _door(one) for door, one in by_door.items()
    }
    sections = [one for each in (listen, *by_door.values()) for one in each if isinstance(one, host_names.Listen)]
    names = host_names.HostNames(
        http=tuple(name for one in sections for name in one.http),
        https=tuple(name for one in sections for name in one.https),
        redirect={source: to for one in sections for source, to in one.redirect.items()},
        hsts_ms=next((one.hsts_ms for one in sections if one.hsts_ms is not None), None),
        client_ca=next((one.client_ca for one in sections if one.client_ca is not None), None),
    )
    uses = tuple(_used(one, values["name"]) for one in values.pop("uses", ()))
    return environment.Environment(
        listen=_addresses(listen),
        doors=doors,
        names=names,
        internal=address_forms.INTERNAL in listen,
        tls=source,
        instances=instances,
        uses=uses,
        **values,
    )


def _used(written: str, environment: str) -> str:
    """Return SERVICE/ENVIRONMENT, and the role of it, of what is written of the one that has this name."""
    where, colon, role = written.partition(":")
    return f"{where if '/' in where else f'{where}/{environment}'}{colon}{role}"


def _door(listen: tuple[str | host_names.Listen, ...]) -> Door:
    sections = [one for one in listen if isinstance(one, host_names.Listen)]
    sites = tuple(site for one in sections for site in (*one.http, *one.https))
    return Door(listen=_addresses(listen), sites=sites, internal=address_forms.INTERNAL in listen)


def _addresses(listen: tuple[str | host_names.Listen, ...]) -> tuple[str, ...]:
    own = [one for one in listen if isinstance(one, str) and one != address_forms.INTERNAL]
    return (*own, *(address for one in listen if isinstance(one, host_names.Listen) for address in one.address))


def _tls(**values: Any) -> host_names.Tls:
    return host_names.Tls(kind="files", **values)


def _other_base(*, oci: str | None = None, image: str | None = None) -> str:
    return base.as_oci(oci) if oci is not None else base.as_definition(image or "")


def _check(**values: Any) -> environment.Check:
    kind = next(kind for kind, key in (("http", "path"), ("command", "command"), ("url", "url")) if key in values)
    return environment.Check(kind=kind, **values)  # type: ignore[arg-type]


def _data(*, version: int, reads: tuple[int, ...] = ()) -> model.Data:
    return model.Data(version=version, reads=tuple(sorted(reads)) or (version,))


def _rollout(
    *,
    steps: tuple[Any, ...] = (),
    pause: int | None = environment.PAUSE_MS,
    strategy: str = "blue-green",
    **values: Any,
) -> environment.RolloutRules:
    """A step without a pause of its own has that of the rollout, a canary without steps the usual ones."""
    written = (steps or DEFAULT_STEPS) if strategy == "canary" else ()
    each = [step if isinstance(step, dict) else {"weight_percent": step} for step in written]
    made = tuple(environment.RolloutStep(**{"pause_ms": pause, **step}) for step in each)
    return environment.RolloutRules(strategy=strategy, steps=made, **values)  # type: ignore[arg-type]


def _provider_sections() -> dict[str, Key]:
    """Return the section of each installed provider that has one; what is written there is kept as JSON has it."""
    found = {name: getattr(find_provider(name), "settings", None) for name in provider_names()}
    return {name: _section_of(name, settings) for name, settings in found.items() if settings is not None}


@functools.cache
def _section_of(name: str, settings: type[Any]) -> Key:
    def make(**values: Any) -> Any:
        return to_json(settings(**values))

    try:
        section = Sections({settings: About(make=make)}).of(settings)
        section.keys  # noqa: B018  what its package declares is read here, and not in the middle of a definition
    except Exception as error:  # whatever somebody else's package has in the place of a declaration
        raise ProviderMissing(
            f"cannot read the settings that provider '{name}' declares: {error}",
            hint="mend that package, or uninstall it: docs/providers.md says how keys are declared",
        ) from error
    about = f"Settings of the provider `{name}`, for an environment of it."
    return Key(name, section, about, field="provider_settings", default=None)


_ARCHIVE_ELSEWHERE: Final = {
    "types": "an image is made of binary packages; remove it",
    "enabled": "it is used because it stands here; remove it",
    "architectures": "packages are of the lock's architecture; remove it",
    **dict.fromkeys(("signed-by", "signed_by_key", "key"), "its keys are a file beside the definition: 'signed_by'"),
    **dict.fromkeys(("trusted", "allow-insecure", "allow-weak"), "an archive that nobody signed is never read"),
    **dict.fromkeys(
        ("check-valid-until", "valid-until-max"), "of a snapshot say which day it is of: 'as_of: 2026-01-31'"
    ),
    **dict.fromkeys(("password", "user", "login"), "passwords are this machine's: /etc/apt/auth.conf.d"),
    **dict.fromkeys(("pin", "priority"), "only what 'packages' names, and what only it has, comes from an archive"),
}
_STAGE_ELSEWHERE: Final = {
    "user": "lines of a stage are run by root; who the service runs as is 'image.user'",
    "command": "what a stage runs are the lines of its 'run'",
}
_PYTHON_ELSEWHERE: Final = dict.fromkeys(
    ("url", "index_url", "extra_index_url", "password", "user", "token"),
    "where an index is, and who may ask it, is this machine's: 'indexes' in /etc/instar/config.yaml",
)
_SERVICE_ELSEWHERE: Final = {
    **dict.fromkeys(
        ("env", "environment", "config"),
        "variables stand in an environment's 'config', or in 'image.env' when they are the same everywhere",
    ),
    **dict.fromkeys(("instances", "replicas"), "how many run is 'instances' of an environment"),
    "with": "it is about one of several 'roles'",
    "user": "who the service runs as is 'image.user'",
    "secrets": "secrets are an environment's: 'environments.NAME.secrets'",
    "image": "what it is made of stands in the section 'image' at the top",
}
_ROLE_ELSEWHERE: Final = {
    **{name: text for name, text in _SERVICE_ELSEWHERE.items() if name not in ("instances", "with")},
    "replicas": "how many run is 'instances'",
    "when": "when it starts is 'with: traffic' or 'with: before'",
}
_SECRET_ELSEWHERE: Final = dict.fromkeys(
    ("env", "value", "command", "from"),
    "a secret is a file beside the definition, such as {file: secrets/token}, or comes from a {source: NAME} that the "
    "machine's own file names; what is no secret stands in 'config'",
)
_SAME_EVERYWHERE: Final = {
    **dict.fromkeys(
        ("name", "build", "image", "service", "registry", "environments"),
        not_overridable("it is the same in all environments"),
    ),
    **{
        one.name.removesuffix("_ms"): not_overridable("it is the service's or role's, and the same in all environments")
        for one in dataclasses.fields(model.Service)
        if one.name.removesuffix("_bytes") not in OVERRIDABLE
    },
}
_ENVIRONMENT_ELSEWHERE: Final = {
    **_SAME_EVERYWHERE,
    **dict.fromkeys(("env_file", "dotenv"), "a .env file is 'config_file: prod.env'"),
    **dict.fromkeys(("env", "environment", "variables"), "variables of an environment stand in its 'config'"),
    **dict.fromkeys(("port", "ports", "address", "bind"), "where it is reached is 'listen: 127.0.0.1:8080'"),
    **dict.fromkeys(("replicas", "count", "scale"), "how many run is 'instances'"),
}

_LISTEN_ELSEWHERE: Final = {
    "tls": "where certificates come from is 'tls' of the environment, beside 'listen'",
    "internal": "it stands alone: 'listen: internal'",
    **dict.fromkeys(("port", "ports"), "ports are the machine's, in the section 'edge' of /etc/instar/config.yaml"),
}

# A section reads as a line or two.
# fmt: off
_ABOUT: Final[dict[type[Any] | str, About]] = {
    model.Definition: About("a definition, which begins with 'name: …'", make=_definition, check=rules.definition),
    image_spec.ImageSpec: About("a section that says what the image is made of",
        make=functools.partial(_part, image_spec.ImageSpec), check=image_rules.image, without=("platform",)),
    PythonProjects: About("a section such as {requirements: requirements.txt, index: internal}",
        check=origin_rules.indexes, elsewhere=_PYTHON_ELSEWHERE),
    image_sources.Archive: About(
        "a section such as {uris: …, suites: stable, signed_by: keys/vendor.asc, packages: […]}",
        check=origin_rules.archive, elsewhere=_ARCHIVE_ELSEWHERE),
    image_spec.BuildStage: About("a section that says what the stage is made of",
        make=functools.partial(_part, image_spec.BuildStage), check=image_rules.stage,
        elsewhere=_STAGE_ELSEWHERE),
    image_sources.OtherBase: About(
        "a section such as {oci: 'registry.example.org/team/base:1.2'} or {image: ../base/instar.yaml}",
        make=_other_base, check=image_rules.other_base),
    image_spec.Fetch: About("a section such as {url: …, sha256: …, to: /opt/tool}", check=image_rules.fetch),
    Slim: About("a section such as {keep: [/usr/share/zoneinfo]}"),
    image_spec.Files: About("a section such as {from: app, to: /srv/app}", check=image_rules.files),
    NpmPackages: About("a section such as {from: app, to: /srv/app}", check=image_rules.npm),
    MavenProject: About("a section such as {from: .}"),
    model.Service: About("a section that says how the service runs", make=_service, check=rules.service,
        parts=taken_apart.service, elsewhere=_SERVICE_ELSEWHERE),
    model.Role: About("a section that says how the role runs, such as {command: [./work]}", make=_role,
        parts=taken_apart.service, check=rules.service, elsewhere=_ROLE_ELSEWHERE),
    Port: About("a section such as {port: 9001, protocol: tcp}"),
    model.Health: About("a section such as {path: /healthz}, {tcp: true} or {command: [./check]}", make=_health,
        parts=taken_apart.health, check=rules.health),
    model.Volume: About("a section such as {name: data, path: /var/lib/app}", check=rules.volume),
    model.Task: About("a section such as {command: [./migrate]}"),
    model.Data: About("a section such as {version: 4, reads: [3, 4]}", make=_data, check=rollout_rules.data),
    environment.Check: About("a section such as {path: /healthz}, {command: [./check]} or {url: 'https://…'}",
        make=_check, check=rollout_rules.check),
    "check of a candidate": About("a section such as {path: /healthz} or {command: [./check]}", of=environment.Check,
        without=("url",), make=_check, check=rollout_rules.check,
        elsewhere={"url": "smoke asks the candidate alone; other addresses are asked by 'rollout.analysis.checks'"}),
    environment.Environment: About("a section, such as {listen: '127.0.0.1:8080'}", also=Overrides, make=dict,
        parts=taken_apart.settings, bare=True, elsewhere=_ENVIRONMENT_ELSEWHERE, installed=_provider_sections),
    "defaults of environments": About("a section, such as {limits: {memory: 512M}}", of=environment.Environment,
        also=Overrides, without=("listen", "promote_from"), make=dict, elsewhere=_ENVIRONMENT_ELSEWHERE,
        installed=_provider_sections),
    environment.RoleSettings: About("a section such as {instances: 3}", also=Overrides, make=dict,
        parts=taken_apart.instances, elsewhere=_SAME_EVERYWHERE),
    host_names.Listen: About("a section such as {https: [shop.example]}", check=rules.listen,
        elsewhere=_LISTEN_ELSEWHERE),
    Requests: About("a section such as {largest_body: 10M}"),
    Rate: About("a section such as {requests: 100, within: 10s}"),
    Compression: About("a section such as {types: [text/html]}, or {} for the usual types"),
    host_names.Tls: About("a section such as {certificate: tls/shop.pem, key: tls/shop.key}", make=_tls,
        check=rules.tls),
    environment.ScheduledTask: About("a section such as {command: [./report], cron: '0 3 * * *'}",
        check=schedule_rules.task),
    environment.SecretSource: About("a section such as {file: secrets/token}", check=secret_rules.secret,
        elsewhere=_SECRET_ELSEWHERE),
    environment.RolloutRules: About("a section such as {strategy: canary, steps: [5, 25, 50]}", make=_rollout,
        parts=taken_apart.rollout, check=rollout_rules.rollout),
    environment.RolloutStep: About("a section such as {weight: 50, pause: manual}", make=dict),
    environment.Analysis: About("a section such as {max_failed: 1.0}, or {} for the defaults"),
    Scaling: About("a section such as {min: 2, max: 10}", check=rollout_rules.scaling),
    environment.Replace: About("a section such as {budget: 5, within: 10m}"),
    environment.Drift: About("a section such as {check: 60s, action: replace}"),
    environment.Ignore: About(
        "a section such as {kind: listener, path: '*:9000', reason: the debug port, until: 2027-01-31}"),
    environment.Network: About("a section such as {allow: [{to: database/production, ports: [5432]}]}"),
    environment.Allow: About("a section such as {to: database/production, ports: [5432]}"),
}
# fmt: on

DEFINITION: Final = Sections(_ABOUT).of(model.Definition)

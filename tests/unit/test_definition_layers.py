"""``defaults``, environments and files of configuration, laid over one another; and what is wrong with them."""

from pathlib import Path

import pytest
from definition_problems import problems_of
from lock_values import LOCK

from instar.bake.slim.plan import identity_of_slim
from instar.definition import load, parse
from instar.definition.layers import OVERRIDABLE
from instar.errors import DefinitionError
from instar.model.configuration import Configuration
from instar.model.definition import Definition, Service
from instar.model.roles import UNNAMED_ROLE

TOP = """\
name: shop
image: {base: debian:bookworm}
service:
  command: [./shop]
  port: 8080
  health: {path: /healthz, host: shop.example, deadline: 40s}
  limits: {memory: 128M, cpus: 2}
"""
ROLES = """\
name: shop
image: {base: debian:bookworm}
roles:
  web: {command: [./shop], port: 8080, limits: {memory: 128M}}
  worker: {command: [./work], instances: 3}
"""


def definition_of(rest: str, top: str = TOP) -> Definition:
    return parse(top + rest, "f").definition


def problems_in(rest: str, top: str = TOP) -> list[str]:
    return problems_of(top + rest)


def service_in(definition: Definition, environment: str) -> Service:
    return definition.services_in(environment)[UNNAMED_ROLE]


def test_the_environment_holds_over_defaults_and_these_over_the_service() -> None:
    found = definition_of("""\
defaults: {limits: {memory: 512M, pids: 9}, keep: {hot: 2}, config: {A: below, B: below}}
environments:
  dev: {listen: '127.0.0.1:80', limits: {memory: 1G}, config: {A: above}, keep: {releases: 7}}
  test: {listen: '127.0.0.1:81'}
""")
    dev, test = service_in(found, "dev").limits, service_in(found, "test").limits
    assert (dev.memory_bytes, dev.pids, dev.cpus_milli) == (1 << 30, 9, 2000)
    assert (test.memory_bytes, test.pids, test.cpus_milli) == (512 << 20, 9, 2000)
    assert found.service.limits.memory_bytes == 128 << 20
    assert found.environments["dev"].config == {"A": "above", "B": "below"}
    assert (found.environments["dev"].keep.hot, found.environments["dev"].keep.releases) == (2, 7)
    assert found.environments["test"].keep.releases == 5


def test_lists_are_replaced_and_null_takes_away() -> None:
    found = definition_of("""\
defaults: {command: [./shop, --all], config: {A: b, C: d}, rollout: {strategy: canary, steps: [5, 50]}}
environments:
  dev: {listen: '127.0.0.1:80', command: [./shop, --debug], config: {A: null}, rollout: {steps: [20]}, limits: null}
  test: {listen: '127.0.0.1:81', rollout: null, limits: {memory: null}}
""")
    dev, test = found.environments["dev"], found.environments["test"]
    assert service_in(found, "dev").command == ("./shop", "--debug") and dev.config == {"C": "d"}
    assert [step.weight_percent for step in dev.rollout.steps] == [20]
    assert service_in(found, "dev").limits.cpus_milli == 1000  # the usual: what the service says is taken away too
    assert test.rollout.strategy == "blue-green" and service_in(found, "test").limits.cpus_milli == 2000
    assert service_in(found, "test").limits.memory_bytes == 256 << 20


def test_one_way_of_asking_for_health_stands_for_the_others() -> None:
    found = definition_of("environments: {dev: {listen: '127.0.0.1:80', health: {tcp: true}}}\n")
    health = service_in(found, "dev").health
    assert (health.kind, health.path, health.host, health.deadline_ms) == ("tcp", None, "localhost", 40_000)


def test_roles_are_merged_by_name() -> None:
    found = definition_of(
        """\
defaults: {roles: {worker: {limits: {memory: 1G}, instances: 2}, web: {command: [./shop, --all]}}}
environments:
  dev: {listen: '127.0.0.1:80', roles: {worker: {command: [./work, --slow]}, web: {limits: {pids: 7}}}}
""",
        ROLES,
    )
    services = found.services_in("dev")
    assert services["worker"].command == ("./work", "--slow") and services["worker"].limits.memory_bytes == 1 << 30
    assert services["web"].command == ("./shop", "--all")
    assert (services["web"].limits.memory_bytes, services["web"].limits.pids) == (128 << 20, 7)
    assert found.environments["dev"].roles["worker"].instances == 2
    made = Configuration.of(found, "dev", config={}, secrets={}, provider_settings={})
    assert made.service == services["web"] and made.roles == {"worker": services["worker"]}


@pytest.mark.parametrize("rest", ["environments: {dev: {listen: '127.0.0.1:80', config: {A: b}}}\n"])
def test_a_definition_that_overrides_nothing_has_the_digest_that_it_had(rest: str) -> None:
    found = definition_of(rest)
    made = Configuration.of(found, "dev", config={}, secrets={}, provider_settings={})
    assert not found.own_services and made == Configuration(service=found.service)


def test_a_section_of_a_provider_is_for_its_environments() -> None:
    found = definition_of("""\
defaults: {kubernetes: {registry: registry.example.org/shop, namespace: shop}}
environments:
  dev: {listen: '127.0.0.1:80'}
  live: {provider: kubernetes, listen: '127.0.0.1:81'}
""")
    assert not found.environments["dev"].provider_settings
    assert found.environments["live"].provider_settings["namespace"] == "shop"


def test_a_promotion_runs_as_the_other_environment_says() -> None:
    found = definition_of("""\
environments:
  dev: {listen: '127.0.0.1:80', limits: {memory: 1G}}
  live: {listen: '127.0.0.1:81', command: [./shop, --live]}
  plain: {listen: '127.0.0.1:82'}
  other: {listen: '127.0.0.1:83'}
""")
    tried = {
        name: Configuration.of(found, name, config={}, secrets={}, provider_settings={}) for name in found.environments
    }
    live = tried["dev"].run_in("live", found, "dev")
    assert live.service.limits.memory_bytes == 128 << 20 and live.service.command == ("./shop", "--live")
    assert tried["dev"].run_in("plain", found, "dev") == tried["plain"]
    assert tried["plain"].run_in("other", found, "plain") is tried["plain"]


GALLERY = [
    ("defaults: {}\n", "8:1: defaults: there are no 'environments' that they could be of"),
    ("defaults: 7\nenvironments: {dev: {listen: '127.0.0.1:80'}}\n", "8:11: defaults: expected a section, such as"),
    ("defaults: {listen: ':80'}\nenvironments: {dev: {listen: ':81'}}\n", "8:20: defaults: there is no 'listen' here"),
    ("defaults: {promote_from: dev}\nenvironments: {dev: {listen: ':81'}}\n", "defaults: there is no 'promote_from'"),
    ("defaults: {image: x}\nenvironments: {dev: {listen: ':81'}}\n", "8:12: defaults: there is no 'image' here; it is"),
    (
        "defaults: {kubernetes: {registry: r.example/shop}}\nenvironments: {dev: {listen: ':81'}}\n",
        "8:12: defaults.kubernetes: no environment here has 'provider: kubernetes'; remove it",
    ),
    ("defaults: {limts: {}}\nenvironments: {dev: {listen: ':81'}}\n", "8:12: defaults: unknown key 'limts'; did you"),
    ("defaults: {keep: {hot: 9}}\nenvironments: {dev: {listen: ':81'}}\n", "8:24: defaults.keep.hot: expected a whole"),
    (
        "defaults: {limits: {memory: 5}}\nenvironments: {dev: {listen: ':81'}, test: {listen: ':82'}}\n",
        "8:29: defaults.limits.memory: expected a size",
    ),
    ("environments: {dev: {listen: ':81', image: x}}\n", "an environment can override command, health, timeouts"),
    ("environments: {dev: {listen: ':81', name: x}}\n", "there is no 'name' here; it is the same in all"),
    ("environments: {dev: {listen: ':81', build: {}}}\n", "there is no 'build' here; it is the same in all"),
    ("environments: {dev: {listen: ':81', protocol: tcp}}\n", "there is no 'protocol' here; it is the service's or"),
    ("environments: {dev: {listen: ':81', data: {version: 1}}}\n", "there is no 'data' here; it is the service's or"),
    ("environments: {dev: {listen: ':81', port: 80}}\n", "there is no 'port' here; where it is reached is"),
    ("environments: {dev: {listen: ':81', env_file: x}}\n", "a .env file is 'config_file: prod.env'"),
    (
        "environments: {dev: {listen: ':81', config: {A: null}}}\n",
        "environments.dev.config.A: expected a text, a number",
    ),
    ("environments: {dev: {listen: ':81', stop: null}}\n", "environments.dev.stop: expected a section"),
    ("environments: {dev: {listen: ':81', command: null}}\n", "8:46: environments.dev.command: found nothing; it can"),
    ("environments: {dev: {listen: ':81', limits: {memory: 1}}}\n", "8:54: environments.dev.limits.memory: expected"),
    ("environments: {dev: {listen: ':81', limits: {ram: 1G}}}\n", "environments.dev.limits: unknown key 'ram'"),
    ("environments: {dev: {listen: ':81', health: {timeout: 1h}}}\n", "check may take (1h), in 'environments.dev'"),
    ("environments: {dev: {listen: ':81', config_file: /etc/x}}\n", "environments.dev.config_file: expected"),
    ("environments: {dev: {listen: ':81', config_file: no.env}}\n", "config_file: there is no 'no.env' beside"),
]


@pytest.mark.parametrize(("rest", "expected"), GALLERY)
def test_what_is_wrong_is_told_once_and_where_it_stands(rest: str, expected: str) -> None:
    found = problems_in(rest)
    assert len(found) == 1 and expected in found[0], found


@pytest.mark.parametrize(
    ("rest", "expected"),
    [
        ("limits: {memory: 1G}", "6:39: environments.dev.limits: there are several roles; say of which, such as"),
        ("roles: {wroker: {limits: {}}}", "there is no role 'wroker'; did you mean 'worker'?"),
        ("roles: {web: {port: 80}}", "there is no 'port' here; it is the service's or role's"),
        ("roles: {worker: {limits: {memory: 1}}}", "environments.dev.roles.worker.limits.memory: expected a size"),
        ("roles: {web: {volumes: [{name: a, path: /data}], instances: 2}}", "volume 'a' is exclusive"),
    ],
)
def test_what_is_wrong_with_roles(rest: str, expected: str) -> None:
    found = problems_in(f"environments: {{dev: {{listen: '127.0.0.1:80', {rest}}}}}\n", ROLES)
    assert len(found) == 1 and expected in found[0].replace("6:46", "6:39"), found


def test_rules_between_keys_hold_of_what_is_merged() -> None:
    exclusive = "environments: {dev: {listen: ':81', instances: 2, volumes: [{name: a, path: /data}]}}\n"
    assert "volume 'a' is exclusive" in problems_in(exclusive)[0]
    canary = "defaults: {rollout: {strategy: canary}}\nenvironments: {dev: {listen: ':81', rollout: {batch: 2}}}\n"
    assert "only a rolling rollout has 'batch'" in problems_in(canary)[0]


def test_all_that_can_be_overridden_is_a_services_own() -> None:
    assert set(OVERRIDABLE) == {"command", "health", "timeouts", "stop", "limits", "volumes", "tmp", "shm"}


def test_a_definition_that_would_grow_out_of_all_bounds_is_refused() -> None:
    many = "".join(f"  e{number}: {{listen: '127.0.0.1:{number + 1}'}}\n" for number in range(2000))
    variables = ", ".join(f"V{number}: x" for number in range(1000))
    [problem] = problems_in(f"defaults: {{config: {{{variables}}}}}\nenvironments:\n{many}")
    assert "environments: too much is laid below too many of them" in problem
    assert problems_in(f"environments:\n{many}") == []


def written(folder: Path, rest: str, **files: str) -> Path:
    (folder / "instar.yaml").write_text(TOP + rest)
    for name, text in files.items():
        (folder / f"{name}.env").write_text(text)
    return folder / "instar.yaml"


def test_a_file_of_configuration_is_below_config_and_above_defaults(tmp_path: Path) -> None:
    rest = """\
defaults: {config_file: all.env, config: {B: defaults, C: defaults}}
environments:
  dev: {listen: '127.0.0.1:80', config_file: dev.env, config: {D: dev}}
  bare: {listen: '127.0.0.1:81', config_file: null}
"""
    file = written(tmp_path, rest, all="A=all\nB=all\nE=all\n", dev="C=file\nD=file\nE=file\n")
    found = load(file).definition
    assert found.environments["dev"].config == {"A": "all", "B": "defaults", "C": "file", "D": "dev", "E": "file"}
    assert found.environments["bare"].config == {"B": "defaults", "C": "defaults"}
    assert set(found.config_files) == {"all.env", "dev.env"}


def test_what_is_wrong_in_a_file_of_configuration_has_its_line_and_not_its_value(tmp_path: Path) -> None:
    file = written(tmp_path, "environments: {dev: {listen: ':81', config_file: a.env}}\n", a="A=b\nTOKEN='hunter2\n")
    with pytest.raises(DefinitionError) as error:
        load(file)
    [problem] = error.value.problems
    assert (problem.file, problem.line, problem.column) == (str(tmp_path / "a.env"), 2, 7)
    assert "hunter2" not in str(problem)


def test_a_link_is_no_file_of_configuration(tmp_path: Path) -> None:
    file = written(tmp_path, "environments: {dev: {listen: ':81', config_file: a.env}}\n")
    (tmp_path / "a.env").symlink_to("/etc/hostname")
    with pytest.raises(DefinitionError, match=r"config_file: 'a\.env' cannot be read: it is a link"):
        load(file)


def test_a_slim_image_has_the_commands_of_all_environments_and_the_same_identity_without_any() -> None:
    plain = definition_of("environments: {dev: {listen: '127.0.0.1:80', config: {A: b}}}\n")
    other = definition_of("environments: {dev: {listen: '127.0.0.1:80', command: [./shop, --debug]}}\n")
    same = definition_of("environments: {dev: {listen: '127.0.0.1:80', limits: {memory: 1G}}}\n")
    commands = identity_of_slim(other.image, other, LOCK)["commands"]
    assert commands == [("./shop",), ("./shop", "--debug")]
    assert identity_of_slim(plain.image, plain, LOCK) == identity_of_slim(same.image, same, LOCK)
    assert identity_of_slim(plain.image, plain, LOCK)["commands"] == [("./shop",)]

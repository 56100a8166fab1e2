"""Rollouts, analyses, checks, tasks, data, previews and replacements: what they become, and every rule broken alone."""

import pytest
from definition_problems import problems_of

from instar.definition import parse
from instar.model.definition import Data, Service, Task
from instar.model.environment import Analysis, Check, Environment, Replace, RolloutRules, RolloutStep

VERDICT = "it could never have a verdict: "
VOLUME = "port: 80, volumes: [{name: data, path: /data}]"
WORKER = "workdir: /"
TCP = "port: 80, protocol: tcp"


def text_of(environment: str = "", service: str = "port: 80", listen: str = "") -> str:
    listen = listen or ("" if service == WORKER else "listen: ':80', ")
    return (
        "name: shop\nimage: {base: debian:bookworm}\n"
        f"service: {{command: [./shop], {service}}}\nenvironments:\n  a: {{{listen}{environment}}}\n"
    )


def service_of(rest: str) -> Service:
    return parse(text_of(service=f"port: 80, {rest}"), "f").definition.service


def environment_of(rest: str, service: str = "port: 80") -> Environment:
    return parse(text_of(rest, service), "f").definition.environments["a"]


def steps(*weights: int, pause_ms: int | None = 30_000) -> tuple[RolloutStep, ...]:
    return tuple(RolloutStep(weight_percent=weight, pause_ms=pause_ms) for weight in weights)


def test_what_is_left_out_is_the_model_s() -> None:
    assert environment_of("") == Environment(name="a", listen=("0.0.0.0:80",))
    found = service_of("workdir: /")
    assert (found.smoke, found.before, found.after, found.data) == ((), (), (), None)


@pytest.mark.parametrize(
    ("rollout", "expected"),
    [
        ("{}", RolloutRules()),
        ("{strategy: blue-green}", RolloutRules()),
        ("{strategy: canary}", RolloutRules(strategy="canary", steps=steps(10, 50))),
        ("{strategy: canary, pause: manual}", RolloutRules(strategy="canary", steps=steps(10, 50, pause_ms=None))),
        ("{strategy: canary, steps: [1, 99]}", RolloutRules(strategy="canary", steps=steps(1, 99))),
        (
            "{strategy: canary, pause: 5s, steps: [5, {weight: 25}, {weight: 50, pause: manual}, "
            "{weight: 60, pause: 1m}]}",
            RolloutRules(
                strategy="canary",
                steps=(*steps(5, 25, pause_ms=5_000), *steps(50, pause_ms=None), *steps(60, pause_ms=60_000)),
            ),
        ),
        ("{strategy: canary, pause: manual, steps: [5, {weight: 25, pause: 1s}]}",
         RolloutRules(strategy="canary", steps=(*steps(5, pause_ms=None), *steps(25, pause_ms=1_000)))),
        ("{watch: 2m}", RolloutRules(watch_ms=120_000)),
        ("{strategy: canary, analysis: {quiet: pass}}",
         RolloutRules(strategy="canary", steps=steps(10, 50), analysis=Analysis(quiet="pass"))),
        ("{strategy: canary, analysis: {}}", RolloutRules(strategy="canary", steps=steps(10, 50), analysis=Analysis())),
        ("{strategy: rolling}, instances: 3", RolloutRules(strategy="rolling")),
        ("{strategy: rolling, batch: 3}, instances: 3", RolloutRules(strategy="rolling", batch=3)),
        ("{strategy: rolling, batch: 2, analysis: {}}, instances: 3",
         RolloutRules(strategy="rolling", batch=2, analysis=Analysis())),
    ],
)  # fmt: skip
def test_rollouts(rollout: str, expected: RolloutRules) -> None:
    assert environment_of(f"rollout: {rollout}").rollout == expected


def test_an_analysis_in_thousandths_and_milliseconds() -> None:
    analysis = (
        "{min_requests: 5, max_failed: 0.5, max_slower: 1.25, slower_than: 5ms, wait: 1m, checks: [{url: "
        "'https://example.org/ok?a=b', contains: fine}, {path: /v, status: 404}, {command: [a, b], timeout: 3s}]}"
    )
    assert environment_of(f"rollout: {{strategy: canary, analysis: {analysis}}}").rollout.analysis == Analysis(
        min_requests=5,
        max_failed_milli=5,
        max_slower_milli=1_250,
        slower_than_ms=5,
        wait_ms=60_000,
        checks=(
            Check(kind="url", url="https://example.org/ok?a=b", contains="fine"),
            Check(kind="http", path="/v", status=404),
            Check(kind="command", command=("a", "b"), timeout_ms=3_000),
        ),
    )


def test_smoke_tasks_and_data() -> None:
    found = service_of(
        "smoke: [{path: /v, status: 200, contains: ok, timeout: 1s}, {command: [a]}], before: [{command: [b, c]}], "
        "after: [{command: [d], timeout: 1h}, {command: [e]}], data: {version: 4, reads: [5, 3, 4]}"
    )
    assert found.smoke == (
        Check(kind="http", path="/v", status=200, contains="ok", timeout_ms=1_000),
        Check(kind="command", command=("a",)),
    )
    assert found.before == (Task(command=("b", "c")),)
    assert found.after == (Task(command=("d",), timeout_ms=3_600_000), Task(command=("e",)))
    assert found.data == Data(version=4, reads=(3, 4, 5))
    assert service_of("data: {version: 4}").data == Data(version=4, reads=(4,))
    assert service_of("before: [], smoke: []") == service_of("workdir: /")


def test_a_task_says_which_volumes_it_gets_and_a_candidate_how_long_it_stays_well() -> None:
    volumes = "volumes: [{name: data, path: /data}, {name: logs, path: /logs}]"
    found = service_of(f"{volumes}, before: [{{command: [a], volumes: []}}, {{command: [b], volumes: [logs]}}]")
    assert [task.volumes for task in found.before] == [(), ("logs",)]
    assert service_of("before: [{command: [a]}]").before[0].volumes is None
    assert service_of("health: {tcp: true, steady: 5s}").health.steady_ms == 5_000
    (problem,) = problems_of(text_of(service=f"port: 80, {volumes}, after: [{{command: [a], volumes: [dta]}}]"))
    assert problem.endswith("service.after.volumes: the service has no volume 'dta'; there are 'data' and 'logs'")
    (problem,) = problems_of(text_of(service="port: 80, before: [{command: [a], volumes: [data]}]"))
    assert problem.endswith("service.before.volumes: the service has no volume 'data'; it has none")


def test_previews_and_replacements() -> None:
    assert environment_of("preview: header").preview == "header"
    assert environment_of("preview: ':81'").preview == "0.0.0.0:81"
    found = environment_of("replace: {budget: 2, within: 1m, max_age: 960h}").replace
    assert found == Replace(budget=2, within_ms=60_000, max_age_ms=960 * 3_600_000)
    assert environment_of("replace: {max_age: 1m}").replace == Replace(max_age_ms=60_000)


def test_what_a_worker_can_have() -> None:
    analysis = "{min_requests: 0, checks: [{command: [a]}, {url: 'http://b/c'}]}"
    found = environment_of(f"instances: 2, rollout: {{strategy: rolling, analysis: {analysis}}}", WORKER)
    assert found.rollout.analysis is not None and len(found.rollout.analysis.checks) == 2


@pytest.mark.parametrize(
    ("rest", "expected"),
    [
        ("smoke: [{}]", "3:48: service.smoke: 'path' or 'command' is missing"),
        ("smoke: [{timeout: 5s}]", "3:48: service.smoke: 'path' or 'command' is missing"),
        ("smoke: [{path: /a, command: [b]}]", "expected one of 'path' and 'command', found path and command"),
        ("smoke: [{url: 'http://a/b'}]", "service.smoke: there is no 'url' here; smoke asks the candidate alone"),
        ("smoke: [{tcp: true}]", "unknown key 'tcp'; it belongs to 'service.health'"),
        ("smoke: [{pth: /a}]", "3:49: service.smoke: unknown key 'pth'; did you mean 'path'?"),
        ("smoke: [{path: a}]", "did you mean '/a'?"),
        ("smoke: [/a]", "found '/a'; write {path: /a}"),
        ("smoke: ['/a,b']", "found '/a,b'"),
        ("smoke: {path: /a}", "found a section; write it as a list: [{…}], or '- ' before it"),
        ("smoke: [{command: [a], status: 200}]", "smoke.status: a command is judged by its exit status alone"),
        ("smoke: [{command: [a], contains: b}]", "smoke.contains: a command is judged by its exit status alone"),
        ("smoke: [{path: /a, status: 204, contains: b}]", "an answer of 204 never has a text; remove it, or 'status'"),
        ("smoke: [{path: /a, status: 199}]", "expected a whole number from 200 to 599, found the number 199"),
        ("smoke: [{path: /a, contains: 42}]", 'as a text it stands in quotes: "42"'),
        ("smoke: [{path: /a, contains: ' '}]", "expected a text, found ' '"),
        ("smoke: [{path: /a, timeout: 10}]", "a unit is missing; did you mean '10s'?"),
        ("before: [./migrate]", "expected a section such as {command: [./migrate]}, found './migrate'"),
        ("before: ./migrate", "expected a list of sections such as {command: [./migrate]}, found './migrate'"),
        ("before: {command: [a]}", "found a section; write it as a list: [{…}], or '- ' before it"),
        ("after: [{timeout: 5s}]", "service.after: 'command' is missing; expected a list of words"),
        ("after: [{command: a}]", "found 'a'; write it as a list: [a]"),
        ("after: [{command: []}]", "found an empty list"),
        ("after: [{command: [a], timeout: soon}]", "service.after.timeout: expected a time such as"),
        ("data: {}", "service.data: 'version' is missing; expected a whole number from 1 to 1000000"),
        ("data: 4", "found the number 4; write {version: 4}"),
        ("data: {version: 0}", "expected a whole number from 1 to 1000000, found the number 0"),
        ("data: {version: v4}", "found 'v4'"),
        ("data: {version: 4, reads: [3]}", "but version 4 is not among them; write [3, 4]"),
        ("data: {version: 4, reads: [4, 4]}", "service.data.reads: '4' stands here twice"),
        ("data: {version: 4, reads: 3, 4}", "write it as a list: [3]"),
        ("data: {version: 4, reads: []}", "expected a list of numbers, such as [3, 4], found an empty list"),
        ("data: {version: 4, reads: [3, x]}", "expected a whole number from 1 to 1000000, found 'x'"),
        ("pause: 5s", "unknown key 'pause'; it belongs to 'environments.NAME.rollout'"),
    ],
)  # fmt: skip
def test_bad_services(rest: str, expected: str) -> None:
    problems = problems_of(text_of(service=f"port: 80, {rest}").replace("reads: 3, 4", "reads: 3"))
    assert len(problems) == 1
    assert expected in problems[0] and problems[0].startswith("3:")


@pytest.mark.parametrize(
    ("service", "expected"),
    [
        (f"{WORKER}, smoke: [{{path: /a}}]", "service.smoke.path: there is no port that could be asked; add"),
        (f"{TCP}, smoke: [{{path: /a}}]", "the service speaks tcp, so there is no path that could be asked for"),
    ],
)  # fmt: skip
def test_smoke_of_a_path_needs_http(service: str, expected: str) -> None:
    [problem] = problems_of(text_of(service=service, listen=" " if WORKER in service else ""))
    assert expected in problem


@pytest.mark.parametrize(
    ("rollout", "expected"),
    [
        ("canary", "found 'canary'; write {strategy: canary}"),
        ("{strategy: cannary}", "expected blue-green, canary or rolling, found 'cannary'; did you mean 'canary'?"),
        ("{steps: [5], pause: 5s}", "5:32: environments.a.rollout.steps: only a canary rollout has 'steps' and "
         "'pause', and this one is blue-green; write 'strategy: canary', or remove them"),
        ("{steps: [5], analysis: {}}", "rollout.steps: only a canary rollout has 'steps', and this one is blue-green"),
        ("{strategy: rolling, pause: manual}", "only a canary rollout has 'pause', and this one is rolling; write "
         "'strategy: canary', or remove it"),
        ("{strategy: canary, batch: 1}", "rollout.batch: only a rolling rollout has 'batch', and this one is canary"),
        ("{strategy: rolling, batch: 2}", "expected at most 1, found 2; 'instances' is 1 unless you say more"),
        ("{strategy: rolling, batch: 4}, instances: 3", "expected at most 3, found 4; there are no more instances"),
        ("{strategy: rolling, batch: 0}", "expected a whole number from 1 to 100, found the number 0"),
    ],
)  # fmt: skip
def test_bad_rollouts(rollout: str, expected: str) -> None:
    [problem] = problems_of(text_of(f"rollout: {rollout}"))
    assert expected in problem and problem.startswith("5:")


@pytest.mark.parametrize(
    ("rest", "expected"),
    [
        ("steps: []", "found an empty list"),
        ("steps: 5", "found the number 5; write it as a list: [5]"),
        ("steps: 5 25", "found '5 25'; write it as a list: [5, 25]"),
        ("steps: '5, 25'", "found '5, 25'; write it as a list: [5, 25]"),
        ("steps: [5, 25%]", "expected a whole number from 1 to 99, found '25%'; write it without '%'"),
        ("steps: [0]", "expected a whole number from 1 to 99, found the number 0"),
        ("steps: [2.5]", "expected a whole number from 1 to 99, found the number 2.5"),
        ("steps: ['5']", "found '5'; write it without quotes"),
        ("steps: [50, 100]", "found the number 100; the last step, to 100 %, comes by itself; remove"),
        ("steps: [{weight: 100}]", "the last step, to 100 %, comes by itself; remove it"),
        ("steps: [[5]]", "expected a whole number from 1 to 99 or a section such as {weight: 50, p"),
        ("steps: [25, 25]", "5:62: environments.a.rollout.steps: steps rise, but 25 comes after 25"),
        ("steps: [50, 20, 30]", "5:62: environments.a.rollout.steps: steps rise, but 20 comes after 50"),
        ("steps: [50, {weight: 20}]", "5:71: environments.a.rollout.steps: steps rise, but 20 comes"),
        ("steps: [{pause: 5s}]", "rollout.steps: 'weight' is missing; expected a whole number"),
        ("steps: [{weigth: 5}]", "unknown key 'weigth'; did you mean 'weight'?"),
        ("steps: [{weight: 5, pause: maunal}]", "found 'maunal'; did you mean 'manual'?"),
        ("pause: forever", "expected a time such as '30s', or the word 'manual', found 'forever'"),
        ("pause: 30", "a unit is missing; did you mean '30s'?"),
        ("pause: 0s", "found '0s'; it has to be longer than nothing"),
        ("pause: ", "found nothing"),
        ("pause: true", "found true"),
        ("analysis: true", "found true; write {} for the defaults"),
        ("analysis: ", "found nothing; write {} for an empty one"),
        ("analysis: {check: []}", "unknown key 'check'; did you mean 'checks'?"),
        ("analysis: {checks: [{}]}", "checks: 'path', 'command' or 'url' is missing"),
        ("analysis: {checks: [{path: /, url: 'http://a/b'}]}", "found path and url"),
        ("analysis: {checks: [{url: a.org}]}", "expected an address such as 'https://example.org/sta"),
        ("analysis: {max_failed: 1%}", "found '1%'; write it without '%'"),
        ("analysis: {max_failed: 1.25}", "found the number 1.25; it has at most one decimal"),
        ("analysis: {max_failed: 100.1}", "expected a number from 0 to 100, found the number 100.1"),
        ("analysis: {max_slower: 0.9}", "expected a number from 1 to 1000, found the number 0.9"),
        ("analysis: {max_slower: 2x}", "expected a number from 1 to 1000, found '2x'"),
        ("analysis: {slower_than: 20}", "a unit is missing"),
        ("analysis: {wait: ever}", "found 'ever'"),
        ("analysis: {min_requests: few}", "found 'few'"),
    ],
)  # fmt: skip
def test_bad_canaries(rest: str, expected: str) -> None:
    [problem] = problems_of(text_of(f"rollout: {{strategy: canary, {rest}}}"))
    assert expected in problem and problem.startswith("5:")


@pytest.mark.parametrize(
    ("service", "rest", "expected"),
    [
        ("port: 80", "rollout: {analysis: {}}",
         f"5:32: environments.a.rollout.analysis: {VERDICT}blue-green moves all traffic at once, so there is nothing "
         "to compare with; write 'strategy: canary', or remove it"),
        (WORKER, "rollout: {analysis: {}}", "nothing to compare with; write 'strategy: rolling', or remove it"),
        (VOLUME, "rollout: {analysis: {}}",
         "nothing to compare with; remove it, and ask the new release with 'service.smoke'"),
        ("port: 80", "rollout: {strategy: rolling, analysis: {}}",
         f"{VERDICT}the only instance is replaced at once, so there is nothing to compare with; write 'instances: 2'"),
        ("port: 80", "instances: 5, rollout: {strategy: rolling, batch: 5, analysis: {}}",
         f"{VERDICT}one batch replaces all 5 instances, so there is nothing to compare with; write 'batch: 2' or less"),
        (WORKER, "instances: 2, rollout: {strategy: rolling, analysis: {}}",
         f"analysis.min_requests: {VERDICT}the service has no port, so no request is ever counted; write "
         "'min_requests: 0', and ask with 'checks'"),
        (WORKER, "instances: 2, rollout: {strategy: rolling, analysis: {min_requests: 0}}",
         "with no requests and no checks, nothing is asked; add 'checks'"),
        ("port: 80", "rollout: {strategy: canary, analysis: {min_requests: 0, checks: []}}",
         "nothing is asked; add 'checks', or write 'min_requests: 1' or more"),
        (WORKER, "instances: 2, rollout: {strategy: rolling, analysis: {min_requests: 0, checks: [{path: /}]}}",
         "analysis.checks.path: there is no port that could be asked"),
        (WORKER, "instances: 2, rollout: {strategy: rolling, analysis: {min_requests: 0, max_failed: 1, checks: "
         "[{command: [a]}]}}", "analysis.max_failed: the service has no port, so there are no requests to compare"),
        (TCP, "rollout: {strategy: canary, analysis: {max_slower: 2}}",
         "analysis.max_slower: tcp has no response times, so they are left out of the analysis; remove it"),
        (TCP, "rollout: {strategy: canary, analysis: {slower_than: 20ms}}", "tcp has no response times"),
        (TCP, "rollout: {strategy: canary, analysis: {checks: [{path: /}]}}", "the service speaks tcp"),
    ],
)  # fmt: skip
def test_an_analysis_that_can_never_have_a_verdict(service: str, rest: str, expected: str) -> None:
    [problem] = problems_of(text_of(rest, service))
    assert expected in problem


@pytest.mark.parametrize(
    ("service", "rest", "expected"),
    [
        (WORKER, "rollout: {strategy: canary, analysis: {}}",
         "5:27: environments.a.rollout.strategy: the service has no port, so there is no traffic to share out; write "
         "'strategy: rolling' or 'strategy: blue-green'"),
        (VOLUME, "rollout: {strategy: canary}", "rollout.strategy: volume 'data' is exclusive, so the old instance "
         "stops before the new one starts; write 'strategy: blue-green' (or 'access: shared')"),
        (VOLUME, "rollout: {strategy: rolling, analysis: {}}", "volume 'data' is exclusive"),
        (WORKER, "preview: header", "preview: the service has no port to send requests to; add service.port, or"),
        (TCP, "preview: ':81'", "a preview is for requests of http, but the service speaks tcp; remove this"),
        ("port: 80", "preview: headers", "found 'headers'; did you mean 'header'?"),
        ("port: 80", "preview: true", "or the word 'header', found true"),
        ("port: 80", "preview: 8081", "did you mean '127.0.0.1:8081'?"),
        ("port: 80", "preview: [':81']", "found a list"),
        ("port: 80", "preview: ':80'", "a.preview: 0.0.0.0:80 is taken: 'listen' is 0.0.0.0:80, in line 5"),
        ("port: 80", "preview: ':81'}\n  b: {listen: '1.1.1.1:81'",
         "6:15: environments.b.listen: 1.1.1.1:81 is taken: 'preview' of environment 'a' is 0.0.0.0:81, in line 5"),
        ("port: 80", "preview: '[::1]:81'}\n  b: {listen: ':82', preview: '[::]:81'",
         "environments.b.preview: [::]:81 is taken: 'preview' of environment 'a' is [::1]:81, in line 5"),
        ("port: 80", "replace: 5", "found the number 5; write {budget: 5}"),
        ("port: 80", "replace: {budget: 0}", "expected a whole number from 1 to 1000, found the number 0"),
        ("port: 80", "replace: {within: 10}", "a unit is missing"),
        ("port: 80", "replace: {max_age: 7d}", "found '7d'; days are written in hours; write '168h'"),
        ("port: 80", "replace: {max_age: 9999h}", "the longest is 8784h"),
        ("port: 80", "replace: {max_age: 59s}", "replace.max_age: expected at least 1m, found '59s'"),
        ("port: 80, health: {deadline: 2m}", "replace: {max_age: 2m}", "max_age: expected more than 2m, found '2m'; "
         "service.health.deadline lets a new instance take that long"),
    ],
)  # fmt: skip
def test_bad_environments(service: str, rest: str, expected: str) -> None:
    [problem] = problems_of(text_of(rest, service))
    assert expected in problem


def test_previews_by_header_do_not_meet() -> None:
    assert problems_of(text_of("preview: header}\n  b: {listen: ':81', preview: header")) == []


@pytest.mark.parametrize(
    ("service", "rest"),
    [
        ("port: x", "rollout: {strategy: canary, analysis: {}}, preview: header"),
        ("prot: 80", "rollout: {strategy: canary, analysis: {}}, preview: header"),
        ("port: 80, protocol: smtp, smoke: [{path: /}]", "rollout: {strategy: canary, analysis: {max_slower: 2}}"),
        ("port: 80, volumes: {}", "rollout: {strategy: canary, analysis: {}}"),
        ("port: 80, health: 5", "replace: {max_age: 1m}"),
        ("port: 80", "rollout: {strategy: x, steps: [5], batch: 2, analysis: {}}"),
        ("port: 80", "rollout: {stratgy: canary, steps: [5], analysis: {}}"),
        ("port: 80", "rollout: {strategy: canary, steps: [9, x, 10], analysis: {}}"),
        ("port: 80", "instances: x, rollout: {strategy: rolling, batch: 5, analysis: {}}"),
        ("port: 80", "rollout: {strategy: rolling, batch: x, analysis: {}}"),
        ("port: 80", "rollout: {strategy: canary, analysis: {min_requests: 0, checks: x}}"),
        ("port: 80", "rollout: {strategy: canary, analysis: {min_requets: 0}}"),
        ("port: 80", "rollout: 5.5"),
    ],
)
def test_one_mistake_makes_one_problem(service: str, rest: str) -> None:
    """What depends on a value that could not be read says nothing."""
    assert len(problems_of(text_of(rest, service))) == 1


def test_without_a_service_an_environment_is_checked_as_far_as_it_can_be() -> None:
    text = text_of("rollout: {analysis: {}}, preview: header").replace("{command: [./shop], port: 80}", "[x]")
    assert [problem.split(": ")[1] for problem in problems_of(text)] == ["service", "environments.a.rollout.analysis"]

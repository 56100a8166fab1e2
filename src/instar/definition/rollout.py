"""The sections about a release's way to its traffic: what it is asked, what runs around it, how the shares move."""

from __future__ import annotations

from typing import Any, Final

from instar.definition import forms, rollout_rules
from instar.definition.section import Key, Section
from instar.definition.shapes import Choice, Decimal, Either, ListOf, Text, Whole
from instar.definition.values import AGE, COMMAND, DURATION, HOST, NAME, PAUSE
from instar.model import definition as model

DEFAULT_STEPS: Final = (10, 50)  # of a canary, in percent
DEFAULT_PAUSE_MS: Final = 30_000


def _check(**values: Any) -> model.Check:
    kind = next(kind for kind, key in (("http", "path"), ("command", "command"), ("url", "url")) if key in values)
    return model.Check(kind=kind, **values)  # type: ignore[arg-type]


def _data(*, version: int, reads: tuple[int, ...] = ()) -> model.Data:
    return model.Data(version=version, reads=tuple(sorted(reads)) or (version,))


def _rollout(
    *, steps: tuple[Any, ...] = (), pause: int | None = DEFAULT_PAUSE_MS, strategy: str = "blue-green", **values: Any
) -> model.Rollout:
    """A step without a pause of its own has that of the rollout, a canary without steps the usual ones."""
    written = (steps or DEFAULT_STEPS) if strategy == "canary" else ()
    each = [step if isinstance(step, dict) else {"weight_percent": step} for step in written]
    made = tuple(model.Step(**{"pause_ms": pause, **step}) for step in each)
    return model.Rollout(strategy=strategy, steps=made, **values)  # type: ignore[arg-type]


PATH = Key("path", Text("a path such as '/healthz'", forms.health_path, pattern=forms.HEALTH_PATH),
           "GET this path of the candidate: right when the answer is 200 to 399.")  # fmt: skip
RUN = Key("command", COMMAND, "Run this in the candidate: right when it exits with 0.")
ADDRESS = Key("url", Text("an address such as 'https://example.org/status'", forms.url, pattern=forms.URL),
              "GET this address, whoever answers there: right when the answer is 200 to 399.")  # fmt: skip
NAMED = Key("host", HOST, "What a request for `path` says as its `Host`.", default_about="that of `service.health`")
STATUS = Key("status", Whole(200, 599), "The answer has to be this one instead.")
CONTAINS = Key("contains", Text("a text", forms.word), "This has to be in the answer.")
TIMEOUT = Key("timeout", DURATION, "How long the check may take.", field="timeout_ms")

CHECKS = ListOf(
    Section(
        "a section such as {path: /healthz} or {command: [./check]}",
        model.Check,
        PATH, RUN, NAMED, STATUS, CONTAINS, TIMEOUT,
        make=_check,
        elsewhere={"url": "smoke asks the candidate alone; other addresses are asked by 'rollout.analysis.checks'"},
        check=rollout_rules.check,
    ),
    "a list of sections such as {path: /healthz} or {command: [./check]}",
)  # fmt: skip

CHECKS_ANYWHERE = ListOf(
    Section(
        "a section such as {path: /healthz}, {command: [./check]} or {url: 'https://…'}",
        model.Check,
        PATH, RUN, ADDRESS, NAMED, STATUS, CONTAINS, TIMEOUT,
        make=_check,
        check=rollout_rules.check,
    ),
    "a list of sections such as {path: /healthz}, {command: [./check]} or {url: 'https://…'}",
)  # fmt: skip

TASKS = ListOf(
    Section(
        "a section such as {command: [./migrate]}",
        model.Task,
        Key("command", COMMAND, "The program and its arguments, a word an item."),
        Key("timeout", DURATION, "How long it may take.", field="timeout_ms"),
        Key(
            "volumes",
            ListOf(NAME, "a list of names of volumes, or []", unique=True),
            "Which of the service's volumes it gets, by name. One without an exclusive volume runs beside the old "
            "release, also where the service has one.",
            default=None,
            default_about="all of them",
        ),
    ),
    "a list of sections such as {command: [./migrate]}",
)

_VERSION: Final = Whole(1, 1_000_000)

DATA = Section(
    "a section such as {version: 4, reads: [3, 4]}",
    model.Data,
    Key("version", _VERSION, "Number of the form in which this service writes its data."),
    Key("reads", ListOf(_VERSION, "a list of numbers, such as [3, 4]", minimum=1, unique=True),
        "Numbers of the forms that it can work with, its own among them.", default=(),
        default_about="`version` alone"),
    make=_data,
    check=rollout_rules.data,
)  # fmt: skip

STEP = Section(
    "a section such as {weight: 50, pause: manual}",
    model.Step,
    Key("weight", Whole(0, 99, advise=forms.percent),
        "The new release's share of new requests, in percent; 0 to look at it first.", field="weight_percent"),
    Key("pause", PAUSE, "How long this step lasts, or `manual`: until `instar rollout resume`.", field="pause_ms",
        default=None, default_about="`pause` of the rollout"),
    make=dict,
)  # fmt: skip

ANALYSIS = Section(
    "a section such as {max_failed: 1.0}, or {} for the defaults",
    model.Analysis,
    Key("min_requests", Whole(0, 1_000_000), "How many requests the new release answers before a step is judged; `0`: "
        "none are needed."),
    Key("max_failed", Decimal(1, 0, 1_000, advise=forms.percent),
        "How much larger its share of failed requests may be than the old release's, in percentage points.",
        field="max_failed_milli"),
    Key("max_slower", Decimal(3, 1_000, 1_000_000), "How many times the old release's mean response time its own may "
        "be.", field="max_slower_milli"),
    Key("slower_than", DURATION, "A mean response time below this is never too slow.", field="slower_than_ms"),
    Key("wait", DURATION, "How long, after a step's pause, its requests are waited for. If they don't come, `quiet` "
        "says what follows.", field="wait_ms"),
    Key("quiet", Choice(("fail", "pass")), "What a step is in which too few requests came: `fail`, so that the rollout "
        "is given up, or `pass`, unless those that came say otherwise."),
    Key("checks", CHECKS_ANYWHERE, "Questions of your own, asked in each step."),
)  # fmt: skip

ROLLOUT = Section(
    "a section such as {strategy: canary, steps: [5, 25, 50]}",
    model.Rollout,
    Key("strategy", Choice(("blue-green", "canary", "rolling")),
        "`blue-green`: all traffic moves at once, when every new instance is healthy. `canary`: it moves share by "
        "share. `rolling`: instances are replaced some at a time."),
    Key("steps",
        ListOf(Either(Whole(1, 99, advise=forms.percent), STEP),
               "a list such as [5, 25, {weight: 50, pause: manual}]", minimum=1),
        "Shares of a canary in percent, rising; the last one, 100, comes by itself.",
        default_about="`[10, 50]` of a canary"),
    Key("pause", PAUSE, "How long a step of a canary lasts, or `manual`: until `instar rollout resume`.",
        default=DEFAULT_PAUSE_MS),
    Key("batch", Whole(1, 100), "How many instances a rolling rollout replaces at a time."),
    Key("analysis", ANALYSIS, "What the new release has to show in each step, compared with the old one over the same "
        "time; else the traffic goes back. `{}` is one with the defaults.", default_about="none"),
    Key("watch", DURATION, "How long the new release is watched when the rollout is over, by the agent or by `instar "
        "deploy --watch`: when an instance of it ends or no longer answers, the traffic goes back to the release "
        "before. With `before` tasks, another version of the data, or an exclusive volume an alarm is raised instead.",
        field="watch_ms", default_about="it is not watched"),
    make=_rollout,
    check=rollout_rules.rollout,
)  # fmt: skip

REPLACE = Section(
    "a section such as {budget: 5, within: 10m}",
    model.Replace,
    Key("budget", Whole(1, 1_000), "How many instances are replaced in `within`. Then an alarm is raised, and "
        "nothing more is replaced until somebody deploys or rolls back."),
    Key("within", DURATION, "The time in which they are counted.", field="within_ms"),
    Key("max_age", AGE, "Instances older than this are replaced, though nothing is wrong with them; at least 1m.",
        field="max_age_ms", default_about="none are replaced for their age"),
    check=rollout_rules.replace,
)  # fmt: skip

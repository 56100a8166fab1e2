"""What the loop can be told to do. Each is one decision, written to the ledger before it is acted on."""

from __future__ import annotations

from instar.control.analysis import Verdict
from instar.frozen import dataclass
from instar.model.occurrence import Missed, Occurrence
from instar.model.roles import UNNAMED_ROLE


@dataclass(frozen=True, slots=True)
class Plan:
    """Write new groups of a role of a release into the ledger, each of so many ``members``; ``replacing`` says why,
    outside a rollout."""

    release: int
    members: tuple[int, ...]
    replacing: str | None = None
    role: str = UNNAMED_ROLE


@dataclass(frozen=True, slots=True)
class BeginTask:
    """Write that a task of a role of a release begins, and the instance that will run it."""

    release: int
    task: str
    role: str = UNNAMED_ROLE


@dataclass(frozen=True, slots=True)
class BeginScheduled:
    """Write that what is due of a schedule begins, as a role of a release, and the instance that will run it."""

    release: int
    occurrence: Occurrence
    role: str = UNNAMED_ROLE


@dataclass(frozen=True, slots=True)
class NoteMissed:
    """Write that an entry of a release's schedule was due, and did not begin."""

    release: int
    missed: Missed


@dataclass(frozen=True, slots=True)
class RunTask:
    """Make the instance of a task that was begun by the clock, and begin it. That it cannot be is how the task ends,
    and nobody else's trouble."""

    release: int
    task: str
    instance: str


@dataclass(frozen=True, slots=True)
class EndTask:
    """Write how a task ended ("done", or why not), and destroy its instance."""

    release: int
    task: str
    instance: str
    outcome: str


@dataclass(frozen=True, slots=True)
class KeepData:
    """Take a snapshot of what a volume holds, for the rollout. ``running``: instances have it."""

    volume: str
    running: bool


@dataclass(frozen=True, slots=True)
class RestoreData:
    """Have a volume, which nobody has, hold what it did in a snapshot; ``back``: what it held before the rollout."""

    volume: str
    snapshot: int
    back: bool = False


@dataclass(frozen=True, slots=True)
class Create:
    """Make planned instances; begin them too when ``start``."""

    instances: tuple[str, ...]
    start: bool


@dataclass(frozen=True, slots=True)
class Start:
    """Begin created instances."""

    instances: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SetNetwork:
    """Let the environment's instances reach what its settings say."""


@dataclass(frozen=True, slots=True)
class OpenRouter:
    """Have the router run with the plan that serves ``release``."""

    release: int


@dataclass(frozen=True, slots=True)
class Attach:
    """Make healthy instances known to the router, without traffic."""

    release: int
    instances: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Smoke:
    """Ask candidates the smoke checks of their release; the rollout fails unless all pass."""

    release: int
    instances: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Preview:
    """Let requests that ask for a release reach an instance of it: release → instance. ``beside``: and one of each
    other role, by the door of that."""

    targets: tuple[tuple[int, str], ...]
    beside: tuple[tuple[int, str], ...] = ()


@dataclass(frozen=True, slots=True)
class TakeStep:
    """Give the rollout's target its next share: instance → weight. ``percent`` is the target's, for people."""

    step: int
    percent: int
    weights: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class Share:
    """Give the traffic to instances of several releases: instance → weight (put the step's shares right)."""

    weights: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class Judge:
    """Ask the analysis' own checks, if the figures are well, and write the step's verdict. ``role``: whose figures
    these are, of several roles with traffic; ``others``: those of the roles that are well beside it."""

    verdict: Verdict
    role: str | None = None
    others: tuple[tuple[str, Verdict], ...] = ()


@dataclass(frozen=True, slots=True)
class Alarm:
    """Write that somebody is needed; ``holds``: until then nothing is replaced any more."""

    reason: str
    holds: bool = True


@dataclass(frozen=True, slots=True)
class GoBack:
    """Begin the rollback to ``release``: the active one did not stay well after its rollout."""

    release: int
    reason: str


@dataclass(frozen=True, slots=True)
class Shift:
    """Make ``release`` the active one; traffic goes to ``instances`` (none: the service has no port). ``beside``: what
    other roles have of it, which stays so: instance → weight."""

    release: int
    instances: tuple[str, ...]
    beside: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Route:
    """Give the traffic to ``instances`` of the active release (put the router right, or close it: none)."""

    instances: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Cut:
    """End requests of draining instances whose time is over, by taking them from the router."""

    instances: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Retire:
    """Destroy instances, take them from the router, and out of the ledger. ``unwell``: they failed, and have to be
    replaced."""

    instances: tuple[str, ...]
    reason: str
    unwell: bool = False


@dataclass(frozen=True, slots=True)
class Finish:
    """The rollout ended well; ``warning`` says what did not, beside it."""

    warning: str = ""


@dataclass(frozen=True, slots=True)
class Fail:
    """The rollout can't end well. ``instances`` are the ones whose last words are worth a look."""

    reason: str
    instances: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class CloseRouter:
    """Nothing has traffic any more: stop the environment's router."""


@dataclass(frozen=True, slots=True)
class TakeNames:
    """Have requests by the names that the environment expects come to it, which ``release`` answers."""

    release: int


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing can be done before the snapshot changes: look again in ``seconds``. ``ends``: that is until groups have
    ended, and nobody has to keep others from acting meanwhile. ``last``: all but their end is as wanted. ``launches``:
    that is until groups answer."""

    seconds: float
    ends: bool = False
    last: bool = False
    launches: bool = False


Action = (
    Plan
    | BeginTask
    | BeginScheduled
    | NoteMissed
    | RunTask
    | EndTask
    | KeepData
    | RestoreData
    | Create
    | Start
    | SetNetwork
    | OpenRouter
    | Attach
    | Smoke
    | Preview
    | TakeStep
    | Share
    | Judge
    | Alarm
    | GoBack
    | Shift
    | Route
    | Cut
    | Retire
    | Finish
    | Fail
    | CloseRouter
    | TakeNames
    | Wait
)

# written down, and nothing else: a provider is told nothing
OF_THE_LEDGER = (Plan, BeginTask, BeginScheduled, NoteMissed, Alarm, GoBack, Finish)

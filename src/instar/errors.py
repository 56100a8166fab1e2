"""The tree of errors. Every error that leaves a room is one of these.

Who raises one knows whether the same may well succeed a little later. What is marked ~ is transient, and says in how
many seconds to try again (``retry_after_s``); all else is permanent. A single error of a permanent class can be made
transient where it is raised.

InstarError
├── UsageError               64  the words on the command line don't fit
│   └── ProviderMissing          a provider is not installed here, or its package is of no use
├── ComponentMissing         69  a program or kernel feature is not here
├── EnvironmentBusy        ~ 75  another loop holds the environment
├── NotRoot                   1  the operation needs root
├── Cancelled               130  somebody asked for its end before it was done
├── CommandFailed             1  a subprocess failed (``process.py`` alone raises it)
├── DefinitionError           1  one or more problems in instar.yaml or what it names
│   ├── DefinitionUnreadable     the file itself is missing, or may not be read
│   └── MachineFileError         one or more problems in the machine's own file
├── LockError                 1
│   ├── LockMissing              there is no lock (and it may not be made now)
│   ├── LockStale                the lock no longer fits its definition
│   └── ResolveError             no set of packages or wheels satisfies the definition
├── FetchError                1
│   ├── SourceUnreachable  ~     an archive, index or URL does not answer
│   └── HashMismatch             what was fetched is not what the lock says
├── BakeError                 1
│   └── StepFailed               a step did not succeed; carries its output
├── StoreError                1
│   ├── ImageNotFound
│   └── BlobDamaged              a blob is missing, short, or its bytes differ from its digest
├── LedgerError               1
│   ├── LedgerDamaged
│   ├── LedgerNewer              written by a newer Instar
│   ├── LedgerUnreachable  ~     its database does not answer, or does not let us in
│   ├── LeaseLost            75  another holder may act on the environment by now
│   ├── MachineDoubled       75  another machine says that it is this one
│   └── NotFound                 no such environment, release or instance
│       └── EnvironmentNotFound  no such environment, and none that is gone
├── HostError                 1  this machine refuses (no space, subnet taken, mount fails)
│   └── HalfDone                 it had begun, and may have happened or not
├── AgentUnreachable       ~  1  no agent answers those who may only look
├── ProviderError             1  an instance could not be created or started
│   └── ProviderUnavailable ~    what runs the instances did not answer, or said: not now
├── RouterError               1  the router could not be started, reached or changed
│   └── RouterUnreachable  ~     nobody answers at its socket, or not yet
├── CertificateError          1  a certificate is unfit, or its authority refuses it
│   ├── NameElsewhere      ~     a name does not lead here (yet)
│   └── AuthorityUnavailable ~   an authority does not answer
│       └── AuthorityBusy    ~   it says: too many, or not before some time has passed
├── BackupError               1  a backup cannot be made, read or put back
│   ├── BackupDamaged            it is cut off, or its bytes are not what was put in
│   └── BackupNewer              made by a newer Instar
└── Refused                   1  a precondition that protects the user does not hold

A message reads *cannot ‹verb› ‹'object'›: ‹cause›*; ``hint`` says what to do.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from instar.frozen import dataclass


class InstarError(Exception):
    """Base of all. ``code`` is stable and machine-readable; ``hint`` is what to do, if there is something.

    ``retry_after_s``: the error is transient, and trying again makes sense after so long; None: it is permanent.
    """

    code = "error"
    exit_status = 1
    retry_after_s: float | None = None

    def __init__(self, message: str, *, hint: str | None = None, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        if retry_after_s is not None:
            self.retry_after_s = retry_after_s


class UsageError(InstarError):
    code = "usage"
    exit_status = 64


class ProviderMissing(UsageError):
    code = "provider-missing"


class ComponentMissing(InstarError):
    code = "component-missing"
    exit_status = 69


class EnvironmentBusy(InstarError):
    """Another process holds the environment's lock; ``pid`` names it where it is known."""

    code = "environment-busy"
    exit_status = 75
    retry_after_s = 1.0

    def __init__(self, message: str, *, pid: int | None, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.pid = pid


class NotRoot(InstarError):
    code = "not-root"


class Cancelled(InstarError):
    code = "cancelled"
    exit_status = 130


class CommandFailed(InstarError):
    """A subprocess ended with a status other than 0, a signal, or its time limit.

    ``returncode`` is negative for a signal, None for a time-out; ``output`` is the tail of what it printed.
    """

    code = "command-failed"

    def __init__(
        self,
        message: str,
        *,
        argv: Sequence[str],
        returncode: int | None,
        output: str,
        hint: str | None = None,
    ) -> None:
        super().__init__(message, hint=hint)
        self.argv = tuple(argv)
        self.returncode = returncode
        self.output = output

    @property
    def timed_out(self) -> bool:
        return self.returncode is None


@dataclass(frozen=True, kw_only=True)
class Problem:
    """One thing that is wrong at one place of a user's file. Lines and columns count from 1."""

    file: str
    line: int
    column: int
    message: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}: {self.message}"


class DefinitionError(InstarError):
    """All problems that were found in a definition, in the order of their places."""

    code = "definition"

    def __init__(self, problems: Sequence[Problem], *, hint: str | None = None) -> None:
        super().__init__("\n".join(str(problem) for problem in problems), hint=hint)
        self.problems = tuple(problems)


class DefinitionUnreadable(DefinitionError):
    """There is no text to read, and so no place in it to point at: ``problems`` is empty."""

    code = "definition-unreadable"

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        InstarError.__init__(self, message, hint=hint)
        self.problems = ()


class MachineFileError(DefinitionError):
    """The same of the machine's own file."""

    code = "machine-file"


class LockError(InstarError):
    code = "lock"


class LockMissing(LockError):
    code = "lock-missing"


class LockStale(LockError):
    code = "lock-stale"


class ResolveError(LockError):
    """``about`` are the names that the solver's own words are about, packages among them."""

    code = "resolve"

    def __init__(self, message: str, *, about: Collection[str] = (), hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.about = frozenset(about)


class FetchError(InstarError):
    code = "fetch"


class SourceUnreachable(FetchError):
    code = "source-unreachable"
    retry_after_s = 5.0


class PartsUnknown(FetchError):
    """A registry that is given a manifest says that it does not know what that names."""


class HashMismatch(FetchError):
    code = "hash-mismatch"


class BakeError(InstarError):
    code = "bake"


class StepFailed(BakeError):
    """A step failed. ``output`` is the tail of what it printed, ``place`` its ``file:line`` in the definition."""

    code = "step-failed"

    def __init__(self, message: str, *, step: str, place: str | None, output: str, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.step = step
        self.place = place
        self.output = output


class StoreError(InstarError):
    code = "store"


class ImageNotFound(StoreError):
    code = "image-not-found"


class BlobDamaged(StoreError):
    code = "blob-damaged"


class LedgerError(InstarError):
    code = "ledger"


class LedgerDamaged(LedgerError):
    code = "ledger-damaged"


class LedgerNewer(LedgerError):
    code = "ledger-newer"


class LedgerUnreachable(LedgerError):
    code = "ledger-unreachable"
    retry_after_s = 1.0


class LeaseLost(LedgerError):
    code = "lease-lost"
    exit_status = 75


class MachineDoubled(LedgerError):
    code = "machine-doubled"
    exit_status = 75


class NotFound(LedgerError):
    code = "not-found"


class EnvironmentNotFound(NotFound):
    pass


class AgentUnreachable(InstarError):
    code = "agent-unreachable"
    retry_after_s = 1.0


class HostError(InstarError):
    code = "host"


class HalfDone(HostError):
    code = "half-done"


class ProviderError(InstarError):
    code = "provider"


class ProviderUnavailable(ProviderError):
    code = "provider-unavailable"
    retry_after_s = 1.0


class RouterError(InstarError):
    code = "router"


class RouterUnreachable(RouterError):
    code = "router-unreachable"
    retry_after_s = 0.2


class CertificateError(InstarError):
    code = "certificate"


class NameElsewhere(CertificateError):
    code = "name-elsewhere"
    retry_after_s = 10.0


class AuthorityUnavailable(CertificateError):
    code = "authority-unavailable"
    retry_after_s = 60.0


class AuthorityBusy(AuthorityUnavailable):
    code = "authority-busy"


class BackupError(InstarError):
    code = "backup"


class BackupDamaged(BackupError):
    code = "backup-damaged"


class BackupNewer(BackupError):
    code = "backup-newer"


class Refused(InstarError):
    code = "refused"

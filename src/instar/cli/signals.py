"""What ends a command from outside: ``^C``, SIGTERM, SIGHUP.

The first one cancels the verb where that looks at its token, so that a rollout is undone between two actions and never
in the middle of one. Everywhere else, and where it is said again, what goes on is interrupted at once.
"""

from __future__ import annotations

import signal

from instar.cancellation import Cancellation

CANCELLATION = Cancellation()


def install() -> None:
    """Have the signals cancel this process's verb; those that are ignored (nohup) stay so. What ends it is taken from
    now on, also where the agent before this one had it wait. How children ended is told to who waits for them, also
    where whoever began this process did not want to know that of his own."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _cancel)
    if signal.getsignal(signal.SIGCHLD) is signal.SIG_IGN:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT, signal.SIGTERM})


def _cancel(number: int, frame: object) -> None:
    again = CANCELLATION.requested
    CANCELLATION.request()
    if again or not CANCELLATION.heeded:
        raise KeyboardInterrupt

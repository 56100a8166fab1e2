"""What is no event of the ledger's is told again where a channel does not take it, and nobody waits for that."""

from __future__ import annotations

import threading

from instar.telemetry.channels import Undelivered
from instar.telemetry.resending import Resending


class Channel:
    def __init__(self, refusals: int) -> None:
        self.refusals, self.tries, self.taken = refusals, 0, list[bytes]()
        self.done = threading.Event()

    def send(self, body: bytes) -> None:
        self.tries += 1
        if self.tries <= self.refusals:
            raise Undelivered("nobody is there")
        self.taken.append(body)
        self.done.set()


def test_it_is_told_again_until_it_is_taken() -> None:
    channel, lost = Channel(3), list[str]()
    one = Resending([channel], lost.append, first_pause_s=0.001)
    one.start()
    one.tell(b"first")
    assert channel.done.wait(20)
    one.stop()
    assert (channel.taken, channel.tries, lost) == ([b"first"], 4, [])


def test_it_is_given_up_after_some_tries_and_that_is_said() -> None:
    channel, given_up, lost = Channel(100), threading.Event(), list[str]()

    def hear(cause: str) -> None:
        lost.append(cause)
        given_up.set()

    one = Resending([channel], hear, tries=3, first_pause_s=0.001)
    one.start()
    one.tell(b"first")
    assert given_up.wait(20)
    one.stop()
    assert (channel.tries, lost) == (3, ["a notice was given up after 3 tries: nobody is there"])


def test_without_channels_nothing_is_begun() -> None:
    one = Resending([], lambda cause: None)
    one.start()
    one.tell(b"first")
    one.stop()

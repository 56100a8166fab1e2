"""A child of a test process leaves its parent's garbage alone."""

from __future__ import annotations

import gc
import os
import signal

import zstandard


def leave_an_encoder() -> None:
    """Leave behind, for the collector, an encoder whose threads are at work for this process."""
    options = zstandard.ZstdCompressionParameters.from_level(3, threads=2)
    encoder = zstandard.ZstdCompressor(compression_params=options).compressobj()
    encoder.compress(bytes(1 << 20))
    ring: list[object] = [encoder]
    ring.append(ring)


def test_a_child_does_not_collect_what_its_parent_has_left() -> None:
    gc.collect()
    leave_an_encoder()
    pid = os.fork()
    if pid == 0:
        signal.alarm(20)  # without it: a segmentation fault, or no end
        gc.collect()
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert gc.isenabled()

"""A test process that forks leaves its own garbage alone in the child.

Something that is collected in a child may wait for a thread that only its parent has: the encoder of zstd joins its
workers as it is freed, and waits for ever, or ends the process by a bad address.
"""

from __future__ import annotations

import gc
import os


def watch() -> None:
    """Hold every fork of this process to it from now on."""
    os.register_at_fork(before=gc.disable, after_in_parent=gc.enable, after_in_child=_begin_anew)


def _begin_anew() -> None:
    gc.freeze()
    gc.enable()

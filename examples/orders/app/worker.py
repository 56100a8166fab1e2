"""Carries orders out, one after the other, until it is told to end; then it finishes the one that it has."""

import os
import signal
import threading
from pathlib import Path

import queue_folder

ending = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: ending.set())
Path("/tmp/ready").touch()  # noqa: S108  the instance's own
while not ending.is_set():
    order = queue_folder.take()
    if order is None:
        ending.wait(0.2)
        continue
    print(f"release {os.environ['INSTAR_RELEASE']} carries out: {order.read_text()}")
    order.rename(order.with_suffix(".done"))

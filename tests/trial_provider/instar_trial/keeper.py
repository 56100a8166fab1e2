"""keeper.py FOLDER LOG GRACE_S SIGNAL COMMAND…: runs one instance, keeps what it prints and how it ended; ends it."""

import contextlib
import datetime
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import threading

folder, log, asked = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]), threading.Event()
signal.signal(signal.SIGTERM, lambda *_: asked.set())
streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
child = subprocess.Popen(sys.argv[5:], text=True, errors="replace", start_new_session=True, **streams)


def keep_output() -> None:
    with log.open("a") as file:
        for line in child.stdout or ():
            print(datetime.datetime.now(datetime.UTC).isoformat(), "stdout", line.rstrip("\n"), file=file, flush=True)


threading.Thread(target=keep_output, daemon=True).start()
(folder / ".pid").write_text(f"{child.pid} {os.getpid()}")
(folder / ".pid").replace(folder / "pid")
while child.poll() is None and not asked.wait(0.02):
    pass
for number, patience_s in ((int(sys.argv[4]), float(sys.argv[3])), (signal.SIGKILL, 10)):
    with contextlib.suppress(ProcessLookupError, subprocess.TimeoutExpired):
        if asked.is_set():
            os.killpg(child.pid, number)
        child.wait(patience_s)
code = child.wait()
(folder / "exit").write_text(str(code if code >= 0 else 128 - code))
asked.wait()
shutil.rmtree(folder, ignore_errors=True)

"""What is in a pod's writable places and which processes run there: asked by sh, find, stat and cat of its own image.

Where the image lacks one of them nothing is known, nothing is guessed, and that is said.
"""

from __future__ import annotations

from typing import Final

from instar.model.survey import Seen, Survey, Writable

_TOOLS: Final = ("find", "stat", "head", "cat", "tr")
_MOST_FILES: Final = 5_000
_FOLDER: Final = 0o040000
_KIND: Final = 0o170000
_LACKS: Final = 3
# A line of a file: F MODE(hex) SIZE MTIME PATH; of a process: P PID START COMMAND.
SCRIPT: Final = f"""\
for tool in {" ".join(_TOOLS)}; do command -v "$tool" >/dev/null || {{ echo "$tool"; exit {_LACKS}; }}; done
for place in /tmp /run /dev/shm "$@"; do
  find "$place" -xdev -exec stat -c 'F %f %s %Y %n' {{}} + 2>/dev/null | head -n {_MOST_FILES}
done
for process in /proc/[0-9]*; do
  line=$(cat "$process/stat" 2>/dev/null) || continue
  set -- ${{line##*) }}
  echo "P ${{process#/proc/}} ${{20}} $(tr '\\000\\n' '  ' <"$process/cmdline" 2>/dev/null)"
done
"""
_FILE_FIELDS, _PROCESS_FIELDS = 5, 4


def unknown(why: str) -> Survey:
    """Return that nothing is known."""
    return Survey(places={"/": Writable(whole=False)}, unknown=why)


def survey_of(status: int, printed: str) -> Survey:
    """Return what the script, which ended with ``status``, could tell."""
    if status == 0:
        return read_survey(printed)
    if status == _LACKS and printed.strip() in _TOOLS:
        return unknown(f"its image has no '{printed.strip()}'")
    return unknown(f"the look at its files ended with exit status {status}")


def read_survey(printed: str) -> Survey:
    """Return what the script printed; lines of no known form (a name with a line's end in it) are left out."""
    files: dict[str, Seen] = {}
    processes: dict[tuple[int, int], str] = {}
    whole = True
    for line in printed.splitlines():
        try:
            if line.startswith("F "):
                _, mode, size, changed, name = line.split(" ", _FILE_FIELDS - 1)
                files[name] = _seen(int(mode, 16), int(size), int(changed))
            elif line.startswith("P "):
                _, pid, start, *command = line.split(" ", _PROCESS_FIELDS - 1)
                processes[int(pid), int(start)] = " ".join(command).strip() or "?"
            else:
                whole = False
        except ValueError:
            whole = False
    return Survey(places={"/": Writable(files=files, whole=whole and len(files) < _MOST_FILES)}, processes=processes)


def _seen(mode: int, size: int, changed: int) -> Seen:
    if mode & _KIND == _FOLDER:
        return Seen(mode=mode)
    return Seen(mode=mode, size_bytes=size, mtime_ns=changed * 1_000_000_000)

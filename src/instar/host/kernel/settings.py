"""Kernel settings (sysctls) that belong to namespaces, as a thread inside of them sees them."""

from __future__ import annotations

import functools
import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

_SYS: Final = "/proc/sys/"
_OF_IPC: Final = ("msgmax", "msgmnb", "msgmni", "sem", "shmall", "shmmax", "shmmni", "shm_rmid_forced")
_OF_UTS: Final = ("hostname", "domainname")
# what counts, or is made up anew whenever it is read
_CHANGING: Final = ("conntrack_count", "tcp_fastopen_key", "stable_secret", "fib_multipath_hash_seed")
_LOGGERS: Final = "net/netfilter/nf_log/"  # a module that the machine loads for itself puts its name there
_LIMIT = 4096


def names() -> Iterator[str]:
    """Yield the settings that the namespaces of this thread have of their own, such as "net/ipv4/ip_forward".

    One that nobody can write there shows what the whole machine has, and changes with it.
    """
    yield from (f"kernel/{name}" for name in (*_OF_IPC, *_OF_UTS))
    for folder in ("net", "fs/mqueue"):
        yield from (name for name in _below(folder) if not name.endswith(_CHANGING) and not name.startswith(_LOGGERS))


def values(wanted: Iterable[str]) -> Mapping[str, str]:
    """Return name → value of those that this thread may read; tabs and spaces are the same."""
    found = {}
    for name in wanted:
        try:
            descriptor = os.open(_SYS + name, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            continue
        try:
            found[name] = _text(os.read(descriptor, _LIMIT))
        except OSError:
            continue
        finally:
            os.close(descriptor)
    return found


@functools.lru_cache(maxsize=1024)
def _text(data: bytes) -> str:
    return data.decode(errors="replace").strip().replace("\t", " ")


def _below(folder: str) -> Iterator[str]:
    try:
        entries = sorted(os.scandir(_SYS + folder), key=lambda entry: entry.name)
    except OSError:
        return
    for entry in entries:
        name = f"{folder}/{entry.name}"
        if entry.is_dir(follow_symlinks=False):
            yield from _below(name)
        elif entry.stat(follow_symlinks=False).st_mode & stat.S_IWUSR:
            yield name

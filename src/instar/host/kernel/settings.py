"""Kernel settings (sysctls) that belong to namespaces, as a thread inside of them sees them."""

from __future__ import annotations

import contextlib
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
    """Return name → value of those that this thread may read; tabs and spaces are the same.

    There are hundreds: found from their folders, they take half the time that they take from the root.
    """
    found: dict[str, str] = {}
    by_folder: dict[str, list[str]] = {}
    for name in wanted:
        by_folder.setdefault(name.rpartition("/")[0], []).append(name)
    for folder, there in by_folder.items():
        with contextlib.suppress(OSError):  # it is not there
            descriptor = os.open(_SYS + folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                found |= ((name, text) for name in there if (text := _value(name, descriptor)) is not None)
            finally:
                os.close(descriptor)
    return found


def _value(name: str, folder: int) -> str | None:
    try:
        descriptor = os.open(name.rpartition("/")[2], os.O_RDONLY | os.O_CLOEXEC, dir_fd=folder)
    except OSError:
        return None
    try:
        return _text(os.read(descriptor, _LIMIT))
    except OSError:
        return None
    finally:
        os.close(descriptor)


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

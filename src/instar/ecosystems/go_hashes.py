"""Go's hashes of modules: ``h1:`` and base64. Source: golang.org/x/mod/sumdb/dirhash."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from instar.store import zipped
from instar.store.members import Malformed

_MOD_LIMIT_BYTES: Final = 16 << 20  # Source: golang.org/x/mod/zip, MaxGoMod, MaxZipFile
_ZIP_LIMIT_BYTES: Final = 500 << 20
_HASH: Final = re.compile(r"h1:[A-Za-z0-9+/]{43}=\Z")


def is_hash(known: str) -> bool:
    return bool(_HASH.match(known))


def hash_of(path: Path, kind: str) -> str:
    """Return the hash of a module's zip, or ("mod") of its go.mod. Raises Malformed."""
    if kind == "mod":
        if path.stat().st_size > _MOD_LIMIT_BYTES:
            raise Malformed(f"it is larger than the {_MOD_LIMIT_BYTES:,} bytes that go takes of a go.mod")
        return _hash({"go.mod": [path.read_bytes()]})
    with zipped.opened(path) as archive:
        if sum(info.file_size for info in archive.infolist()) > _ZIP_LIMIT_BYTES:
            raise Malformed(f"it holds more than the {_ZIP_LIMIT_BYTES:,} bytes that go takes of a module")
        if any("\n" in name for name in archive.namelist()):
            raise Malformed("there is a name of two lines in it")
        if len(set(archive.namelist())) != len(archive.namelist()):
            raise Malformed("there is a name twice in it")
        return _hash({name: zipped.chunks(archive, name) for name in archive.namelist()})


def _hash(files: dict[str, Iterable[bytes]]) -> str:
    whole = hashlib.sha256()
    for name in sorted(files, key=str.encode):
        one = hashlib.sha256()
        for chunk in files[name]:
            one.update(chunk)
        whole.update(f"{one.hexdigest()}  {name}\n".encode())
    return f"h1:{base64.b64encode(whole.digest()).decode()}"

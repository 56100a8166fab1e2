"""Ways in which a file of the state is not what was written."""

from __future__ import annotations

from collections.abc import Mapping

DAMAGES: Mapping[str, bytes] = {
    "empty": b"",
    "no-utf8": b"\xff\xfe{\xc3\x28\x80\n" * 9,
    "digits": b'{"id": ' + b"9" * 5000 + b"}",
    "number": b"9" * 5000,
    "deep": b"[" * 100_000,
    "deep-objects": b'{"a":' * 100_000,
    "list": b"[]",
    "nothing": b"null",
    "text": b'"text"',
    "infinity": b"Infinity",
    "wrong-shape": b'{"manifests": {"a": 1}, "subnet": 5, "layer": [], "id": {}, "pid": "x", "version": 2}',
    "lines": b"one\ntwo\n\x1b[31mthree\x00\n",
}

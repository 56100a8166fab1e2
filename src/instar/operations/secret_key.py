"""The key of secrets: a file of each machine, and the same on all that share a ledger.

Digests of secrets are made by it, so that the same definition is one release, whichever machine it is deployed from;
and in a shared ledger their values are encrypted by it (``encryption.py``). The ledger has a hash of the key, so that
another is told from it before it is used; a directory's key of before becomes that of its ledger.
The key goes from machine to machine by ``instar ledger key export`` and ``import``, and never through the ledger.
"""

from __future__ import annotations

import re

from instar.errors import HostError, Refused, UsageError
from instar.model.digest import Digest
from instar.operations.privilege import require_root
from instar.operations.secrets import KEY_BYTES, find_key, make_key, put_key
from instar.operations.workspace import Workspace

_WORDS = re.compile(r"[0-9a-f]{64}")
IMPORT_KEY = "on a machine that has it: instar ledger key export; here: instar ledger key import"


def require_key(workspace: Workspace, *, make: bool) -> None:
    """See to it that this machine works with the key of the ledger that it shares.

    ``make``: where the ledger has none yet, this machine's becomes it. Raises Refused where this machine has another,
    or none.
    """
    known = workspace.ledger.find_secret_key()
    if known is None and not workspace.ledger.shared:
        return
    own = find_key(workspace.state)
    if known is None and make:
        workspace.ledger.set_secret_key(fingerprint(own or make_key(workspace.state)))
    elif known is not None and own is None:
        raise Refused("cannot work with the ledger's secrets: this machine has no key yet", hint=IMPORT_KEY)
    elif known is not None and own is not None and fingerprint(own) != known:
        raise Refused("cannot work with the ledger's secrets: this machine has another key", hint=IMPORT_KEY)


def export_key(workspace: Workspace) -> str:
    """Return the key of this machine as text. Raises Refused when it has none."""
    require_root("ledger key export", "it reads the key of the machine's secrets")
    key = find_key(workspace.state)
    if key is None:
        known = workspace.ledger.find_secret_key() is not None
        hint = IMPORT_KEY if known else "it is made with the first secret"
        raise Refused("cannot export the key: this machine has none yet", hint=hint)
    return key.hex()


def import_key(workspace: Workspace, text: str) -> None:
    """Make ``text``, which another machine has exported, the key of this one.

    One that was lost or damaged is put right. Raises UsageError for what is no key; Refused where this machine has
    another, or where it is not the ledger's.
    """
    require_root("ledger key import", "it writes the key of the machine's secrets")
    if not _WORDS.fullmatch(text):
        raise UsageError(f"cannot import the key: it is not {2 * KEY_BYTES} hexadecimal digits")
    key = bytes.fromhex(text)
    known = workspace.ledger.find_secret_key()
    if known is not None and fingerprint(key) != known:
        raise Refused("cannot import the key: it is not the one of this ledger", hint=IMPORT_KEY)
    try:
        own = find_key(workspace.state)
    except HostError:
        if known is None:  # nobody can tell whether it is that one
            raise
        workspace.state.secret_key.unlink(missing_ok=True)
        own = None
    if own is not None and own != key:
        raise Refused(
            "cannot import the key: this machine has another, and secrets that are kept by it",
            hint=f"what runs needs it; without secrets to lose, move '{workspace.state.secret_key}' away first",
        )
    put_key(workspace.state, key)


def fingerprint(key: bytes) -> Digest:
    """Return the hash by which a ledger knows its key."""
    return Digest.of(b"instar: the key of a ledger's secrets\n" + key)

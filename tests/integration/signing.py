"""Keys of gpg that archives are signed by, made in a test and gone with it."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path


class Signer:
    """A key of its own. ``made`` and ``expire`` as gpg has them: "20200101T000000", "1d"; "0" is never."""

    def __init__(self, *, made: str = "20200101T000000", expire: str = "0") -> None:
        self._home = tempfile.TemporaryDirectory(prefix="gpg-")  # short: gpg-agent's socket lies in it
        self._time = made
        self._gpg("--passphrase", "", "--quick-generate-key", "Test archive <test@invalid>", "ed25519", "sign", expire)

    def close(self) -> None:
        subprocess.run(["gpgconf", "--homedir", self._home.name, "--kill", "all"], check=True)
        self._home.cleanup()

    def public(self, path: Path, *, armoured: bool = True) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(self._gpg(*(["--armor"] if armoured else []), "--export"))
        return path

    def secret(self) -> bytes:
        return self._gpg("--armor", "--export-secret-keys")

    def sign(self, release: Path) -> None:
        """Write InRelease beside ``release``."""
        signed = self._gpg("--clearsign", stdin=release.read_bytes())
        release.with_name("InRelease").write_bytes(signed)

    def _gpg(self, *words: str, stdin: bytes = b"") -> bytes:
        time = f"{self._time}!"  # stands still: what was made is not of the future, nor has the key expired meanwhile
        argv = ["gpg", "--homedir", self._home.name, "--batch", "--quiet", "--faked-system-time", time, *words]
        return subprocess.run(argv, input=stdin, capture_output=True, check=True).stdout

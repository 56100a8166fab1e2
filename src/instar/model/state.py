"""Where Instar keeps things on this machine: names only, nothing is touched here.

/var/lib/instar            or $INSTAR_HOME           kept for ever, mode 0700; without root $XDG_STATE_HOME/instar
├── store/                 OCI image layout          (store/)
├── steps/                 step key → layer          (bake/)
├── layers/                EROFS images of layers    (host/)
├── cache/                 fetched files by SHA-256  (fetch/)
├── ledger/instar.db       releases, events          (ledger/)
├── secrets/               secrets by digest, 0600   (operations/)
├── certificates/          certificates of https names and their keys, 0600  (certificates/)
├── volumes/SERVICE/ENV/NAME                         (providers/local)
├── snapshots/SERVICE/ENV/NAME/NUMBER/               what volumes held then (providers/local)
├── logs/INSTANCE.log                                (providers/local)
├── recordings/            what shells showed        (operations/)
├── evidence/              what drifted instances were like before they went (operations/)
├── allocations/INSTANCE.json                        (providers/local)
├── routers/SERVICE/ENV/   haproxy.cfg, the holder's files
├── edge/                  the same of the edge                                          (router/)
├── network.json           the subnet of instances (providers/local)
├── crashes/               what no command foresaw, the newest (cli/)
├── machine-name           which one it is for those who share a ledger, where it was restored as another (operations/)
├── .restore/              a restore that is under way, or was killed (operations/)
├── shared-ledger          which ledger the machine works by, where it shares one (operations/)
├── shipped.json           how far logs were shipped (shipping/)
├── notified               number of the last event that the agent told of (telemetry/)
├── left-by-uninstall      there where an uninstall has left volumes: those that a second one may remove (operations/)
└── id                     six hexadecimal digits that mark everything global to the host as ours
/run/instar                or $INSTAR_HOME/run       gone after a reboot
├── lock/                  flock files
├── mounts/                layers, mounted once and shared
├── instances/INSTANCE/    bundle, root mount, pid files
├── sealed/                which blobs and layers were hashed, and what they were like
├── drift/SERVICE.ENV.json what the agent's last check found, where a group may ask (reading/)
├── runc/                  runc's own state
├── toolbox/               the BusyBox that shells are shown
└── routers/               control sockets (short paths: a socket's has at most 107 bytes)
/run/instar.readers/NAME.sock                        whom a group may ask, of each state directory one (reading/)
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from instar.frozen import dataclass
from instar.model.digest import Digest

ROOTS_STATE: Final = Path("/var/lib/instar")
READERS: Final = Path("/run/instar.readers")
MACHINE_FILE_VARIABLE: Final = "INSTAR_CONFIG"


def machine_file(environ: Mapping[str, str]) -> Path:
    """Return where this machine's own file is. A state directory that is named has its own, so that none but its own
    settings reach what is kept apart there."""
    if environ.get(MACHINE_FILE_VARIABLE):
        return Path(environ[MACHINE_FILE_VARIABLE]).absolute()
    home = environ.get("INSTAR_HOME")
    return Path(home).resolve() / "config.yaml" if home else Path("/etc/instar/config.yaml")


@dataclass(frozen=True, slots=True)
class StateDirectory:
    root: Path
    run: Path

    @classmethod
    def from_environment(cls, environ: Mapping[str, str], *, of_root: bool = True) -> StateDirectory:
        """Return the one that is named, else root's, or (not ``of_root``) the user's own.

        Source: XDG Base Directory Specification, by which a relative path does not count.
        """
        home = environ.get("INSTAR_HOME")
        if not home and not of_root:
            base = environ.get("XDG_STATE_HOME", "")
            home = f"{base if base.startswith('/') else environ.get('HOME', '') + '/.local/state'}/instar"
        if home:
            root = Path(home).resolve()
            return cls(root, root / "run")
        return cls(ROOTS_STATE.resolve(), Path("/run/instar"))

    @property
    def own_names(self) -> tuple[str, ...]:
        """What Instar makes right below the root, in the order in which it can go: what says what else there is goes
        last. A provider's own folder has its name, and an operator's file ``config.yaml`` is none of these."""
        others = [self.store, self.steps, self.layers, self.cache, self.allocations, self.secrets, self.certificates]
        others += [self.volumes, self.snapshots, self.logs, self.recordings, self.evidence, self.crashes]
        others += [
            self.routers,
            self.edge,
            self.network,
            self.shared_ledger,
            self.notified,
            self.shipped,
            self.machine_name,
            self.left_mark,
        ]
        return tuple(path.name for path in (*others, self.id_file, self.ledger.parent))

    @property
    def store(self) -> Path:
        return self.root / "store"

    @property
    def steps(self) -> Path:
        return self.root / "steps"

    @property
    def layers(self) -> Path:
        return self.root / "layers"

    @property
    def cache(self) -> Path:
        return self.root / "cache"

    @property
    def ledger(self) -> Path:
        return self.root / "ledger" / "instar.db"

    @property
    def shared_ledger(self) -> Path:
        """By which ledger the machine works, where it shares one."""
        return self.root / "shared-ledger"

    @property
    def allocations(self) -> Path:
        return self.root / "allocations"

    @property
    def secrets(self) -> Path:
        return self.root / "secrets"

    def secret(self, digest: Digest) -> Path:
        """Return where the secret of that (keyed) digest is."""
        return self.secrets / digest.hex

    @property
    def secret_key(self) -> Path:
        """Return where the key of their digests is."""
        return self.secrets / "key"

    @property
    def certificates(self) -> Path:
        return self.root / "certificates"

    @property
    def volumes(self) -> Path:
        return self.root / "volumes"

    @property
    def snapshots(self) -> Path:
        return self.root / "snapshots"

    @property
    def logs(self) -> Path:
        return self.root / "logs"

    @property
    def recordings(self) -> Path:
        return self.root / "recordings"

    @property
    def evidence(self) -> Path:
        return self.root / "evidence"

    @property
    def crashes(self) -> Path:
        return self.root / "crashes"

    @property
    def routers(self) -> Path:
        return self.root / "routers"

    @property
    def edge(self) -> Path:
        return self.root / "edge"

    @property
    def network(self) -> Path:
        """Where it is written which subnet instances have."""
        return self.root / "network.json"

    @property
    def machine_name(self) -> Path:
        """What the machine is called by those who share a ledger, where the backup of another was restored here."""
        return self.root / "machine-name"

    @property
    def restore(self) -> Path:
        """Where a restore puts what it reads, until all of it is there."""
        return self.root / ".restore"

    @property
    def notified(self) -> Path:
        return self.root / "notified"

    @property
    def shipped(self) -> Path:
        return self.root / "shipped.json"

    @property
    def left_mark(self) -> Path:
        """What says, where nothing else does any more, that the volumes there are what an uninstall has left."""
        return self.root / "left-by-uninstall"

    @property
    def id_file(self) -> Path:
        return self.root / "id"

    @property
    def locks(self) -> Path:
        return self.run / "lock"

    @property
    def mounts(self) -> Path:
        return self.run / "mounts"

    @property
    def instances(self) -> Path:
        return self.run / "instances"

    @property
    def sealed(self) -> Path:
        return self.run / "sealed"

    @property
    def last_drift(self) -> Path:
        """What the agent found when it last checked, where others than root may ask for it."""
        return self.run / "drift"

    @property
    def runc(self) -> Path:
        return self.run / "runc"

    @property
    def toolbox(self) -> Path:
        return self.run / "toolbox"

    @property
    def readers_socket(self) -> Path:
        """Where the agent answers those who may only look. It lies outside: nobody but root gets to what is in there.
        Whoever knows the directory's path finds it, and no two directories have one."""
        import hashlib

        name = hashlib.sha256(bytes(self.root)).hexdigest()[:16]
        return READERS / f"{'default' if self.root == ROOTS_STATE.resolve() else name}.sock"

    @property
    def router_sockets(self) -> Path:
        return self.run / "routers"

"""Measure what was asked for, and print it; when that is everything, write it into docs/performance.md too."""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts"))

from figures import Figure, table, write  # noqa: E402  (the load generator lies one folder up)
from items import ITEMS, Bench  # noqa: E402

FOLDER = Path("/var/cache/instar-bench")
DOCUMENT = ROOT / "docs/performance.md"


def measure(names: list[str], rounds: int | None) -> list[Figure]:
    """Measure one item after the other, and say each one's figures as soon as they are there."""
    FOLDER.mkdir(parents=True, exist_ok=True, mode=0o711)
    figures: list[Figure] = []
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=FOLDER, prefix="run-")))
        scratch.chmod(0o755)
        bench = Bench(folder=FOLDER, scratch=scratch, rounds=rounds, stack=stack)
        for name in names:
            print(f" bench    {name}: {(ITEMS[name].__doc__ or '').strip()}", flush=True)
            figures += ITEMS[name](bench)
    return figures


def versions() -> str:
    """Return which versions stood beside Instar."""
    own = subprocess.run(
        [FOLDER / "docker/root/usr/bin/docker", "--version"], capture_output=True, text=True, check=True
    )
    debootstrap = subprocess.run(["mmdebstrap", "--version"], capture_output=True, text=True, check=True)
    return f"{own.stdout.split(',')[0]} (BuildKit), {debootstrap.stdout.strip()}"


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__)
    parser.add_argument("items", nargs="*", metavar="ITEM", help=f"{', '.join(ITEMS)} (default: all)")
    parser.add_argument("--rounds", type=int, help="how often each is measured (default: by item)")
    options = parser.parse_args()
    unknown = set(options.items) - set(ITEMS)
    if unknown:
        parser.error(f"no such item: {', '.join(unknown)}")
    figures = measure(options.items or list(ITEMS), options.rounds)
    print("\n" + table(figures))
    if not options.items and options.rounds is None:
        write(DOCUMENT, figures, versions())
        print(f"\n written to {DOCUMENT.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

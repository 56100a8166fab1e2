"""Looking into a stage that is baked: what is there of that which others take out of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from instar.bake import scratch
from instar.bake.files.sources import UnusableFile
from instar.bake.stages import taken
from instar.bake.stages.takes import Take, TakenContent
from instar.errors import StepFailed
from instar.model.image import Layer
from instar.store.mountable import MountableLayers


def look_into(
    takes: Sequence[tuple[str, Take]], stage: Sequence[Layer], layers: MountableLayers, folder: Path, mark: str
) -> Iterator[tuple[Take, TakenContent]]:
    """Yield what a stage of these layers, the lowest first, has for each, which come with the names of their steps.

    ``folder`` is where bakes work.
    Raises StepFailed, pointing at the entry that takes what is not there; HostError, BlobDamaged.
    """
    with scratch.opened(folder, mark) as opened:
        lowers = [layers.mount(layer) for layer in reversed(stage)]
        root = opened.show(lowers, opened.path / "stage")
        for step, take in takes:
            try:
                yield take, taken.content_of(root, take)
            except (UnusableFile, OSError) as error:
                cause = str(error) if isinstance(error, UnusableFile) else f"'{take.path}': {error.strerror}"
                raise StepFailed(f"cannot bake '{step}': {cause}", step=step, place=take.place, output="") from error

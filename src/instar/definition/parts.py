"""What a definition has baked: the stages of its build, and the image. Each is resolved, locked and baked alike."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import field, replace

from instar.definition.load import Loaded
from instar.frozen import dataclass
from instar.model.image_spec import STAGES, BuildStage, Fetch, Files


@dataclass(frozen=True, kw_only=True, slots=True)
class ImagePart:
    """The image (``stage`` None), or a stage of its build: what it is made of, and where the definition says so.

    ``target``: the platform that the image is baked for, None where that is not asked for yet. ``numbers``: where the
    entries of a list stand in the definition, of which some are not for that platform.
    """

    loaded: Loaded
    made: BuildStage
    stage: str | None = None
    target: str | None = None
    numbers: Mapping[str, tuple[int, ...]] = field(default_factory=dict)

    @property
    def path(self) -> tuple[str, ...]:
        """Where it stands in the definition."""
        return ("image",) if self.stage is None else ("build", self.stage)

    def place(self, *path: str | int) -> str:
        """Return the place of what is at ``path`` in it: "instar.yaml:12:7"."""
        if len(path) > 1 and path[0] in self.numbers:
            path = (path[0], self.numbers[str(path[0])][int(path[1])], *path[2:])
        return self.loaded.places.place_text(*self.path, *path)

    def for_platform(self, platform: str) -> ImagePart:
        """Return what of it goes into the image for a platform: without the files that are another's."""
        lists: dict[str, tuple[Files | Fetch, ...]] = {"files": self.made.files, "fetch": self.made.fetch}
        numbers = {
            name: tuple(number for number, one in enumerate(entries) if one.platform in (None, platform))
            for name, entries in lists.items()
        }
        made = replace(
            self.made,
            files=tuple(self.made.files[number] for number in numbers["files"]),
            fetch=tuple(self.made.fetch[number] for number in numbers["fetch"]),
        )
        return replace(self, made=made, target=platform, numbers=numbers)

    def named(self, text: str) -> str:
        """Return ``text`` as it is told of this part: of a stage with its name."""
        return text if self.stage is None else f"{STAGES}{self.stage} {text}"


def image_of(loaded: Loaded) -> ImagePart:
    return ImagePart(loaded=loaded, made=loaded.definition.image)


def parts_of(loaded: Loaded) -> tuple[ImagePart, ...]:
    """Return the stages in their order, of which each takes from those before alone, and then the image."""
    stages = (ImagePart(loaded=loaded, made=made, stage=name) for name, made in loaded.definition.build.items())
    return *stages, image_of(loaded)


def parts_beneath(part: ImagePart) -> tuple[ImagePart, ...]:
    """Return the stages that ``part`` takes from, and those that these do, in their order."""
    needed = {files.stage for files in part.made.files if files.stage}
    found = list[ImagePart]()
    stages = (one for one in parts_of(part.loaded) if one.stage is not None)
    for one in reversed([stage.for_platform(part.target) if part.target else stage for stage in stages]):
        if one.stage in needed:
            needed.update(files.stage for files in one.made.files if files.stage)
            found.append(one)
    return tuple(reversed(found))


def needed_parts_of(loaded: Loaded) -> tuple[ImagePart, ...]:
    """Return the same without the stages that the image has nothing of: they are not baked."""
    needed = loaded.definition.needed_stages
    return tuple(part for part in parts_of(loaded) if part.stage is None or part.stage in needed)


def unneeded_stages(loaded: Loaded) -> Iterator[str]:
    """Yield of each stage that the image has nothing of, where it stands and what that means, for people."""
    building = {name for part in parts_of(loaded) for name in part.made.from_source}
    for stage in loaded.definition.build:
        if stage not in loaded.definition.needed_stages and stage not in building:
            yield (
                f"{loaded.places.place_text('build', stage)}: stage '{stage}' is not baked: nothing of it is in the"
                f" image; take something with 'from: {STAGES}{stage}', or remove it"
            )

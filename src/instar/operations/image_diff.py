"""What is different between two images: packages and files, by their layers alone."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from instar.definition import Loaded
from instar.errors import ImageNotFound
from instar.model import dpkg_status
from instar.model.codec import parse
from instar.model.digest import Digest
from instar.model.image import Layer
from instar.model.image_diff import FileChange, FileChangeKind, ImageDiff, PackageChange, PackageKind
from instar.model.printable import printable
from instar.operations.lock import existing_lock
from instar.operations.workspace import Workspace
from instar.store.listing import NONE, ListedFile, Listing

_DISTRIBUTION: Final = r"(?:.*/)?(?P<distribution>[^/]+)-(?P<version>[^/-]+)\.dist-info/METADATA"
_NODE: Final = r"(?:.*/)?node_modules/(?P<module>(?:@[^/]+/)?[^/]+)/package\.json"
_KNOWING: Final = re.compile(
    rf"(?:{dpkg_status.STATUS}|{dpkg_status.PARTS}/[^/]+|{_DISTRIBUTION}|{_NODE})".encode(), re.DOTALL
)
_INSTALLED: Final = " installed"

_Package = tuple[PackageKind, str]


def image_diff(workspace: Workspace, before: Digest, after: Digest) -> ImageDiff | None:
    """Compare two images file by file; None where one of them is not here."""
    if before == after:
        return ImageDiff()
    try:
        images = [workspace.store.image(digest) for digest in (before, after)]
    except ImageNotFound:
        return None
    common = _common(*(one.layers for one in images))
    look = workspace.cancellation.check
    beneath = workspace.store.list_files(images[0].layers[:common], _KNOWING, look=look)
    old, new = (workspace.store.list_files(one.layers[common:], _KNOWING, beneath=beneath, look=look) for one in images)
    return ImageDiff(
        packages=tuple(_package_changes(packages_of(old), packages_of(new))), files=tuple(_file_changes(old, new))
    )


def planned_diff(workspace: Workspace, before: Digest, loaded: Loaded) -> ImageDiff | None:
    """Compare an image with the lock of the one that is to be baked: its packages, as far as the lock names them; of
    its files nothing is known before. None where the image is not here."""
    try:
        image = workspace.store.image(before)
    except ImageNotFound:
        return None
    here = packages_of(
        workspace.store.list_files(image.layers, _KNOWING, others=NONE, look=workspace.cancellation.check)
    )
    lock, is_whole = existing_lock(loaded), loaded.definition.image.slim is None
    wanted: dict[_Package, str] = {("debian", one.name): one.version for one in lock.all_packages}
    wanted |= {("python", wheel.name): wheel.version for wheel in lock.wheels}
    kinds = {kind for kind, _ in wanted}
    changes = _package_changes({package: version for package, version in here.items() if package[0] in kinds}, wanted)
    return ImageDiff(packages=tuple(one for one in changes if is_whole or None not in (one.before, one.after)))


def _common(one: Sequence[Layer], two: Sequence[Layer]) -> int:
    """Return how many layers both begin with."""
    return sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], zip(one, two, strict=False)))


def packages_of(listing: Listing) -> Mapping[_Package, str]:
    """Return the packages that an image knows of, with their versions: Debian's by dpkg, Python's and npm's by what
    lies beside them. What can't be read says nothing."""
    found: dict[_Package, set[str]] = {}
    for path, file in listing.items():
        for kind, name, version in _packages_in(path, file.content) if file.content is not None else ():
            found.setdefault((kind, name), set()).add(version)
    return {package: ", ".join(sorted(versions)) for package, versions in found.items()}


def _packages_in(path: bytes, content: bytes) -> Iterator[tuple[PackageKind, str, str]]:
    match = _KNOWING.fullmatch(path)
    assert match is not None  # nothing else has its content
    if match["distribution"]:
        yield "python", _text(match["distribution"]).replace("_", "-").lower(), _text(match["version"])
    elif match["module"]:
        yield from (("npm", _text(match["module"]), version) for version in _npm_version(content))
    else:
        for told in dpkg_status.paragraphs(content):
            if "Package" in told and told.get("Status", _INSTALLED).endswith(_INSTALLED):
                yield "debian", printable(told["Package"]), printable(told.get("Version", "?"))


def _npm_version(content: bytes) -> Iterator[str]:
    try:
        told = parse(content)
    except ValueError:
        return
    if isinstance(told, dict) and isinstance(told.get("version"), str):
        yield printable(told["version"])


def _package_changes(before: Mapping[_Package, str], after: Mapping[_Package, str]) -> Iterator[PackageChange]:
    for kind, name in sorted(before.keys() | after.keys()):
        versions = before.get((kind, name)), after.get((kind, name))
        if versions[0] != versions[1]:
            yield PackageChange(kind=kind, name=name, before=versions[0], after=versions[1])


def _file_changes(old: Listing, new: Listing) -> Iterator[FileChange]:
    for path in sorted(old.keys() | new.keys()):
        one, two = old.get(path), new.get(path)
        if one != two:
            yield _file_change("/" + _text(path), one, two)


def _file_change(path: str, one: ListedFile | None, two: ListedFile | None) -> FileChange:
    before_bytes, after_bytes = one.size_bytes if one else None, two.size_bytes if two else None
    if one is None or two is None:
        kind: FileChangeKind = "added" if one is None else "removed"
        return FileChange(path=path, kind=kind, before_bytes=before_bytes, after_bytes=after_bytes)
    compared = {
        "kind": one.kind != two.kind,
        "content": one.sha256 != two.sha256,
        "link": one.link != two.link,
        "mode": one.mode != two.mode,
        "owner": one.owner != two.owner,
        "attributes": one.xattrs != two.xattrs,
    }
    what = tuple(what for what, other in compared.items() if other)
    return FileChange(path=path, kind="changed", what=what, before_bytes=before_bytes, after_bytes=after_bytes)


def _text(name: bytes) -> str:
    return printable(name.decode("utf-8", "backslashreplace"))

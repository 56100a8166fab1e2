"""Where what an image is made of comes from, as a definition says it: archives and other images."""

from __future__ import annotations

from dataclasses import field

from instar.frozen import dataclass
from instar.model.declaration import key

# A key reads as a paragraph: its type, its default, its words.
# fmt: off


@dataclass(frozen=True, kw_only=True, slots=True)
class Archive:
    """An apt repository of somebody else's, in the terms of deb822. Without ``uris`` it is one of the machine's own."""

    suites: tuple[str, ...] = field(metadata=key("Its suites, or a path that ends in `/` where it has none.",
        "suite of an archive", or_one=True, expected="a suite such as 'stable', or a list of them"))
    packages: tuple[str, ...] = field(metadata=key(
        "What is installed from it, and from nowhere else. What these need comes from `base`, unless only this archive "
        "has it.", "package", minimum=1, unique=True, expected="a list of packages, such as [nodejs]"))
    uris: tuple[str, ...] = field(default=(), metadata=key(
        "Where it is: by https, and without a password, which only this machine's apt knows (`/etc/apt/auth.conf.d`).",
        "address of an archive", or_one=True, expected="an address such as 'https://deb.example.org/debian'",
        default_about="this machine's own apt sources of these suites"))
    components: tuple[str, ...] = field(default=(), metadata=key("Its components.", "component", or_one=True,
        expected="a component such as 'main', or a list of them", default_about="`main`"))
    signed_by: str | None = field(default=None, metadata=key(
        "A file with the keys that it is signed by, ASCII-armoured or binary: these and no others.", "author's path",
        default_about="the keys of the machine's own sources"))
    as_of: str | None = field(default=None, metadata=key(
        "Of a snapshot: the day that it is of. Then it may have expired since, and may not be newer.", "day"))


@dataclass(frozen=True, kw_only=True, slots=True)
class OtherBase:
    """What an image stands on, where that is an image itself. One of the two is there."""

    oci: str | None = field(default=None, metadata=key(
        "An image in a registry (`HOST/PATH:TAG`, which `instar lock` turns into a digest, or `HOST/PATH@sha256:…`), "
        "in an archive beside the definition (`./FILE`), or one that the store has (`sha256:…`).", "image of others"))
    image: str | None = field(default=None, metadata=key(
        "Another definition, from this one's folder: its layers, baked by its own lock, are shared.",
        "other definition"))

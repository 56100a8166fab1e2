"""The step ``user``: who an instance's processes are.

A user that the base or a package has made is taken as it is, with its numbers and its group. One that is new gets lines
in passwd, group, shadow and gshadow; it cannot log in and has no home. A number that the definition gives is the number
or the step fails: files that belong to a number would otherwise change hands.
"""

from __future__ import annotations

from instar.bake.root import Root
from instar.bake.scratch import Room
from instar.frozen import dataclass
from instar.model.image_spec import NEW_UID, User

_DIGITS = 10
_NO_ID = (1 << 32) - 1  # leaves an owner as it is
_OWN_IDS = 65_535  # what an instance's user namespace has


@dataclass(frozen=True, slots=True)
class _Account:
    """A line of /etc/passwd or /etc/group: a name, its number, and of a user the number of its group."""

    name: str
    number: int
    group: int = 0


def bake_user(user: User, room: Room) -> None:
    """Find ``user``, or add it where it is missing; say its numbers in ``room.user``. Raises StepFailed, OSError."""
    with Root(room.root(), epoch=room.epoch) as root:
        users, groups = _accounts(root, "passwd", room), _accounts(root, "group", room)
        found = next((one for one in users if one.name == user.name), None)
        if found:
            room.user = _taken(user, found, groups, room)
        else:
            room.user = uid, gid = _new(user, users, groups, room)
            _add(root, user.name, uid, gid, _shadow(root, room))


def bake_format_1(name: str, number: int, room: Room) -> None:
    """Add the user where it is missing, as bake format 1 has it: its group has its name and number.

    What the image has already is refused unless it agrees. Raises StepFailed, OSError.
    """
    with Root(room.root(), epoch=room.epoch) as root:
        users, groups = _entries(root, "etc/passwd"), _entries(root, "etc/group")
        _require_agreement(users, groups, name, str(number), room)
        room.user = number, number
        _add(root, name, number, number, _shadow(root, room))


def _taken(user: User, found: _Account, groups: list[_Account], room: Room) -> tuple[int, int]:
    """Return the numbers of a user that is there."""
    if user.uid not in (None, found.number):
        raise room.failed(
            f"user '{user.name}' is there already, with the number {found.number}, not {user.uid}",
            hint=f"'user: {user.name}' takes it as it is (uid {found.number}, gid {found.group})",
        )
    if not 0 < found.number < _OWN_IDS or not 0 <= found.group < _OWN_IDS:
        cause = "is another name of root" if found.number == 0 else f"has the number {found.number}, which is too large"
        raise room.failed(f"user '{user.name}' {cause}", hint="choose another name for image.user")
    if user.gid not in (None, found.group) and not any(one.number == user.gid for one in groups):
        raise room.failed(
            f"there is no group with the number {user.gid}; the group of user '{user.name}' is {found.group}",
            hint=f"'user: {user.name}' takes the user with its group",
        )
    return found.number, found.group if user.gid is None else user.gid


def _new(user: User, users: list[_Account], groups: list[_Account], room: Room) -> tuple[int, int]:
    """Return the numbers of a user that is not there."""
    uid = NEW_UID if user.uid is None else user.uid
    if holder := next((one.name for one in users if one.number == uid), None):
        hint = f"'user: {holder}' takes that one; or give image.user another uid"
        raise room.failed(f"number {uid} is user '{holder}' already", hint=hint)
    named = next((one for one in groups if one.name == user.name), None)
    if user.gid is not None:
        if named and named.number != user.gid:
            hint = f"'gid: {named.number}' takes it; or choose another name for image.user"
            raise room.failed(f"group '{user.name}' is there already, with the number {named.number}", hint=hint)
        return uid, user.gid
    if named:
        return uid, named.number
    if holder := next((one.name for one in groups if one.number == uid), None):
        hint = f"'gid: {uid}' makes the user one of it; or give image.user another uid"
        raise room.failed(f"number {uid} is group '{holder}' already", hint=hint)
    return uid, uid


def _add(root: Root, name: str, uid: int, gid: int, shadow: int) -> None:
    """Add the lines of a user, and of its group where nobody has that number or that name."""
    root.make_directory("etc")
    groups = {field for entry in _entries(root, "etc/group") for field in (entry[0], entry[2])}
    lines = [
        ("etc/passwd", f"{name}:x:{uid}:{gid}:{name}:/nonexistent:/usr/sbin/nologin", 0o644, 0),
        ("etc/shadow", f"{name}:!:::::::", 0o640, shadow),
    ]
    if uid == gid or str(gid) not in groups:
        lines[1:1] = [("etc/group", f"{name}:x:{gid}:", 0o644, 0)]
        lines.append(("etc/gshadow", f"{name}:!::", 0o640, shadow))
    for path, line, mode, owner in lines:
        if not any(entry[0] == name for entry in _entries(root, path)):
            content = [*_lines(root, path), line, ""]
            data = "\n".join(content).encode("utf-8", "surrogateescape")
            root.put(path, [data], owner=(0, owner), mode=mode)


def _shadow(root: Root, room: Room) -> int:
    """Return the number of the group that may read passwords."""
    return next((_number(entry, room) for entry in _entries(root, "etc/group") if entry[0] == "shadow"), 0)


def _lines(root: Root, path: str) -> list[str]:
    """Return the lines of a file as libc reads them: nothing but a line feed ends one."""
    text = (root.find(path) or b"").decode("utf-8", "surrogateescape").removesuffix("\n")
    return text.split("\n") if text else []


def _entries(root: Root, path: str) -> list[list[str]]:
    """Return the fields of each line that names someone."""
    return [line.split(":") for line in _lines(root, path) if line.count(":") >= 2]


def _accounts(root: Root, file: str, room: Room) -> list[_Account]:
    """Return who is in /etc/passwd or /etc/group. Lines without numbers are somebody else's business."""
    found = []
    for entry in _entries(root, f"etc/{file}"):
        wanted = entry[2:4] if file == "passwd" else entry[2:3]
        numbers = [int(text) for text in wanted if text.isascii() and text.isdigit() and len(text) <= _DIGITS]
        if len(numbers) == len(wanted):
            found.append(_Account(entry[0], *numbers))
        elif entry[0] == "":
            raise room.failed(f"a line of /etc/{file} names nobody")
    return found


def _number(group: list[str], room: Room) -> int:
    number = group[2]
    if not number.isascii() or not number.isdigit() or len(number) > _DIGITS or int(number) >= _NO_ID:
        raise room.failed(f"group '{group[0]}' in /etc/group has the number '{number[:40]}', which is none")
    return int(number)


def _require_agreement(users: list[list[str]], groups: list[list[str]], name: str, number: str, room: Room) -> None:
    newer = "a lock of bake format 2 takes users that packages make: instar lock"
    named = next((entry[2] for entry in users if entry[0] == name), None)
    if named is not None and named != number:
        raise room.failed(f"user '{name}' is there already, with the number {named}, not {number}", hint=newer)
    if named is None and (holder := next((entry[0] for entry in users if entry[2] == number), None)):
        raise room.failed(f"number {number} is user '{holder}' already", hint="give image.user another uid")
    group = next((entry[2] for entry in groups if entry[0] == name), number)
    if group != number:
        raise room.failed(f"group '{name}' is there already, with the number {group}, not {number}", hint=newer)

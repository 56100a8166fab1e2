"""The step ``user``: who an instance's processes are, with the numbers that the definition gives.

The name gets lines in passwd, group, shadow and gshadow where it has none. It cannot log in and has no home. What the
base or a package has already is left as it is when it agrees, and refused when it doesn't: files that belong to a
number would otherwise change hands.
"""

from __future__ import annotations

from instar.bake.root import Root
from instar.bake.scratch import Room
from instar.model.definition import User

_DIGITS = 10
_NO_ID = (1 << 32) - 1  # leaves an owner as it is


def bake_user(user: User, room: Room) -> None:
    """Add ``user`` where it is missing. Raises StepFailed, OSError."""
    name, number = user.name, str(user.uid)
    with Root(room.root(), epoch=room.epoch) as root:
        users, groups = _entries(root, "etc/passwd"), _entries(root, "etc/group")
        _require_agreement(users, groups, user, room)
        shadow = next((_number(entry, room) for entry in groups if entry[0] == "shadow"), 0)
        root.make_directory("etc")
        for path, line, mode, gid in (
            ("etc/passwd", f"{name}:x:{number}:{number}:{name}:/nonexistent:/usr/sbin/nologin", 0o644, 0),
            ("etc/group", f"{name}:x:{number}:", 0o644, 0),
            ("etc/shadow", f"{name}:!:::::::", 0o640, shadow),
            ("etc/gshadow", f"{name}:!::", 0o640, shadow),
        ):
            if not any(entry[0] == name for entry in _entries(root, path)):
                content = [*_lines(root, path), line, ""]
                data = "\n".join(content).encode("utf-8", "surrogateescape")
                root.put(path, [data], owner=(0, gid), mode=mode)


def _lines(root: Root, path: str) -> list[str]:
    return (root.find(path) or b"").decode("utf-8", "surrogateescape").splitlines()


def _entries(root: Root, path: str) -> list[list[str]]:
    """Return the fields of each line that names someone."""
    return [line.split(":") for line in _lines(root, path) if line.count(":") >= 2]


def _number(group: list[str], room: Room) -> int:
    number = group[2]
    if not number.isascii() or not number.isdigit() or len(number) > _DIGITS or int(number) >= _NO_ID:
        raise room.failed(f"group '{group[0]}' in /etc/group has the number '{number[:40]}', which is none")
    return int(number)


def _require_agreement(users: list[list[str]], groups: list[list[str]], user: User, room: Room) -> None:
    named = next((entry[2] for entry in users if entry[0] == user.name), None)
    if named is not None and named != str(user.uid):
        raise room.failed(
            f"user '{user.name}' is there already, with the number {named}, not {user.uid}",
            hint=f"write 'user: {{name: {user.name}, uid: {named}}}', or choose another name",
        )
    if named is None and (holder := next((entry[0] for entry in users if entry[2] == str(user.uid)), None)):
        raise room.failed(f"number {user.uid} is user '{holder}' already", hint="give image.user another uid")
    group = next((entry[2] for entry in groups if entry[0] == user.name), str(user.uid))
    if group != str(user.uid):
        raise room.failed(
            f"group '{user.name}' is there already, with the number {group}, not {user.uid}",
            hint="choose another name for image.user",
        )

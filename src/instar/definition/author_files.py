"""The author's files, as root finds them in a folder that somebody else may write to: read, looked for and made.

Whoever owns the folder may put links, pipes and devices anywhere in it, at any moment. So a file is only ever reached
from the folder's descriptor, part by part and through no link; it is regular, and no more of it is read than it may
have. The folder itself is where the caller said that it is.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from instar.errors import DefinitionError, MachineFileError, Problem
from instar.frozen import dataclass

_STEP = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW


@dataclass(frozen=True, kw_only=True, slots=True)
class AuthorFile:
    """What a file held, and what it was like when that was read."""

    data: bytes
    folder: Path
    status: os.stat_result

    @property
    def may_be_quoted(self) -> bool:
        """Whether a message may repeat what it says: its caller, and the owner of its folder, could read it themselves.

        Root's word is not enough: of a file that is only root's, a message to whoever calls through sudo, or has put
        a second name of it into a folder of their own, tells no more than where it is wrong.
        """
        from instar import permissions

        return all(
            permissions.may_read(user, self.status, self.folder) for user in permissions.asking_users(self.folder)
        )

    @contextlib.contextmanager
    def discreet(self, file: str) -> Iterator[None]:
        """Keep what the file, called ``file``, says out of a DefinitionError where it may not be quoted."""
        try:
            yield
        except DefinitionError as error:
            if self.may_be_quoted:
                raise
            told = "something is wrong here; what it is would show what the file says, and only root may read it"
            places = [Problem(file=file, line=one.line, column=one.column, message=told) for one in error.problems]
            hint = f"let whoever has the folder, or calls this, read '{file}' (chmod, chown)"
            kind = MachineFileError if isinstance(error, MachineFileError) else DefinitionError
            raise kind(places[:1], hint=hint) from None


def read_author_file(folder: Path, name: str, limit_bytes: int) -> bytes:
    """Return what the regular file ``name`` (relative, without ``..``) below ``folder`` holds.

    No link is followed, so that nothing outside the folder can be read, whatever is swapped meanwhile. Raises OSError:
    ELOOP for a link, EINVAL for what is no regular file, EFBIG for more than ``limit_bytes``.
    """
    return open_author_file(folder, name, limit_bytes).data


def open_author_file(folder: Path, name: str, limit_bytes: int) -> AuthorFile:
    """Do as :func:`read_author_file`, and say too whether what was read may be repeated."""
    with _above(folder, name) as (at, last), os.fdopen(_open(last, name, at, 0), "rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "it is not a regular file", name)
        data = file.read(limit_bytes + 1)
    if len(data) > limit_bytes:
        raise OSError(errno.EFBIG, f"it is larger than {limit_bytes:,} bytes", name)
    return AuthorFile(data=data, folder=folder, status=status)


@contextlib.contextmanager
def reached_author_file(folder: Path, name: str) -> Iterator[Path]:
    """Give a path to the regular file ``name`` below ``folder``, whatever is put in its place meanwhile, to be read in
    parts. Raises OSError as :func:`read_author_file` does."""
    with _above(folder, name) as (at, last):
        descriptor = _open(last, name, at, 0)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "it is not a regular file", name)
        yield Path(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)


def has_author_file(folder: Path, name: str) -> bool:
    """Tell whether there is anything called ``name`` below ``folder``: a link too, wherever it leads."""
    try:
        with _above(folder, name) as (at, last):
            os.stat(last, dir_fd=at, follow_symlinks=False)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        return error.errno == errno.ELOOP  # reading it will say so
    return True


def why_unusable(folder: Path, name: str) -> str | None:
    """Say why ``name`` below ``folder`` could not be read as a file; None when it is one, whoever may read it."""
    try:
        with _above(folder, name) as (at, last):
            kind = stat.S_IFMT(os.stat(last, dir_fd=at, follow_symlinks=False).st_mode)
    except FileNotFoundError:
        return f"there is no '{name}' beside it"
    except OSError as error:
        return f"'{name}' cannot be read: {error.strerror}"
    if kind == stat.S_IFREG:
        return None
    cause = "it is a link; put a copy of the file in its place" if kind == stat.S_IFLNK else "it is not a regular file"
    return f"'{name}' cannot be read: {cause}"


def write_author_file(folder: Path, name: str, data: bytes) -> None:
    """Make the new file ``name`` below ``folder``, and the folders on the way; under sudo, for who has ``folder``.

    Raises OSError: EEXIST when there is anything of that name, ELOOP for a link on the way.
    """
    with _above(folder, name, make=True) as (at, last), os.fdopen(os.open(last, _NEW, 0o644, dir_fd=at), "wb") as file:
        _give_to_owner(file.fileno(), at)
        file.write(data)


@contextlib.contextmanager
def _above(folder: Path, name: str, *, make: bool = False) -> Iterator[tuple[int, str]]:
    """Give a descriptor of the folder that ``name`` is in, and its name there."""
    *folders, last = PurePosixPath(name).parts or (".",)
    at = os.open(folder, os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECTORY)
    try:
        for part in folders:
            if make:
                _make(part, at)
            below = _open(part, name, at, os.O_DIRECTORY)
            os.close(at)
            at = below
        yield at, last
    finally:
        os.close(at)


def _open(part: str, name: str, at: int, kind: int) -> int:
    try:
        return os.open(part, _STEP | kind, dir_fd=at)
    except OSError as error:
        link = error.errno in (errno.ELOOP, errno.ENOTDIR) and stat.S_ISLNK(os.lstat(part, dir_fd=at).st_mode)
        if link:
            raise OSError(errno.ELOOP, "it is a link, or leads through one", name) from error
        if error.errno == errno.ENXIO:  # a socket
            raise OSError(errno.EINVAL, "it is not a regular file", name) from error
        raise


def _make(part: str, at: int) -> None:
    with contextlib.suppress(FileExistsError):
        os.mkdir(part, 0o755, dir_fd=at)
        made = _open(part, part, at, os.O_DIRECTORY)
        try:
            _give_to_owner(made, at)
        finally:
            os.close(made)


def _give_to_owner(descriptor: int, folder: int) -> None:
    if os.geteuid() == 0 and "SUDO_UID" in os.environ:
        owner = os.fstat(folder)
        os.fchown(descriptor, owner.st_uid, owner.st_gid)

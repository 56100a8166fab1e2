"""``instar secrets``, as a process with an editor of its own: what it writes, and that it leaves nothing in clear."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Mapping
from pathlib import Path

import pytest

from instar.operations.age_files import find_identities, public_keys

VALUE = f"s3cret-{uuid.uuid4().hex}"


class Author:
    """Somebody with a folder, a home, and an editor that is a line for the shell, with the file's name in $1."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.home = folder, folder / "home"
        self.environ = {"HOME": str(self.home), "INSTAR_HOME": str(folder / "state"), "PATH": os.environ["PATH"]}

    def command(self, *words: str, editor: str = "false") -> tuple[list[str], Mapping[str, str]]:
        script = self.folder / "editor.sh"
        script.write_text(f"#!/bin/sh\n{editor}\n")
        script.chmod(0o755)
        return [sys.executable, "-m", "instar", "secrets", *words], {**self.environ, "EDITOR": f"'{script}'"}

    def run(self, *words: str, editor: str = "false", stdin: str = "") -> subprocess.CompletedProcess[str]:
        argv, env = self.command(*words, editor=editor)
        return subprocess.run(
            argv, env=env, cwd=self.folder, input=stdin, capture_output=True, text=True, check=False, timeout=60
        )

    def value(self) -> str:
        """Return what the editor is shown."""
        return self.run("edit", "t.age", editor=f'cp "$1" {self.folder}/shown').stdout and self.shown()

    def shown(self) -> str:
        return (self.folder / "shown").read_text()


@pytest.fixture
def author(tmp_path: Path) -> Author:
    made = Author(tmp_path)
    assert made.run("key").stdout.startswith("age1")
    return made


def in_memory() -> list[str]:
    return [path for path in map(str, Path("/dev/shm").glob("instar-secret-*/*")) if VALUE in Path(path).read_text()]


def test_a_secret_is_written_changed_and_left_alone(author: Author) -> None:
    made = author.run("edit", "t.age", editor=f'stat -c %a%F "$1" > mode; echo "$1" > name; echo {VALUE} > "$1"')
    assert (made.returncode, made.stdout) == (0, "encrypted t.age\n"), made.stderr
    assert (author.folder / "mode").read_text().startswith("600")
    name = (author.folder / "name").read_text().strip()
    assert name.startswith("/dev/shm/") and name.endswith("/t") and not Path(name).exists()
    data = (author.folder / "t.age").read_bytes()
    assert VALUE.encode() not in data
    same = author.run("edit", "t.age", editor='touch "$1"')
    assert (same.returncode, same.stdout) == (0, "unchanged: t.age is as it was\n")
    assert (author.folder / "t.age").read_bytes() == data
    by_renaming = author.run("edit", "t.age", editor='sed -i s/^/another-/ "$1"')
    assert by_renaming.returncode == 0 and author.value() == f"another-{VALUE}\n"
    assert in_memory() == []


@pytest.mark.parametrize(
    ("editor", "told"),
    [
        ('echo x > "$1"; exit 3', "ended with 3; nothing is written"),
        ('rm "$1"', "nothing is written"),
        (': > "$1"', "it is empty"),
        ('head -c 1100000 /dev/zero > "$1"', "it is larger than 1,048,576 bytes"),
        ("date > t.age", "somebody else has changed it meanwhile"),
    ],
)
def test_an_editor_that_fails_changes_nothing(author: Author, editor: str, told: str) -> None:
    assert author.run("edit", "t.age", editor=f'echo {VALUE} > "$1"').returncode == 0
    before = (author.folder / "t.age").read_bytes()
    failed = author.run("edit", "t.age", editor=f"{editor}" if "t.age" not in editor else f'{editor}; echo y > "$1"')
    assert failed.returncode == 1 and told in failed.stderr, failed.stderr
    assert VALUE not in failed.stderr and in_memory() == []
    if "meanwhile" not in told:
        assert (author.folder / "t.age").read_bytes() == before


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_what_was_in_memory_is_gone_when_it_is_killed(author: Author, number: signal.Signals) -> None:
    """By SIGKILL, with the next call."""
    fifo = author.folder / "open"
    os.mkfifo(fifo)
    argv, env = author.command("edit", "t.age", editor=f'echo {VALUE} > "$1"; echo $$ > {fifo}; exec sleep 60')
    process = subprocess.Popen(argv, env=env, cwd=author.folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    editor = int(fifo.read_text())
    assert len(in_memory()) == 1
    process.send_signal(number)
    process.wait(30)
    if number == signal.SIGKILL:
        os.kill(editor, signal.SIGKILL)
        assert len(in_memory()) == 1
        author.run("edit", "t.age", editor="true")
    assert in_memory() == []
    assert not (author.folder / "t.age").exists()


def test_a_file_is_encrypted_for_those_that_are_named_and_again_for_who_comes(author: Author, tmp_path: Path) -> None:
    (tmp_path / "token").write_text(VALUE)
    made = author.run("encrypt", "token")
    assert made.returncode == 0 and "remove it, or keep it out of git" in made.stderr, made.stderr
    assert author.run("encrypt", "token").returncode == 1, "what is there is not written over"
    piped = author.run("encrypt", "-", "-o", "t.age", stdin=VALUE)
    assert piped.returncode == 0 and author.value() == VALUE
    other = Author(tmp_path)
    other.environ = {**author.environ, "HOME": str(tmp_path / "other")}
    theirs = other.run("key").stdout
    refused = other.run("edit", "t.age", editor="true")
    assert refused.returncode == 1 and "it is for other keys than the ones here" in refused.stderr
    mine = public_keys(find_identities(None, author.environ))[0]
    (tmp_path / "age-recipients").write_text(f"{mine}\n{theirs}")
    assert author.run("encrypt", "t.age").stdout == "encrypted t.age\n"
    assert other.value() == VALUE


def test_what_cannot_be_used_is_told(author: Author, tmp_path: Path) -> None:
    (tmp_path / "link.age").symlink_to("/etc/shadow")
    (tmp_path / "empty").touch()
    for words, status, told in (
        (("edit", "link.age"), 64, "it is a link"),
        (("edit", "nowhere/t.age"), 1, "cannot write 'nowhere/t.age': No such file or directory"),
        (("encrypt", "gone"), 64, "cannot read 'gone': No such file"),
        (("encrypt", "-"), 64, "nothing says where to"),
        (("encrypt", "empty"), 1, "cannot encrypt 'empty': it is empty"),
        (("edit", "editor.sh"), 1, "it is no age file"),
    ):
        failed = author.run(*words, editor='echo x > "$1"')
        assert failed.returncode == status and told in failed.stderr, (words, failed.stderr)
    argv, env = author.command("edit", "t.age")
    for editor, status, told in (("no-such-editor", 69, "it is not installed"), ("'", 64, "cannot use $EDITOR")):
        found = subprocess.run(argv, env={**env, "EDITOR": editor}, cwd=tmp_path, capture_output=True, check=False)
        assert found.returncode == status and told in found.stderr.decode()

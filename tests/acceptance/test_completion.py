"""A shell completes environments, releases and instances, and one command installs that."""

from __future__ import annotations

import os
import socket
import subprocess
from pathlib import Path

import pytest
from project import INSTAR, Project
from typist import command_at_terminal

BASH = """\
. {script}
COMP_WORDS=({words}) COMP_CWORD={last}
_instar_completion instar
printf '%s\\n' "${{COMPREPLY[@]}}"
"""

DEFINITION = """\
name: shop
image: {base: debian:bookworm}
service: {command: [./shop], port: 80}
environments: {dev: {listen: ':8080'}, production: {listen: ':8090'}}
"""


def asked(project: Project, words: str, folder: Path | None = None) -> list[str]:
    """Return what is offered for the last of ``words``, as bash asks for it."""
    environ = {**project.environ, "_INSTAR_COMPLETE": "bash_complete"}
    environ |= {"COMP_WORDS": words, "COMP_CWORD": str(len(words.split(" ")) - 1)}
    where = folder or project.folder
    done = subprocess.run([INSTAR], env=environ, cwd=where, capture_output=True, text=True, check=True, timeout=60)
    assert done.stderr == ""
    return [line.partition(",")[2] for line in done.stdout.splitlines() if line]


@pytest.mark.root
def test_environments_releases_and_instances_are_offered(project: Project, tmp_path: Path) -> None:
    assert asked(project, "instar deploy ") == ["dev", "production"]
    project.instar("deploy", "dev")
    project.set_version("2")
    project.instar("deploy", "dev")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    assert asked(project, "instar deploy d") == ["dev"]
    assert asked(project, "instar status he", elsewhere) == ["hello/dev"]
    assert asked(project, "instar rollback dev --to ") == ["1"]
    assert asked(project, "instar pin hello/dev ", elsewhere) == ["2", "1"]
    (running,) = [one for one in project.instance_ids() if "hello-dev-2-" in one]
    assert running in asked(project, "instar taint dev ")
    assert asked(project, f"instar drift dev {running[:-1]}") == [running]
    written = project.folder / "instar.yaml"
    whole = written.read_text()
    written.write_text("name: [")
    assert asked(project, "instar status ") == ["hello/dev"]
    written.write_text(whole)
    (project.home / "ledger/instar.db").rename(tmp_path / "away")
    assert asked(project, "instar status hello/") == []
    (tmp_path / "away").rename(project.home / "ledger/instar.db")


def test_where_there_is_nothing_nothing_is_made(tmp_path: Path) -> None:
    nothing = Project(folder=tmp_path, home=tmp_path / "home", ports={})
    assert asked(nothing, "instar status ") == asked(nothing, "instar shell x ") == []
    assert asked(nothing, "instar dep") == ["deploy"]
    assert list(tmp_path.iterdir()) == []


def test_it_is_installed_by_one_command_and_once(tmp_path: Path) -> None:
    (tmp_path / ".bashrc").write_text("alias ll='ls -l'")  # without a line's end
    environ = {"PATH": f"{INSTAR.parent}:{os.environ['PATH']}", "HOME": str(tmp_path), "SHELL": "/bin/bash"}

    def run(*words: str | Path) -> str:
        return subprocess.run(words, env=environ, cwd=tmp_path, capture_output=True, text=True, check=True).stdout

    for _ in range(2):
        run(INSTAR, "completion", "--install")
    alias, line = (tmp_path / ".bashrc").read_text().splitlines()
    assert alias == "alias ll='ls -l'" and "completion.bash" in line
    program = BASH.format(script=tmp_path / ".bashrc", words="instar roll", last=1)
    assert run("bash", "--norc", "-c", program).split() == ["rollback", "rollout"]
    run(INSTAR, "completion", "zsh", "--install")
    run(INSTAR, "completion", "fish", "--install")
    assert "completion.zsh" in (tmp_path / ".zshrc").read_text()
    assert (tmp_path / ".config/fish/completions/instar.fish").exists()


def installed(home: Path, shell: str) -> dict[str, str]:
    """Install it for a shell whose files are in ``home``; return that one's environment."""
    environ = {"PATH": f"{INSTAR.parent}:{os.environ['PATH']}", "HOME": str(home), "TERM": "dumb"}
    subprocess.run([INSTAR, "completion", shell, "--install"], env=environ, cwd=home, check=True, capture_output=True)
    return environ


def test_fish_completes_what_is_typed(tmp_path: Path) -> None:
    environ = installed(tmp_path, "fish")
    (tmp_path / "instar.yaml").write_text(DEFINITION)

    def offered(typed: str) -> list[str]:
        words = ["fish", "--command", f"complete --do-complete '{typed}'"]
        done = subprocess.run(words, env=environ, cwd=tmp_path, capture_output=True, text=True, check=True, timeout=60)
        return [line.partition("\t")[0] for line in done.stdout.splitlines()]

    assert offered("instar roll") == ["rollback", "rollout"]
    assert offered("instar deploy ") == ["dev", "production"]
    assert offered("instar deploy pro") == ["production"]
    assert "--plan" in offered("instar deploy --pl")


def test_zsh_completes_what_is_typed(tmp_path: Path) -> None:
    """At a terminal, as whoever types there has it: what is offered for a word, and one that is the only one."""
    environ = installed(tmp_path, "zsh")
    with (tmp_path / ".zshrc").open("a") as file:
        file.write("PROMPT='ready> '; unsetopt zle_bracketed_paste; setopt no_beep\n")
    (tmp_path / "instar.yaml").write_text(DEFINITION)
    with command_at_terminal(["zsh", "-d", "-i"], tmp_path, environ) as typist:
        typist.until("ready> ", timeout_s=60)
        typist.type("instar roll\t")
        for word in ("rollback", "rollout"):
            typist.until(word, timeout_s=60)
        typist.type("\x15instar deploy pro\t")  # ^U: another line
        typist.until("deploy production", timeout_s=60)
        typist.type("\x15exit\n")
        typist.end()


def test_a_home_with_quotes_in_its_name_is_read_as_a_name(tmp_path: Path) -> None:
    home = tmp_path / "o'hara'; touch broken; '\n$(touch broken)"
    home.mkdir()
    environ = {"PATH": os.environ["PATH"], "HOME": str(home), "SHELL": "/bin/bash"}
    for _ in range(2):
        subprocess.run([INSTAR, "completion", "--install"], env=environ, cwd=tmp_path, check=True, capture_output=True)
    words = ["bash", "--norc", "-c", '. "$HOME/.bashrc"; type -t _instar_completion']
    read = subprocess.run(words, env=environ, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert (read.stdout, read.stderr) == ("function\n", "")
    assert (home / ".bashrc").read_text().count("instar completion --install") == 1
    assert not (tmp_path / "broken").exists()


@pytest.mark.parametrize("kind", ["fifo", "link", "nested", "large"])
def test_a_definition_of_an_enemy_s_holds_nothing_up(tmp_path: Path, kind: str) -> None:
    beside = tmp_path / "instar.yaml"
    if kind == "fifo":
        os.mkfifo(beside)
    elif kind == "link":
        beside.symlink_to("/dev/zero")
    else:
        beside.write_text("name: x\nimage: " + ("[" * 200_000 if kind == "nested" else "x" * (64 << 20)))
    nothing = Project(folder=tmp_path, home=tmp_path / "home", ports={})
    assert asked(nothing, "instar status ") == asked(nothing, "instar rollback x --to ") == []


def test_a_ledger_that_does_not_answer_holds_nothing_up(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        address = f"postgresql://me@127.0.0.1:{deaf.getsockname()[1]}/x?connect_timeout=600"
        environ = {**os.environ, "INSTAR_LEDGER": address, "INSTAR_HOME": str(tmp_path), "COMP_CWORD": "2"}
        environ |= {"_INSTAR_COMPLETE": "bash_complete", "COMP_WORDS": "instar status "}
        done = subprocess.run([INSTAR], env=environ, cwd=tmp_path, capture_output=True, check=True, timeout=60)
    assert (done.stdout, done.stderr) == (b"", b"")


def test_a_shell_that_is_none_of_these_is_asked_for(tmp_path: Path) -> None:
    environ = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "SHELL": "/usr/bin/tcsh"}
    done = subprocess.run([INSTAR, "completion"], env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 64 and "bash, zsh, fish" in done.stderr

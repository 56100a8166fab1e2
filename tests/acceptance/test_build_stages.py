"""A compiler in a stage: the image has what it made, and nothing of it. (Half a minute, for gcc's seventy packages.)"""

from __future__ import annotations

from pathlib import Path

import pytest
from leftovers import remove_state
from project import Project, answers, wait_for

from free_ports import free_port

pytestmark = [pytest.mark.root, pytest.mark.long]

DEFINITION = """\
name: compiled
build:
  unused:
    base: debian:bookworm
    packages: [g++]
  compile:
    base: debian:bookworm
    packages: [gcc, libc6-dev]
    files: [{from: src, to: /src}]
    env: {CFLAGS: -O2 -Wall -Werror}
    run:
      - mkdir /out
      - gcc $CFLAGS -o /out/server /src/server.c
image:
  base: debian:bookworm
  files:
    - {from: build.compile, path: /out, to: /srv}
    - {from: page, to: /srv/page}
service:
  command: [/srv/server, /srv/page]
  port: 8080
environments:
  dev: {listen: '127.0.0.1:PORT'}
"""
COMPILED = ["build.compile files", "build.compile run 1", "build.compile run 2"]
SERVER = r"""
#include <arpa/inet.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

int main(int count, char **words) {
  char page[1000], head[200], request[4096];
  int file = count > 1 ? open(words[1], O_RDONLY) : -1, on = 1;
  ssize_t size = read(file, page, sizeof page);
  struct sockaddr_in where = {.sin_family = AF_INET, .sin_port = htons(8080)};
  int listening = socket(AF_INET, SOCK_STREAM, 0);
  setsockopt(listening, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (size < 0 || bind(listening, (struct sockaddr *)&where, sizeof where) || listen(listening, 64)) return 1;
  for (;;) {
    int client = accept(listening, NULL, NULL);
    if (client < 0) continue;
    if (read(client, request, sizeof request) > 0) {
      int length = sprintf(head, "HTTP/1.1 200 OK\r\nContent-Length: %zd\r\nConnection: close\r\n\r\n", size);
      if (write(client, head, length) < 0 || write(client, page, size) < 0) perror("write");
    }
    close(client);
  }
}
"""


def write_project(folder: Path, home: Path) -> Project:
    port = free_port()
    (folder / "src").mkdir(parents=True)
    (folder / "src/server.c").write_text(SERVER)
    (folder / "page").write_text("compiled elsewhere\n")
    (folder / "instar.yaml").write_text(DEFINITION.replace("PORT", str(port)))
    return Project(folder=folder, home=home, ports={"dev": port})


def ran(project: Project) -> list[str]:
    """Bake, and return the steps that were run."""
    told = project.instar("bake", "--explain", timeout_s=600).err
    return [line.split("'")[1].partition(": ")[0] for line in told.splitlines() if "' runs: " in line]


def test_what_a_compiler_made_is_served_and_the_compiler_stays_behind(tmp_path: Path) -> None:
    project = write_project(tmp_path / "compiled", tmp_path / "home")
    try:
        warned = project.instar("validate").err
        assert "instar.yaml:3:3: stage 'unused' is not baked" in warned
        project.instar("deploy", "dev", timeout_s=900)
        wait_for(lambda: answers(project), "it did not answer")
        assert project.get() == "compiled elsewhere\n"
        (instance,) = project.instance_ids()
        inside = Path(f"/proc/{project.pid(instance)}/root")
        assert (inside / "srv/server").stat().st_mode & 0o777 == 0o755
        assert not [path for path in ("usr/bin/gcc", "out", "src", "usr/include/stdio.h") if (inside / path).exists()]
        first = project.json("bake")

        project.edit("int main", "/* the same to a compiler */\nint main", "src/server.c")
        assert ran(project) == COMPILED
        assert project.json("bake")["digest"] == first["digest"]

        project.instar("gc")
        project.edit("elsewhere", "with care", "page")
        assert ran(project) == ["files"]
        project.edit("200 OK", "200 Fine", "src/server.c")
        assert ran(project) == COMPILED
        project.instar("deploy", "dev")
        wait_for(lambda: project.get() == "compiled with care\n", "it did not answer anew")
        project.instar("bake", "--check", timeout_s=900)
        project.edit("int main", "int main is", "src/server.c")
        failed = project.try_instar("bake")
        assert failed.status == 1
        assert (
            "cannot bake 'build.compile run 2: gcc $CFLAGS -o /out/server /src/server.c': exit status 1" in failed.err
        )
        assert "instar.yaml:13:9" in failed.err
        assert "server.c:" in failed.err
    finally:
        project.destroy_all()
        remove_state(project.home)

"""A static program on nothing: it deploys, answers, is looked into, and is what it was baked as."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from project import INSTAR, Project

from free_ports import free_port

pytestmark = pytest.mark.root
SERVER = """
#include <arpa/inet.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
int main(int count, char **words) {
  if (count > 1) return strcmp(words[1], "task") != 0;
  struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(8000)};
  int one = 1, server = socket(AF_INET, SOCK_STREAM, 0);
  char asked[4096], answer[256];
  signal(SIGPIPE, SIG_IGN);
  setsockopt(server, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
  if (bind(server, (void *)&at, sizeof at) || listen(server, 64)) return 1;
  const char *word = getenv("GREETING") ? getenv("GREETING") : "none";
  strcpy(answer, "HTTP/1.0 200 OK\\r\\n\\r\\n");
  strncat(answer, word, 100);
  for (;;) {
    int client = accept(server, 0, 0);
    if (client < 0) continue;
    if (read(client, asked, sizeof asked) > 0 && write(client, answer, strlen(answer)) < 0) return 1;
    close(client);
  }
}
"""
DEFINITION = """
name: tiny
image:
  base: scratch
  files: [{from: server, to: /server}]
service:
  command: [/server]
  port: 8000
  health: {path: /}
  before: [{command: [/server, task]}]
environments:
  dev: {listen: '127.0.0.1:PORT', config: {GREETING: hello}}
"""


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    port = free_port()
    folder = tmp_path / "tiny"
    folder.mkdir()
    (folder / "instar.yaml").write_text(DEFINITION.replace("PORT", str(port)))
    compile_ = ["gcc", "-Os", "-static", "-s", "-x", "c", "-", "-o", folder / "server"]
    subprocess.run(compile_, input=SERVER.encode(), check=True)
    made = Project(folder=folder, home=tmp_path / "home", ports={"dev": port}, command=(INSTAR,))
    yield made
    made.destroy_all()


def test_a_static_program_on_nothing(project: Project) -> None:
    project.instar("deploy", "dev")
    assert project.get(path="/") == "hello"
    binary = (project.folder / "server").stat().st_size
    layers = project.json("bake")["layers"]
    assert [one["step"] for one in layers] == ["user", "files"] and sum(one["size"] for one in layers) < binary + 4096
    assert project.try_instar("drift", "dev").status == 0
    assert project.try_instar("shell", "dev", "--why", "x", "--command", "true").status != 0
    shown = project.instar("shell", "dev", "--why", "x", "--toolbox", "--command", "id; ls /").out
    assert "10001(app)" in shown and "server" in shown
    project.edit("GREETING: hello", "GREETING: again")
    project.instar("deploy", "dev")
    assert project.get(path="/") == "again"
    project.instar("rollback", "dev")
    assert project.get(path="/") == "hello"
    assert "the same bytes" in project.instar("bake", "--check").err

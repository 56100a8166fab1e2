"""What a check of drift finds although no process has it for long, or has its code or its name in the instance."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tiny_world import TinyWorld

from instar.host.kernel import namespaces
from instar.model.definition import Health, Stop
from instar.model.drift import Finding
from instar.model.release import Instance, Release
from instar.providers.base import Subject

pytestmark = pytest.mark.root

SOURCE = r"""
#define _GNU_SOURCE
#include <fcntl.h>
#include <arpa/inet.h>
#include <mqueue.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static int handed_in(void) {  /* wait for a descriptor from outside */
  struct sockaddr_un name = {.sun_family = AF_UNIX, .sun_path = "\0instar-test"};
  int there = socket(AF_UNIX, SOCK_STREAM, 0), one;
  char data[1], room[CMSG_SPACE(sizeof(int))];
  struct iovec part = {data, 1};
  struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = room, .msg_controllen = sizeof room};
  bind(there, (void *)&name, sizeof(sa_family_t) + 12);
  listen(there, 1);
  puts("listening"), fflush(stdout);
  one = accept(there, 0, 0);
  recvmsg(one, &message, 0);
  memcpy(&there, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof there);
  return there;
}

static int listening(int port) {
  struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port)};
  int there = socket(AF_INET, SOCK_STREAM, 0);
  bind(there, (void *)&to, sizeof to);
  listen(there, 1);
  return there;
}

int main(int count, char **words) {
  const char *how = words[1];
  if (!strcmp(how, "code")) mmap(0, 4096, 7, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (!strcmp(how, "file")) handed_in();
  if (!strcmp(how, "folder")) fchdir(handed_in()), close(5), close(6), close(7);
  if (!strcmp(how, "honest")) {  /* all that is no file system's, and files of its own */
    struct mq_attr queue = {.mq_maxmsg = 1, .mq_msgsize = 1};
    mq_open("/queue", O_CREAT | O_RDWR, 0600, &queue), memfd_create("x", 0), pipe((int[2]){0});
    open("/dev/null", O_RDWR), open("/dev/ptmx", O_RDWR), open("/tmp/x", O_CREAT | O_RDWR, 0600);
    open("/dev/shm/x", O_CREAT | O_RDWR, 0600), open("/etc/hosts", O_RDONLY), open("/proc/self/status", O_RDONLY);
    open("/sys/kernel", O_RDONLY), open("/dev/mqueue", O_RDONLY), chdir("/tmp");
  }
  puts("ready"), fflush(stdout);
  for (int at = 0, there = -1; ; at++) {
    if (strcmp(how, "code") && strcmp(how, "port")) pause();
    if (!strcmp(how, "port")) close(there), there = listening(20000 + at % 20000);
    if (!strcmp(how, "code") && fork()) _exit(0);
    usleep(20000);
  }
}
"""


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("moving")
    (folder / "moving.c").write_text(SOURCE)
    (folder / "tree/srv").mkdir(parents=True)
    subprocess.run(["gcc", "-static", "-w", "-o", folder / "tree/srv/moving", folder / "moving.c"], check=True)
    return folder / "tree"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TinyWorld]:
    made = TinyWorld(tmp_path_factory.mktemp("home"))
    yield made
    made.close()


@pytest.fixture
def start(world: TinyWorld, program: Path) -> Iterator[Starter]:
    yield Starter(world, program)
    world.sweep()


class Starter:
    def __init__(self, world: TinyWorld, program: Path) -> None:
        self._world = world
        self._image = world.image_of(world.home / "tree", program)

    def __call__(self, how: str, says: str = "ready") -> tuple[Instance, Release]:
        """Run the program, under a shell that stays, until it has said something."""
        command = ["sh", "-c", f"/srv/moving {how}; while :; do sleep 1000; done"]
        health = Health(kind="command", command=("true",), interval_ms=100)
        release = self._world.release(command, stop=Stop(grace_ms=100), health=health)
        instance = self._world.run(release, image=self._image)
        self._world.printed(instance, says)
        return instance, release

    def findings(self, instance: Instance, release: Release) -> tuple[Finding, ...]:
        subject = instance
        return self._world.runtime.inspect([Subject(instance=subject, release=release, image=self._image)])

    def hand_in(self, instance: Instance, path: str) -> None:
        """Send an open file or folder of this machine's to the program."""
        process = self._world.process(instance)
        assert process is not None

        def send() -> None:
            file = os.open(path, os.O_RDONLY)
            with socket.socket(socket.AF_UNIX) as client:
                client.connect("\0instar-test")
                socket.send_fds(client, [b"x"], [file])
            os.close(file)

        namespaces.inside(Path(f"/proc/{process.pid}/ns/net"), send)
        self._world.printed(instance, "ready")


def test_code_is_found_in_processes_of_which_none_lives_for_long(start: Starter) -> None:
    (found,) = start.findings(*start("code"))
    assert (found.kind, found.observed) == ("code", "runs memory that is no file")


def test_a_listener_that_moves_all_the_time_is_found(start: Starter) -> None:
    (found,) = start.findings(*start("port"))
    assert found.kind == "listener" and found.path.startswith("tcp 0.0.0.0:2")


@pytest.mark.parametrize(("how", "path"), [("file", "/etc/passwd"), ("folder", "/etc")])
def test_what_is_this_machine_s_is_found_in_the_hands_of_a_process(start: Starter, how: str, path: str) -> None:
    instance, release = start(how, says="listening")
    assert start.findings(instance, release) == ()
    start.hand_in(instance, path)
    (found,) = start.findings(instance, release)
    assert found.kind == "root" and found.path.endswith("(moving)")
    assert found.observed == ("has /etc/passwd open" if how == "file" else "works in /etc")


def test_what_a_process_may_have_open_is_not(start: Starter) -> None:
    assert start.findings(*start("honest")) == ()

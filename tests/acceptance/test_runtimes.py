"""Runtimes that size themselves by the machine: inside, they find the instance's limits and not the machine's."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from leftovers import remove_state
from project import Project, wait_for

pytestmark = [pytest.mark.root, pytest.mark.long]

DEFINITION = """\
name: runtimes
image:
  base: debian:bookworm
  packages: [default-jre-headless, nodejs]
service:
  command:
    - sh
    - -c
    - >-
      java -XX:+PrintFlagsFinal -version 2>&1 | grep -w -E 'MaxHeapSize|ParallelGCThreads';
      java -Xlog:os+container=trace -version | grep -i -E 'active processor count|memory limit' | tail -n 2;
      node -p '"constrained " + process.constrainedMemory()';
      node -p '"heap " + v8.getHeapStatistics().heap_size_limit';
      echo end; exec sleep 100000
  limits: {memory: 512M, cpus: 1}
  jit: true
environments:
  dev: {}
"""
LIMIT_BYTES = 512 << 20


def test_a_jvm_and_node_size_themselves_by_the_instances_limits(tmp_path: Path) -> None:
    folder = tmp_path / "runtimes"
    folder.mkdir()
    (folder / "instar.yaml").write_text(DEFINITION)
    project = Project(folder=folder, home=tmp_path / "home", ports={})
    try:
        project.instar("deploy", "dev", timeout_s=900)
        wait_for(lambda: " end" in project.instar("logs", "dev").out, "it did not print its sizes", timeout_s=60)
        said = project.instar("logs", "dev").out
    finally:
        project.destroy_all()
        remove_state(project.home)
    assert _number(r"MaxHeapSize\s+= (\d+)", said) == LIMIT_BYTES // 4, "a quarter of the instance's"
    assert _number(r"ParallelGCThreads\s+= (\d+)", said) <= 1, "as one processor has it"
    assert _number(r"constrained (\d+)", said) == LIMIT_BYTES
    assert 0 < _number(r"heap (\d+)", said) <= LIMIT_BYTES


def _number(pattern: str, text: str) -> int:
    found = re.search(pattern, text)
    assert found is not None, text
    return int(found[1])

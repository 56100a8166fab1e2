"""The schema in an editor, as the help of ``instar schema`` has it: the language server that editors start, by its
protocol, completes keys with what they mean and marks mistakes where they are.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from author import Author

pytestmark = pytest.mark.long

SERVER = "yaml-language-server@1.15.0"
EXAMPLES = sorted((Path(__file__).resolve().parents[2] / "examples").glob("*/instar.yaml"))
WRONG = """\
name: shop
image: {base: debian:bookworm}
service:
  command: [./shop]
  limts: {}
  protocol: udp
  \

"""


class Editor:
    """A language server, and what it says of files in a folder."""

    def __init__(self, process: subprocess.Popen[bytes], folder: Path) -> None:
        self._process = process
        self._folder = folder
        self._number = 0
        self._marked: dict[str, list[tuple[int, str]]] = {}
        capable = {"textDocument": {"completion": {}}}
        root = {"uri": folder.as_uri(), "name": "project"}
        self.ask(
            "initialize", processId=os.getpid(), rootUri=root["uri"], capabilities=capable, workspaceFolders=[root]
        )
        self._send(method="initialized", params={})

    def open(self, name: str, text: str) -> list[tuple[int, str]]:
        """Open a file; return what is marked in it, as lines and texts."""
        uri = (self._folder / name).as_uri()
        self._send(
            method="textDocument/didOpen",
            params={"textDocument": {"uri": uri, "languageId": "yaml", "version": 1, "text": text}},
        )
        while uri not in self._marked:
            self._read()
        return self._marked[uri]

    def completed(self, name: str, line: int, column: int) -> dict[str, str]:
        """Return the keys that are offered at a place, and what is said of each."""
        place = {"line": line, "character": column}
        found = self.ask(
            "textDocument/completion", textDocument={"uri": (self._folder / name).as_uri()}, position=place
        )
        items = found["items"] if isinstance(found, dict) else found
        return {one["label"]: str(one.get("documentation")) for one in items}

    def ask(self, method: str, **params: object) -> Any:
        self._number += 1
        self._send(id=self._number, method=method, params=params)
        while (message := self._read()).get("id") != self._number or "method" in message:
            pass
        return message["result"]

    def _send(self, **message: object) -> None:
        data, out = json.dumps({"jsonrpc": "2.0", **message}).encode(), self._process.stdin
        assert out is not None
        out.write(b"Content-Length: %d\r\n\r\n" % len(data) + data)
        out.flush()

    def _read(self) -> dict[str, Any]:
        """Return the next message; what the server asks is answered, and what it marks is kept."""
        source, size = self._process.stdout, 0
        assert source is not None
        while (line := source.readline()) != b"\r\n":
            assert line, "the language server has ended"
            name, _, value = line.partition(b":")
            size = int(value) if name.lower() == b"content-length" else size
        message: dict[str, Any] = json.loads(source.read(size))
        if "method" in message and "id" in message:
            settings = message["method"] == "workspace/configuration"
            self._send(id=message["id"], result=[{}] * len(message["params"]["items"]) if settings else None)
        if message.get("method") == "textDocument/publishDiagnostics":
            params = message["params"]
            self._marked[params["uri"]] = [
                (one["range"]["start"]["line"], one["message"]) for one in params["diagnostics"]
            ]
        return message


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("server")
    words = ["npm", "install", "--silent", "--no-audit", "--no-fund", "--ignore-scripts", SERVER]
    subprocess.run(words, cwd=folder, check=True, timeout=300)
    return folder / "node_modules/.bin/yaml-language-server"


@pytest.fixture
def editor(server: Path, author: Author) -> Iterator[Editor]:
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen(["node", server, "--stdio"], cwd=author.folder, **pipes)
    try:
        yield Editor(process, author.folder)
    finally:
        process.kill()
        process.communicate()


def line_of_the_help(author: Author) -> str:
    """Return what the help says is to stand in the definition, having done what it says comes before."""
    told = author.instar("schema", "--help").stdout
    assert "instar schema >instar.schema.json" in told
    (author.folder / "instar.schema.json").write_text(author.instar("schema").stdout)
    (line,) = re.findall(r"^ *(# yaml-language-server: .*)$", told, re.MULTILINE)
    return str(line)


def test_mistakes_are_marked_and_keys_completed(editor: Editor, author: Author) -> None:
    line = line_of_the_help(author)
    marked = dict(editor.open("instar.yaml", f"{line}\n{WRONG}"))
    assert marked[5] == "Property limts is not allowed." and '"tcp"' in marked[6] and len(marked) == 2
    offered = editor.completed("instar.yaml", 7, 2)
    assert {"port", "health", "volumes", "stop"} <= offered.keys() and "command" not in offered
    assert "What one instance may use" in offered["limits"]


def test_in_no_example_is_anything_marked(editor: Editor, author: Author) -> None:
    line = line_of_the_help(author)
    for example in EXAMPLES:
        with contextlib.suppress(FileExistsError):
            (author.folder / example.parent.name).mkdir()
        (author.folder / example.parent.name / "instar.schema.json").write_text(
            (author.folder / "instar.schema.json").read_text()
        )
        assert editor.open(f"{example.parent.name}/instar.yaml", f"{line}\n{example.read_text()}") == [], example

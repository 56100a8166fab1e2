"""Sixteen times the text takes at most eighty times as long, whatever it is: every reader of what others wrote.

Each is given more and more of a text that is made to be hard on it, up to its size limit or until reading takes a
tenth of a second (in the long test, two seconds). Only processor time counts, and only figures of one run are
compared. A reader whose time grows with the square of the text is found while it is still small.
"""

from __future__ import annotations

import gc
import io
import os
import tempfile
import time
import zipfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from instar.adopt.dockerfile import carry_dockerfile
from instar.adopt.procfile import carry_procfile
from instar.bake.debian.dpkg import in_order_of_need
from instar.bake.root import Written
from instar.bake.wheels.distribution import read_distribution
from instar.bake.wheels.wheel import Layout, install
from instar.definition import parse
from instar.errors import InstarError
from instar.fetch import apt_errors, debs, lists, python, wheels
from instar.fetch.index import parse_index
from instar.fetch.requirements import Requirement, normal_name, read_requirements
from instar.fetch.sources import Sources, read_sources
from instar.host.isolation import runc
from instar.host.processes import proc
from instar.lock import file as lock_file
from instar.model.control import fields, names, needs
from instar.model.digest import Digest
from instar.model.lock import Wheel
from instar.model.patterns import Patterns
from instar.operations.replay import Filter
from instar.providers.local import health
from instar.providers.local.logs import Joiner
from instar.router import admin_socket, served, slots
from instar.store import manifest
from instar.store.header import BLOCK
from instar.store.members import Malformed, Members, Stream
from instar.terminal import recording

_LEAST_BYTES = 512
_LEAST_S = 0.0005  # what is less is taken for so much
_ENOUGH_S = 0.1
_ENOUGH_AT_LENGTH_S = 2.0
_MORE = 16
_GROWTH = 80.0  # in proportion it would be sixteen times, and some more as memory is asked for; with the square 256
_MIB = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Reader:
    """``read`` gets texts of about ``n`` characters, made by ``text(n)``, of which none is larger than ``limit``."""

    name: str
    read: Callable[[str], object]
    text: Callable[[int], str]
    limit: int = _MIB


def repeated(part: str, before: str = "", after: str = "") -> Callable[[int], str]:
    return lambda n: before + part * (n // len(part)) + after


def numbered(form: str, before: str = "", after: str = "") -> Callable[[int], str]:
    """Text in which each part differs: ``form`` with a number."""
    return lambda n: before + "".join(form.format(i) for i in range(n // len(form))) + after


FOLDER = Path(tempfile.gettempdir(), f"instar-reading-{os.getpid()}")


@pytest.fixture(scope="module", autouse=True)
def _tidy() -> Any:
    FOLDER.mkdir(mode=0o700)
    yield
    for path in FOLDER.iterdir():
        path.unlink()
    FOLDER.rmdir()


def from_file(read: Callable[[Path], object]) -> Callable[[str], object]:
    def reading(text: str) -> object:
        path = FOLDER / "file"
        path.write_text(text, "utf-8", newline="")
        return read(path)

    return reading


def requirements(text: str) -> object:
    (FOLDER / "r.txt").write_text(text, "utf-8", newline="")
    return read_requirements(FOLDER, "r.txt")


def definition(text: str) -> object:
    return parse(text, str(FOLDER / "instar.yaml"))


def dockerfile(text: str) -> str:
    return carry_dockerfile(text, FOLDER, "shop", "Dockerfile").text()


def procfile(text: str) -> str:
    return carry_procfile(text, FOLDER, "shop", "Procfile").text()


def sources(suffix: str) -> Callable[[str], object]:
    def reading(text: str) -> object:
        path = FOLDER / f"s{suffix}"
        path.write_text(text)
        return read_sources("bookworm", {"INSTAR_APT_SOURCES": str(path)})

    return reading


def wheel(metadata: str, info: str = "WHEEL") -> object:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name in {"METADATA", "WHEEL", info}:
            archive.writestr(f"x-1.dist-info/{name}", metadata if name == info else "Name: x\nVersion: 1\n")
    out.seek(0)
    with zipfile.ZipFile(out) as archive:
        return read_distribution(archive)


def entry_points(text: str) -> object:
    """A whole wheel, installed nowhere."""
    path = FOLDER / "x-1-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("WHEEL", "METADATA"):
            archive.writestr(f"x-1.dist-info/{name}", "Name: x\nVersion: 1\nTag: py3-none-any\n")
        archive.writestr("x-1.dist-info/entry_points.txt", text)
    return install(path, path.name, LAYOUT, lambda name, content, mode: Written(b"", sum(map(len, content))))


def pax(text: str) -> object:
    """A tar whose extended header is ``text``, as records of one key each."""
    data = b"".join(_record(f"SCHILY.xattr.{part}".encode()) for part in text.split(" "))
    head = bytearray(BLOCK)
    head[:4], head[124:135], head[156:157], head[257:263] = b"name", b"%011o" % len(data), b"x", b"ustar\0"
    head[148:156] = b"%06o\0 " % (sum(head) + 8 * 32)
    body = bytes(head) + data + bytes(-len(data) % BLOCK) + bytes(1024)
    return list(Members(Stream(iter([body]), limit_bytes=1 << 30)))


def _record(key: bytes) -> bytes:
    length = len(key) + 5
    return b"%d %s=x\n" % (length + (len(str(length + 1)) if len(str(length)) == 1 else len(str(length))) - 1, key)


def uv_error(text: str) -> object:
    asked = [Requirement(file="r", line=n, text=f"p{n}") for n in range(200)]
    return python.solver_error(text, asked)


LAYOUT = Layout(prefix="/opt/venv", packages="lib", scripts="bin", headers="include")


def filtered(text: str) -> str:
    return Filter(plain=False).feed(text)


def in_pieces(text: str) -> object:
    joiner, data = Joiner(), text.encode()
    return [list(joiner.add(data[at : at + 4096])) for at in range(0, len(data), 4096)]


def excluded(text: str) -> object:
    return Patterns([text]).leave_out("a" * 255 + "/" + "ab" * 100, is_folder=False)


def reasons(text: str) -> object:
    return python._reasons(text, [])


ONE = Wheel(name="x", version="1", filename="x-1-py3-none-any.whl", sha256=Digest.of(b""))
NO_SOURCES = Sources(archives=(), lines="", stanzas="", files=())
BEGUN = "name: x\nimage: {base: 'debian:bookworm'}\nservice: {command: [x]}\n"

READERS = [
    Reader(name="dockerfile: lines that go on", read=dockerfile, text=repeated("\\\n", "FROM x\nRUN a ")),
    Reader(name="dockerfile: variables", read=dockerfile, text=repeated("${A:-", "FROM x\nENV A=")),
    Reader(name="dockerfile: pairs", read=dockerfile, text=repeated('a="', "FROM x\nENV A=b ")),
    Reader(name="dockerfile: names", read=dockerfile, text=repeated("a", "FROM x\nENV ")),
    Reader(name="dockerfile: flags", read=dockerfile, text=repeated("--a ", "FROM x\nRUN ")),
    Reader(name="dockerfile: commands", read=dockerfile, text=repeated("a && ", "FROM x\nRUN ", "b"), limit=1 << 16),
    Reader(name="dockerfile: choices", read=dockerfile, text=repeated("a || ", "FROM x\nRUN ", "b"), limit=1 << 14),
    Reader(name="dockerfile: paths", read=dockerfile, text=repeated("/tmp/", "FROM x\nRUN rm -rf ", "x y")),
    Reader(name="dockerfile: instructions", read=dockerfile, text=repeated("EXPOSE 1\n", "FROM x\n"), limit=1 << 18),
    Reader(name="dockerfile: checks", read=dockerfile, text=repeated("http://localhost:1", "FROM x\nHEALTHCHECK CMD ")),
    Reader(name="dockerfile: a document", read=dockerfile, text=repeated("<<A", "FROM x\nRUN ")),
    Reader(name="procfile", read=procfile, text=repeated(" ", "web:", "x")),
    Reader(name="requirements: spaces", read=requirements, text=repeated(" ", "flask", "x")),
    Reader(name="requirements: tabs and comments", read=requirements, text=repeated("\t #", "flask", "\n")),
    Reader(name="requirements: lines that go on", read=requirements, text=repeated("\\\n", "flask")),
    Reader(name="requirements: lines that go on with spaces", read=requirements, text=repeated("  \\\n", "flask", "x")),
    Reader(name="requirements: hashes", read=requirements, text=repeated(" --hash= ", "flask")),
    Reader(name="requirements: an extra", read=requirements, text=repeated(" ", "flask [", "")),
    Reader(name="requirements: brackets", read=requirements, text=repeated("[", "flask", "")),
    Reader(name="requirements: a long name", read=requirements, text=repeated("a.-", "", " !")),
    Reader(name="requirements: dots", read=requirements, text=repeated(".whl", "x", "!")),
    Reader(name="requirements: dots and spaces", read=requirements, text=repeated(".zip ", "x", "!")),
    Reader(name="requirements: options", read=requirements, text=repeated(" -", "flask", "")),
    Reader(name="requirements: many", read=requirements, text=numbered("p{}==1\n")),
    Reader(name="requirements: many wrong", read=requirements, text=repeated("-e .\n")),
    Reader(name="a project's name", read=normal_name, text=repeated("-._", "a", "!")),
    Reader(name="lock: not closed", read=from_file(lock_file.read), text=repeated("[")),
    Reader(name="lock: one key many times", read=from_file(lock_file.read), text=repeated('"a":1,', "{", '"a":1}')),
    Reader(name="lock: many keys, the last twice", read=from_file(lock_file.read),
           text=numbered('"k{}":1,', "{", '"z":1,"z":1}')),
    Reader(name="lock: digits", read=from_file(lock_file.read), text=repeated("9", '{"instar-lock":', "}")),
    Reader(name="lock: spaces", read=from_file(lock_file.read), text=repeated(" ", '{"instar-lock":', "1}")),
    Reader(name="definition: spaces", read=definition, text=repeated(" ", BEGUN + "x: ", "y")),
    Reader(name="definition: not closed", read=definition, text=repeated("[", "name: ")),
    Reader(name="definition: a quote", read=definition, text=repeated("\\n", 'name: "', "")),
    Reader(name="definition: keys", read=definition, text=numbered("key{}: 1\n")),
    Reader(name="definition: one key", read=definition, text=repeated("name: x\n")),
    Reader(name="definition: a long key", read=definition, text=repeated("k", "", ": 1\n")),
    Reader(name="definition: packages", read=definition, text=numbered("p{}, ", "image: {packages: [", "]}\n")),
    Reader(name="definition: one package", read=definition, text=repeated("p, ", "image: {packages: [", "]}\n")),
    Reader(name="definition: no package", read=definition, text=repeated("a+", "image: {packages: ['", "!']}\n")),
    Reader(name="definition: run", read=definition, text=numbered("x{}, ", "image: {run: [", "]}\n")),
    Reader(name="definition: files", read=definition,
           text=numbered("{{from: a, to: /b{}}}, ", BEGUN + "x: {files: [", "]}\n")),
    Reader(name="definition: environments", read=definition, text=numbered("  e{}: {{}}\n", BEGUN + "environments:\n")),
    Reader(name="definition: numbers", read=definition,
           text=repeated("1", BEGUN + "environments: {dev: {instances: ", "}}")),
    Reader(name="definition: a duration", read=definition,
           text=repeated("1h", "service: {stop: {grace: '", "!'}}")),
    Reader(name="definition: comments", read=definition, text=repeated("# x\n", BEGUN)),
    Reader(name="definition: control characters", read=definition, text=repeated("\x01", BEGUN)),
    Reader(name="control: fields", read=lambda text: fields(text.encode()), text=numbered("F{}: x\n")),
    Reader(name="control: one long field", read=lambda text: fields(text.encode()), text=repeated(" x\n", "F: x\n")),
    Reader(name="control: names", read=lambda text: list(names(text)), text=repeated("a | (")),
    Reader(name="control: spaces", read=lambda text: list(names(text)), text=repeated(" ", "a", "b")),
    Reader(name="control: needs", read=lambda text: needs({"a": {"Depends": text}, "b": {"Provides": text}}),
           text=numbered("p{}, ")),
    Reader(name="control: order", read=lambda text: in_order_of_need({"a": {"Pre-Depends": text}}),
           text=numbered("p{}, ")),
    Reader(name="wheel: metadata", read=lambda text: wheel(text, "METADATA"), text=repeated("A: b\n", "Name: x\n")),
    Reader(name="wheel: requirements", read=lambda text: wheel(text, "METADATA"),
           text=numbered("Requires-Dist: p{}\n", "Name: x\nVersion: 1\n")),
    Reader(name="wheel: a long requirement", read=lambda text: wheel(text, "METADATA"),
           text=repeated("-", "Name: x\nVersion: 1\nRequires-Dist: a", "!\n")),
    Reader(name="wheel: a long version", read=lambda text: wheel(text, "METADATA"),
           text=repeated("1.", "Name: x\nVersion: ", "x!\n")),
    Reader(name="wheel: zeros in a version", read=lambda text: wheel(text, "METADATA"),
           text=repeated(".0", "Name: x\nVersion: 1", "\n")),
    Reader(name="wheel: tags", read=wheel, text=repeated("a.", "Tag: a-", "-b")),
    Reader(name="wheel: many tags", read=wheel, text=repeated("Tag: a-b-c\n")),
    Reader(name="entry points: spaces", read=entry_points, text=repeated(" ", "[console_scripts]\na", "b\n")),
    Reader(name="entry points: gaps", read=entry_points, text=repeated(" " * 99 + "x", "[console_scripts]\na", "\n")),
    Reader(name="entry points: lines that go on", read=entry_points, 
           text=repeated(" b\n", "[console_scripts]\na=b:c\n")),
    Reader(name="entry points: many", read=entry_points, text=numbered("s{} = a:b\n", "[console_scripts]\n")),
    Reader(name="sources: a line", read=sources(".list"), text=repeated(" ", "deb ", "x")),
    Reader(name="sources: options", read=sources(".list"), text=repeated("[", "deb [", "")),
    Reader(name="sources: components", read=sources(".list"), text=repeated(" a", "deb x bookworm", "#")),
    Reader(name="sources: a stanza", read=sources(".sources"), text=repeated(" x\n", "Types: deb\nURIs:\n")),
    Reader(name="sources: empty lines", read=sources(".sources"), text=repeated(" \n", "Types: deb\n", "x")),
    Reader(name="sources: spaces", read=sources(".sources"), text=repeated(" ", "Types: deb\n", "x")),
    Reader(name="sources: which kind", read=sources(""), text=repeated("\n ")),
    Reader(name="apt: no way", read=apt_errors.explanation, text=repeated("E: x\n", "unmet dependencies\n")),
    Reader(name="apt: failures", read=lambda text: apt_errors.update_error(text, NO_SOURCES),
           text=repeated("Failed to fetch ", "", "x")),
    Reader(name="apt: spaces", read=lambda text: apt_errors.update_error(text, NO_SOURCES),
           text=repeated(" ", "Failed to fetch x", "")),
    Reader(name="apt: a date", read=from_file(lambda path: lists.dates(path.with_name("no"))),
           text=repeated("Date:\n")),
    Reader(name="apt: downloads", read=debs._causes, text=repeated("E: Failed to fetch x mismatch\n")),
    Reader(name="apt: hashes", read=debs._causes,
           text=repeated("Hashes of received file: \n", "E: Failed to fetch x mismatch\n")),
    Reader(name="pip: hashes", read=lambda text: wheels._error([ONE], text), text=repeated("    x==1\n")),
    Reader(name="pip: hashes and spaces", read=lambda text: wheels._error([ONE], text),
           text=repeated("\n", "    x==1", "")),
    Reader(name="pip: connections", read=lambda text: wheels._error([ONE], text),
           text=repeated("after connection broken by : ")),
    Reader(name="pip: addresses", read=lambda text: wheels._error([ONE], text), text=repeated("Could not fetch URL ")),
    Reader(name="pip: errors", read=lambda text: wheels._error([ONE], text), text=repeated("ERROR: \n")),
    Reader(name="pip: configuration", read=parse_index, text=repeated("a", "global.index-url='", "'")),
    Reader(name="pip: wrong configuration", read=parse_index, text=repeated("[", "global.index-url=", "")),
    Reader(name="uv: empty lines", read=uv_error, text=repeated("\n", "error: x", "y")),
    Reader(name="uv: causes", read=uv_error, text=repeated("\n cause", "error: x", "y")),
    Reader(name="uv: hints", read=uv_error, text=repeated("\n hint: ", "error: x", "y")),
    Reader(name="uv: spaces", read=uv_error, text=repeated(" ", "error: x", "y")),
    Reader(name="uv: names", read=uv_error, text=repeated("p1 ", "error: x", "y")),
    Reader(name="uv: a name", read=uv_error, text=repeated("p.", "error: x ", " was not found")),
    Reader(name="uv: reasons", read=reasons, text=numbered("p{}==1\n    # via\n    #   p1\n")),
    Reader(name="uv: yanked", read=lambda text: list(python._YANKED.finditer(text)),
           text=repeated("warning: `a==", "", "")),
    Reader(name="tar: extended headers", read=pax, text=numbered("k{} "), limit=_MIB // 2),
    Reader(name="tar: one extended header", read=pax, text=repeated("k"), limit=_MIB // 2),
    Reader(name="haproxy: a table", read=served._ROW.findall, text=repeated("0x1: key=1 ")),
    Reader(name="haproxy: a table's numbers", read=served._ROW.findall,
           text=repeated("gpt0=1 ", "0x1: key=1 ")),
    Reader(name="haproxy: info", read=admin_socket.read_info, text=repeated("a: b\n")),
    Reader(name="haproxy: statistics", read=admin_socket.read_statistics,
           text=repeated("a,b,", "# pxname,svname\na,b\n")),
    Reader(name="haproxy: quotes", read=admin_socket.read_statistics, text=repeated('"', "# pxname,svname\na,")),
    Reader(name="haproxy: servers", read=slots.read_state, text=repeated("1 be_app 1 s1 x\n", "1\n# be_id be_name\n")),
    Reader(name="log: a line", read=lambda text: list(Joiner().add(text.encode())), text=repeated("x")),
    Reader(name="log: parts", read=lambda text: list(Joiner().add(text.encode())), text=repeated("t stdout P x\n")),
    Reader(name="log: in pieces", read=in_pieces, text=repeated("x"), limit=8 * _MIB),
    Reader(name="log: streams", read=lambda text: list(Joiner().add(text.encode())), text=numbered("t s{} P x\n")),
    Reader(name="recording: a header", read=from_file(recording.read_header), text=repeated("[")),
    Reader(name="recording: events", read=from_file(lambda path: list(recording.read_events(path))),
           text=repeated('[1,"o","x"]\n', "{}\n")),
    Reader(name="recording: the last", read=from_file(recording.last_event_s), text=repeated("x\n")),
    Reader(name="terminal: escapes", read=filtered, text=repeated("\x1b")),
    Reader(name="terminal: sequences", read=filtered, text=repeated("1;", "\x1b[", "m")),
    Reader(name="terminal: strings", read=lambda text: Filter(plain=True).feed(text), text=repeated("x", "\x1b]")),
    Reader(name="terminal: modes", read=filtered, text=repeated("\x1b[?1;", "", "h")),
    Reader(name="runc: a log", read=runc._LOG_MESSAGE.findall, text=repeated('msg="')),
    Reader(name="runc: backslashes", read=runc._LOG_MESSAGE.findall, text=repeated("\\", 'msg="')),
    Reader(name="proc: maps", read=lambda text: proc._EXECUTABLE.findall(text.encode()),
           text=repeated("0", "", "-0 r-xp 0 0:0 1 x")),
    Reader(name="proc: names", read=lambda text: proc._EXECUTABLE.findall(text.encode()),
           text=repeated(" ", "0-0 r-xp 0 0:0 1", "x\n")),
    Reader(name="proc: mounts", read=proc.unescaped, text=repeated("\\04")),
    Reader(name="proc: a mount", read=proc._mount, text=repeated("shared:1 ", "1 2 0:1 / / rw ", "- x y z")),
    Reader(name="exclude: stars", read=excluded, text=repeated("*a"), limit=64 << 10),
    Reader(name="exclude: folders", read=excluded, text=repeated("**/a/"), limit=64 << 10),
    Reader(name="exclude: sets", read=excluded, text=repeated("[", "", "a"), limit=64 << 10),
    Reader(name="exclude: classes", read=excluded, text=repeated("[:", "[", "]"), limit=64 << 10),
    Reader(name="exclude: backslashes", read=excluded, text=repeated("\\\\", "", " "), limit=64 << 10),
    Reader(name="exclude: spaces", read=excluded, text=repeated(" ", "a"), limit=64 << 10),
    Reader(name="image: a manifest", read=lambda text: manifest.references(text.encode()),
           text=repeated('{"digest":"x"},', '{"config":{},"layers":[', "{}]}")),
    Reader(name="image: not closed", read=lambda text: manifest.references(text.encode()), text=repeated("[")),
    Reader(name="health: an answer", read=health.ill, text=repeated("\x1b ")),
]  # fmt: skip


@pytest.mark.parametrize("reader", READERS, ids=lambda reader: reader.name)
def test_sixteen_times_the_text_takes_at_most_eighty_times_as_long(reader: Reader) -> None:
    require_proportion(reader, _ENOUGH_S)


@pytest.mark.long
@pytest.mark.parametrize("reader", READERS, ids=lambda reader: reader.name)
def test_so_it_does_up_to_the_limit(reader: Reader) -> None:
    require_proportion(reader, _ENOUGH_AT_LENGTH_S)


def require_proportion(reader: Reader, enough_s: float) -> None:
    size, grown = _LEAST_BYTES, 0.0
    while _MORE * size <= reader.limit and grown < enough_s:
        text, larger = reader.text(size), reader.text(_MORE * size)
        before, grown = seconds(reader, text, 3), seconds(reader, larger, 1)
        for again in range(8):  # the least of several: others use the machine too, and its caches, now and then
            if grown <= _GROWTH * max(before, _LEAST_S):
                break
            time.sleep(0.1 * again)
            before, grown = min(before, seconds(reader, text, 3)), min(grown, seconds(reader, larger, 1))
        assert grown <= _GROWTH * max(before, _LEAST_S), (
            f"{size:,} characters take {before:.4f} s, {_MORE * size:,} take {grown:.3f} s"
        )
        size *= 2


def seconds(reader: Reader, text: str, times: int) -> float:
    """Return the least processor time that it took."""
    found = []
    for _ in range(times):
        gc.disable()
        begun = time.process_time()
        with suppress(InstarError, Malformed, ValueError, KeyError, SyntaxError, RecursionError, MemoryError):
            reader.read(text)
        found.append(time.process_time() - begun)
        gc.enable()
    return min(found)


def test_the_measure_itself_finds_what_grows_with_the_square() -> None:
    """A loop that looks at all that came before, over a text that it is measured with too."""
    square = Reader(name="square", read=lambda text: [text.count("x", 0, at) for at in range(0, len(text), 4)],
                    text=repeated("x"))  # fmt: skip
    with pytest.raises(AssertionError, match="characters take"):
        require_proportion(square, 1.0)

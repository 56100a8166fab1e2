"""Services with packages of npm, Go, Cargo, Maven and Python's sources: from lock file to answer, with real things."""

from __future__ import annotations

import json
import shutil
import subprocess
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from leftovers import remove_state
from project import Project

from free_ports import free_port

pytestmark = [pytest.mark.root, pytest.mark.long]

NODE = """\
name: shop
image:
  base: debian:bookworm
  packages: [nodejs, npm]
  npm: {from: app, to: /srv/app}
  files: [{from: app, to: /srv/app}]
service: {command: [node, server.js], workdir: /srv/app, port: 8080, jit: true}
environments: {dev: {listen: "127.0.0.1:PORT"}}
"""
SERVER_JS = "require('express')().get('/', (_, answer) => answer.send('hello\\n')).listen(8080, '0.0.0.0')\n"

COMPILED = """\
name: hello
build:
  compile:
    base: debian:bookworm
    packages: [COMPILER]
    ECOSYSTEM: .
    files: [{from: ., to: /src}]
    run: ["cd /src && LINE"]
image:
  base: debian:bookworm
  files: [{from: build.compile, path: /out/hello, to: /srv/hello}]
service: {command: [/srv/hello], port: 8080}
environments: {dev: {listen: "127.0.0.1:PORT"}}
"""
MAIN_GO = """\
package main

import (
	"fmt"
	"net/http"

	"golang.org/x/text/cases"
	"golang.org/x/text/language"
)

func main() {
	http.HandleFunc("/", func(answer http.ResponseWriter, _ *http.Request) {
		fmt.Fprintln(answer, cases.Lower(language.English).String("HELLO"))
	})
	http.ListenAndServe("0.0.0.0:8080", nil)
}
"""
GO_MOD = "module example.org/hello\n\ngo 1.19\n\nrequire golang.org/x/text v0.9.0\n"
CARGO_TOML = """\
[package]
name = "hello"
version = "0.1.0"
edition = "2021"
rust-version = "1.63"
[dependencies]
itoa = "=1.0.5"
either = "=1.8.0"
"""
MAIN_RS = """\
use std::io::{Read, Write};
fn main() {
    let said: either::Either<&str, u8> = either::Left("hello\\n");
    for connection in std::net::TcpListener::bind("0.0.0.0:8080").unwrap().incoming() {
        let mut connection = connection.unwrap();
        let _ = connection.read(&mut [0; 4096]);
        let text = said.left().unwrap();
        let mut length = itoa::Buffer::new();
        let length = length.format(text.len());
        let _ = write!(connection, "HTTP/1.1 200 OK\\r\\nContent-Length: {}\\r\\n\\r\\n{}", length, text);
    }
}
"""

BUILT = """\
name: built
build:
  compile: {base: "debian:bookworm", packages: [python3-dev, gcc]}
image:
  base: debian:bookworm
  python: {requirements: requirements.txt, from_source: {compile: [docopt, markupsafe]}}
  run: ["python -c 'import docopt, markupsafe._speedups'"]
service: {command: [python, -m, http.server, "8080"], port: 8080}
environments: {dev: {listen: "127.0.0.1:PORT"}}
"""
MAVEN = """\
name: hello
build:
  compile:
    base: debian:bookworm
    packages: [maven, default-jdk-headless]
    maven: {from: .}
    files: [{from: ., to: /src, exclude: [target]}]
    run: ["cd /src && mvn -B -q package && mkdir /out && mv target/hello.jar target/dependency /out && rm -r target"]
image:
  base: debian:bookworm
  packages: [default-jre-headless]
  files: [{from: build.compile, path: /out, to: /srv/hello}]
service: {command: [java, -cp, "/srv/hello/hello.jar:/srv/hello/dependency/*", example.Hello], port: 8080, jit: true}
environments: {dev: {listen: "127.0.0.1:PORT"}}
"""
POM_XML = """\
<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>org.example</groupId>
  <artifactId>hello</artifactId>
  <version>1.0</version>
  <packaging>jar</packaging>
  <properties>
    <maven.compiler.release>17</maven.compiler.release>
    <project.build.sourceEncoding>UTF-8</project.build.sourceEncoding>
    <project.build.outputTimestamp>2020-01-01T00:00:00Z</project.build.outputTimestamp>
  </properties>
  <dependencies>
    <dependency><groupId>com.google.code.gson</groupId><artifactId>gson</artifactId><version>2.10.1</version></dependency>
  </dependencies>
  <build>
    <finalName>hello</finalName>
    <plugins>
      <plugin><artifactId>maven-dependency-plugin</artifactId><version>3.6.1</version>
        <executions><execution><phase>package</phase><goals><goal>copy-dependencies</goal></goals>
          <configuration><includeScope>runtime</includeScope></configuration></execution></executions></plugin>
    </plugins>
  </build>
</project>
"""
HELLO_JAVA = """\
package example;
import com.google.gson.Gson;
import com.sun.net.httpserver.HttpServer;
import java.net.InetSocketAddress;
public class Hello {
    public static void main(String[] words) throws Exception {
        HttpServer server = HttpServer.create(new InetSocketAddress("0.0.0.0", 8080), 0);
        byte[] said = (new Gson().fromJson("\\"hello\\"", String.class) + "\\n").getBytes();
        server.createContext("/", exchange -> {
            exchange.sendResponseHeaders(200, said.length);
            exchange.getResponseBody().write(said);
            exchange.close();
        });
        server.start();
    }
}
"""


class Shop:
    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        (folder / "shop").mkdir()
        self.project = Project(folder=folder / "shop", home=folder / "home", ports={})

    def write(self, name: str, text: str) -> None:
        path = self.project.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text.replace("PORT", str(self.port)))

    def by_tool(self, command: Sequence[str], folder: str = ".") -> None:
        """Have an ecosystem's own tool write its lock file."""
        if shutil.which(command[0]) is None:
            pytest.skip(f"needs {command[0]}, which writes the lock file")
        subprocess.run(command, cwd=self.project.folder / folder, check=True, timeout=120, capture_output=True)

    def answer(self) -> bytes:
        """Deploy, and return what the service says."""
        self.project.instar("deploy", "dev", timeout_s=1_500)
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/", timeout=10) as answer:
            said: bytes = answer.read()
        return said

    def artifacts(self, stage: str | None) -> list[dict[str, Any]]:
        text = (self.project.folder / "instar.lock").read_text()
        assert "://" not in text, "no address is in a lock"
        locked = json.loads(text)
        found: list[dict[str, Any]] = (locked["build"][stage] if stage else locked)["artifacts"]
        return found


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    made = Shop(tmp_path)
    yield made
    made.project.destroy_all()
    remove_state(made.project.home)


def test_an_express_application(shop: Shop) -> None:
    shop.write("app/server.js", SERVER_JS)
    shop.write("app/package.json", json.dumps({"name": "shop", "dependencies": {"express": "4"}}))
    shop.by_tool(["npm", "install", "--package-lock-only", "--silent"], "app")
    shop.write("instar.yaml", NODE)
    assert shop.answer() == b"hello\n"
    express = next(one for one in shop.artifacts(None) if one["name"] == "express")
    assert express["version"].startswith("4.")


def test_a_program_in_go(shop: Shop) -> None:
    shop.write("main.go", MAIN_GO)
    shop.write("go.mod", GO_MOD)
    shop.by_tool(["go", "mod", "tidy"])
    line = "CGO_ENABLED=0 go build -o /out/hello ."
    shop.write("instar.yaml", compiled("golang-go", "go", line))
    assert shop.answer() == b"hello\n"
    assert {"golang.org/x/text"} <= {one["name"] for one in shop.artifacts("compile")}


def test_a_program_in_rust(shop: Shop) -> None:
    shop.write("src/main.rs", MAIN_RS)
    shop.write("Cargo.toml", CARGO_TOML)
    shop.by_tool(["cargo", "generate-lockfile"])
    line = (
        "CARGO_TARGET_DIR=/tmp/target cargo build --release --locked && install -D /tmp/target/release/hello /out/hello"
    )
    shop.write("instar.yaml", compiled("cargo", "cargo", line))
    assert shop.answer() == b"hello\n"
    assert [one["name"] for one in shop.artifacts("compile")] == ["either", "itoa"]


def test_wheels_built_from_source_are_the_same_on_another_machine(shop: Shop) -> None:
    shop.write("requirements.txt", "docopt==0.6.2\nMarkupSafe==2.1.5\njinja2\n")
    shop.write("instar.yaml", BUILT)
    image = shop.project.instar("bake", timeout_s=1_500).out
    locked = json.loads((shop.project.folder / "instar.lock").read_text())
    cached = shop.project.home / "cache/sha256"
    made = [cached / one["sha256"] for one in locked["wheels"] if "built" in one]
    steps = [path for path in (shop.project.home / "steps").glob("*.json") if '"python"' in path.read_text()]
    assert (len(made), len(steps)) == (2, 1)
    for path in (*made, *steps):
        path.unlink()
    assert shop.project.instar("bake", timeout_s=1_500).out == image
    assert all(path.is_file() for path in made)


def test_a_program_in_java(shop: Shop) -> None:
    shop.write("src/main/java/example/Hello.java", HELLO_JAVA)
    shop.write("pom.xml", POM_XML)
    shop.write("instar.yaml", MAVEN)
    assert shop.answer() == b"hello\n"
    found = {(one["name"], one["version"], one["kind"]) for one in shop.artifacts("compile")}
    assert ("com.google.code.gson/gson", "2.10.1", "jar") in found


def compiled(compiler: str, ecosystem: str, line: str) -> str:
    return COMPILED.replace("COMPILER", compiler).replace("ECOSYSTEM", ecosystem).replace("LINE", line)

"""A service for the JVM: compiled in a stage of the build, on Debian's headless runtime, replaced batch by batch."""

from __future__ import annotations

import http.client
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import load
import pytest
from leftovers import remove_state
from project import Project, free_port, wait_for

pytestmark = [pytest.mark.root, pytest.mark.long]

DEFINITION = """\
name: quotes
build:
  compile:
    base: debian:bookworm
    packages: [default-jdk-headless]
    files: [{from: src, to: /src}]
    run:
      - javac -d /out/classes /src/Quotes.java
      - >-
        jar --create --file /out/quotes.jar --date "$(date -u -d @$SOURCE_DATE_EPOCH +%FT%TZ)"
        --main-class Quotes -C /out/classes .
image:
  base: debian:bookworm
  packages: [default-jre-headless]
  files: [{from: build.compile, path: /out/quotes.jar, to: /srv/quotes.jar}]
service:
  command: [java, -XX:+ExitOnOutOfMemoryError, -jar, /srv/quotes.jar]
  port: 8080
  health: {path: /, interval: 250ms}
  limits: {memory: 256M, cpus: 1.0}
  jit: true
environments:
  dev:
    listen: 127.0.0.1:PORT
    instances: 2
    rollout: {strategy: rolling}
"""
QUOTES = """\
import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpServer;
import java.io.IOException;
import java.net.InetSocketAddress;
import java.util.concurrent.Executors;

public class Quotes {
    static final String RELEASE = System.getenv("INSTAR_RELEASE");

    public static void main(String[] words) throws IOException {
        HttpServer server = HttpServer.create(new InetSocketAddress("0.0.0.0", 8080), 0);
        server.setExecutor(Executors.newFixedThreadPool(8));
        server.createContext("/", exchange -> answer(exchange, "quoted by release " + RELEASE));
        server.createContext("/eat", exchange -> answer(exchange, "ate " + new long[1 << 28].length));
        Runtime.getRuntime().addShutdownHook(new Thread(() -> server.stop(5)));
        server.start();
        System.out.println("heap " + (Runtime.getRuntime().maxMemory() >> 20) + " MiB");
    }

    static void answer(HttpExchange exchange, String text) throws IOException {
        byte[] said = (text + "\\n").getBytes();
        exchange.getResponseHeaders().set("X-Release", RELEASE);
        exchange.sendResponseHeaders(200, said.length);
        exchange.getResponseBody().write(said);
        exchange.close();
    }
}
"""


@pytest.fixture
def quotes(tmp_path: Path) -> Iterator[Project]:
    made = Project(folder=tmp_path / "quotes", home=tmp_path / "home", ports={"dev": free_port()})
    (made.folder / "src").mkdir(parents=True)
    (made.folder / "src/Quotes.java").write_text(QUOTES)
    (made.folder / "instar.yaml").write_text(DEFINITION.replace("PORT", str(made.ports["dev"])))
    yield made
    made.destroy_all()
    remove_state(made.home)


def test_a_jvm_is_replaced_under_load_and_ended_by_its_own_want_of_memory(quotes: Project) -> None:
    quotes.instar("deploy", "dev", timeout_s=900)
    with load.running(quotes.url(path="/"), "--rate", "100", "--connections", "6", "--tally", "X-Release") as traffic:
        quotes.edit('"quoted by', '"quoted anew by', "src/Quotes.java")
        assert quotes.json("deploy", "dev")["release"] == 2
        assert quotes.json("rollback", "dev")["release"] == 1
        report = traffic.stop()
    assert report["failed"] == 0, report
    assert set(report["tally"]) == {"1", "2"}
    assert "heap 12" in quotes.instar("logs", "dev").out, "half of so small a machine, as the JVM has it"
    assert quotes.instar("drift", "dev").status == 0
    with pytest.raises((OSError, http.client.HTTPException)):
        urllib.request.urlopen(quotes.url(path="/eat"), timeout=30)
    wait_for(lambda: "OutOfMemoryError" in quotes.instar("logs", "dev").out, "it did not run out of its heap")
    quotes.instar("agent", "--once")
    ended = [event["detail"] for event in quotes.json("history", "dev") if event["kind"] == "ended"]
    assert any("exit status 3" in str(one) for one in ended), ended
    wait_for(lambda: healthy(quotes) == 2, "nothing stands in for what ended")
    assert quotes.get(path="/") == "quoted by release 1\n"


def healthy(quotes: Project) -> int:
    shown = quotes.json("status", "dev")
    active = next(release for release in shown["releases"] if release["number"] == shown["active"])
    return sum(instance["healthy"] is True for instance in active["instances"])

"""Environments that find one another by name: a web server that asks another service behind it, of which releases come
and go."""

from __future__ import annotations

import json
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from project import Project, end, wait_for

pytestmark = pytest.mark.root

ASK = """\
#!/usr/bin/perl
use IO::Socket::INET;
print "Status: 200 OK\\r\\nContent-Type: text/plain\\r\\n\\r\\n";
my $stock = IO::Socket::INET->new(PeerAddr => $ENV{STOCK_HOST}, PeerPort => $ENV{STOCK_PORT}, Timeout => 5);
if (!$stock) { print "nobody answers: $!\\n"; exit; }
print $stock "GET /cgi-bin/hello HTTP/1.0\\r\\nHost: stock\\r\\n\\r\\n";
local $/;
my ($head, $body) = split /\\r\\n\\r\\n/, <$stock>, 2;
print $head =~ / 200 / ? $body : "failed: $head\\n";
"""


@pytest.fixture
def shop(project: Project) -> Project:
    """The service that uses another: its path /cgi-bin/ask shows what that one answers."""
    ask = project.folder / "app/www/cgi-bin/ask"
    ask.write_text(ASK)
    ask.chmod(0o755)
    project.edit("  dev:\n", "  dev:\n    uses: [stock]\n")
    return project


@pytest.fixture
def stock(shop: Project) -> Iterator[Project]:
    """The service that is used, from a folder of its own; both are on one machine."""
    folder = shop.folder.with_name("stock")
    shutil.copytree(shop.folder, folder)
    made = Project(folder=folder, home=shop.home, ports=shop.ports)
    made.edit("name: hello", "name: stock")
    made.edit("    uses: [stock]\n", "")
    made.edit(f"listen: 127.0.0.1:{shop.ports['dev']}", "listen: internal")
    yield made
    if made.json("status"):
        made.instar("destroy", "stock/dev", "--yes", "--take-over")


def asked(shop: Project) -> str:
    return shop.get(path="/cgi-bin/ask")


def test_a_service_is_found_by_its_name_whatever_of_it_comes_and_goes(shop: Project, stock: Project) -> None:
    stock.instar("deploy", "dev")
    shown = stock.json("status", "stock/dev")
    assert (shown["internal"], shown["listen"]) == (True, [])
    shop.instar("deploy", "dev")
    assert asked(shop) == "hello from version 1\n"
    [use] = shop.json("status", "hello/dev")["uses"]
    assert use == {"environment": "stock/dev", "name": "stock.internal:8080", "trouble": None}
    before = shop.instance_ids("hello/dev")
    answers, over = list[str](), threading.Event()

    def ask() -> None:
        while not over.is_set():
            answers.append(asked(shop))

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        for version in "23":
            stock.set_version(version)
            stock.instar("deploy", "dev")
        stock.instar("rollback", "stock/dev")
    finally:
        over.set()
        asking.join()
    assert set(answers) == {f"hello from version {version}\n" for version in "123"}, "none failed"
    assert asked(shop) == "hello from version 2\n"
    assert shop.instance_ids("hello/dev") == before, "nothing of who uses it was touched"
    for name in ("hello/dev", "stock/dev"):
        assert shop.json("drift", name)["clean"], shop.instar("drift", name).out


def test_only_who_uses_it_reaches_what_is_internal(shop: Project, stock: Project) -> None:
    with socket.create_server(("0.0.0.0", 0)) as other:
        port = other.getsockname()[1]
        stock.edit("port: 8080\n", f"port: {port}\n")
        stock.edit("-p 8080", f"-p {port}", "app/serve")
        stock.instar("deploy", "dev")
        shop.instar("deploy", "dev")
        assert asked(shop) == "hello from version 1\n"
    record = json.loads((shop.home / "allocations/internal/stock.dev.json").read_text())
    inside = f"busybox nc -w 2 {record['address']} {port} </dev/null && echo through"
    shop.edit("    uses: [stock]\n", "    keep: {hot: 0, releases: 5}\n")
    assert shop.json("deploy", "dev")["release"] == 2, "what it uses is part of a release"
    shop.instar("agent", "--once")
    assert "nobody answers" in asked(shop)
    tried = shop.try_instar("shell", "hello/dev", "--why", "a look", "--command", inside)
    assert "through" not in tried.out


def test_what_is_not_there_is_told_before_anything_is_begun(shop: Project, stock: Project) -> None:
    refused = shop.try_instar("deploy", "dev")
    assert refused.status == 1
    assert "it uses 'stock/dev', which is not there" in refused.err and "instar deploy dev" in refused.err
    assert shop.json("status") == []
    stock.instar("deploy", "dev")
    shop.instar("deploy", "dev")
    assert asked(shop) == "hello from version 1\n"
    gone = stock.instar("destroy", "stock/dev", "--yes")
    assert "hello/dev uses it" in gone.err
    assert "nobody answers" in asked(shop)
    assert "hello/dev uses stock/dev, which is not there" in shop.instar("status", "hello/dev").out
    planned = shop.try_instar("deploy", "dev", "--plan")
    assert planned.status == 1 and "which is not there" in planned.err
    stock.instar("deploy", "dev")
    wait_for(lambda: asked(shop) == "hello from version 1\n", "it is not found again")
    assert shop.json("status", "hello/dev")["uses"][0]["trouble"] is None


def test_two_that_use_each_other_are_told_so(shop: Project, stock: Project) -> None:
    stock.instar("deploy", "dev")
    shop.instar("deploy", "dev")
    stock.edit("  dev:\n", "  dev:\n    uses: [hello]\n")
    told = stock.instar("deploy", "dev")
    assert "stock/dev uses hello/dev uses stock/dev" in told.err
    assert asked(shop) == "hello from version 1\n"


def test_a_name_outlives_a_router_that_is_killed_and_tables_that_are_taken_away(shop: Project, stock: Project) -> None:
    stock.instar("deploy", "dev")
    shop.instar("deploy", "dev")
    mark = (shop.home / "id").read_text().strip()
    record = json.loads((shop.home / "allocations/internal/stock.dev.json").read_text())
    subprocess.run(["ip", "address", "delete", f"{record['address']}/32", "dev", f"in{mark}"], check=True, timeout=10)
    subprocess.run(["nft", "delete", "table", "ip", f"instar_{mark}"], check=True, timeout=10)
    assert "by which instances find stock/dev" in shop.try_instar("drift", "stock/dev").out
    shop.instar("agent", "--once")
    assert asked(shop) == "hello from version 1\n"
    holder = json.loads((shop.home / "routers/stock/dev/holder.json").read_text())
    for one in ("process", "haproxy"):
        subprocess.run(["kill", "-9", str(holder[one]["pid"])], check=True, timeout=10)
    shop.instar("agent", "--once")
    assert asked(shop) == "hello from version 1\n"
    assert Path(shop.home / "allocations/internal/stock.dev.json").exists()


@pytest.mark.thorough
def test_who_is_killed_in_the_middle_gives_no_name_away(shop: Project, stock: Project) -> None:
    """Each round's moment is later than the one before."""
    addresses = set()
    for number in range(6):
        for project, name in ((stock, "stock/dev"), (shop, "hello/dev")):
            project.set_version(str(number + 1))
            command = project.start("deploy", "dev")
            time.sleep(0.15 + 0.15 * number)  # not awaited: the moment is what varies
            end(command, signal.SIGKILL)
            assert project.json("deploy", "dev")["outcome"] in ("done", "unchanged"), name
        assert asked(shop) == f"hello from version {number + 1}\n"
        addresses.add((shop.home / "allocations/internal/stock.dev.json").read_text())
        for name in ("hello/dev", "stock/dev"):
            assert shop.try_instar("drift", name).status == 0, shop.instar("drift", name).out
    assert len(addresses) == 1, "it stays"

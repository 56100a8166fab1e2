"""A guestbook: people leave their name and a line. Entries are kept in SQLite, on a volume that outlives releases."""

import html
import os
import sqlite3
from contextlib import closing
from pathlib import Path
from urllib.parse import parse_qs

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route

VERSION = "1"
GREETING = os.environ.get("GREETING", "Welcome")
DATABASE = Path(os.environ.get("DATABASE", "/var/lib/guestbook/entries.db"))
LONGEST = 500  # characters of an entry

PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>Guestbook</title>
<h1>{greeting}</h1>
<form method="post" action="/entries">
  <input name="name" placeholder="Your name" required maxlength="80">
  <input name="text" placeholder="A line for the guestbook" required maxlength="{longest}">
  <button>Sign</button>
</form>
<ul>{entries}</ul>
<footer>guestbook {version}</footer>
</html>
"""


def connect() -> closing[sqlite3.Connection]:
    # Old and new release have this file open at once while traffic moves, so wait for the other's lock.
    return closing(sqlite3.connect(DATABASE, timeout=5))


def prepare() -> None:
    with connect() as database, database:
        database.execute(
            "CREATE TABLE IF NOT EXISTS entries (id INTEGER PRIMARY KEY, name TEXT NOT NULL, text TEXT NOT NULL)"
        )


def newest(count: int = 50) -> list[tuple[str, str]]:
    with connect() as database:
        return database.execute("SELECT name, text FROM entries ORDER BY id DESC LIMIT ?", (count,)).fetchall()


def index(request: Request) -> Response:
    entries = "".join(f"<li><b>{html.escape(name)}</b>: {html.escape(text)}</li>" for name, text in newest())
    page = PAGE.format(greeting=html.escape(GREETING), entries=entries, longest=LONGEST, version=VERSION)
    return HTMLResponse(page, headers={"X-Guestbook-Version": VERSION})


def entries(request: Request) -> Response:
    return JSONResponse([{"name": name, "text": text} for name, text in newest()])


async def sign(request: Request) -> Response:
    form = parse_qs((await request.body()).decode("utf-8", "replace"))
    name, text = (form.get(key, [""])[0].strip() for key in ("name", "text"))
    if not name or not text or len(name) > 80 or len(text) > LONGEST:
        return PlainTextResponse(f"a name and a line of at most {LONGEST} characters, please\n", status_code=400)
    await run_in_threadpool(add, name, text)
    return RedirectResponse("/", status_code=303)


def add(name: str, text: str) -> None:
    with connect() as database, database:
        database.execute("INSERT INTO entries (name, text) VALUES (?, ?)", (name, text))


def healthz(request: Request) -> Response:
    """Well is who can read the entries, not only who listens."""
    newest(1)
    return PlainTextResponse("ok\n")


prepare()
app = Starlette(
    routes=[
        Route("/", index),
        Route("/entries", entries),
        Route("/entries", sign, methods=["POST"]),
        Route("/healthz", healthz),
    ]
)

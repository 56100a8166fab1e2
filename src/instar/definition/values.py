"""What stands at single keys, wherever they are: the shapes that several sections share."""

from __future__ import annotations

from instar.definition import forms
from instar.definition.shapes import ListOf, MapOf, Text

NAME = Text(
    "a name of a-z, 0-9 and '-', which begins with a letter and has at most 31 characters",
    forms.name,
    pattern=forms.NAME,
)
INSIDE = Text("an absolute path in the image, such as '/srv/app'", forms.inside, pattern="/.*")
SECRET_FILE = Text("a path in the definition's folder, such as 'secrets/token'", forms.secret_file, pattern="[^/].*")
BESIDE = Text("a path in the definition's folder, such as 'app'", forms.beside, pattern="[^/].*")
DURATION = Text(
    "a time such as '500ms', '2s', '1m30s' or '1h'", forms.duration, pattern=forms.DURATION, show=forms.show_duration
)
AGE = Text("a time such as '24h' or '30m'", forms.age, pattern=forms.DURATION, show=forms.show_duration)
PAUSE = Text(
    "a time such as '30s', or the word 'manual'",
    forms.pause,
    pattern=f"{forms.MANUAL}|{forms.DURATION}",
    show=forms.show_pause,
)
INTERVAL = Text(
    "a time such as '60s', or the word 'never'",
    forms.interval,
    pattern=f"{forms.NEVER}|{forms.DURATION}",
    show=forms.show_interval,
)
SIZE = Text("a size such as '64K', '256M' or '1G'", forms.size, pattern=forms.SIZE, show=forms.show_size)
MODE = Text(
    "permissions such as '0644' or '0755'",
    forms.mode,
    pattern=forms.MODE,
    show="{:04o}".format,
    kinds=("string", "integer"),
)
VALUE = Text("a text, a number, or true or false, taken as it is written", kinds=("string", "number", "boolean"))
VARIABLES = MapOf(
    Text("a name of letters, digits and '_' that does not begin with a digit", forms.variable, pattern=forms.VARIABLE),
    VALUE,
    "a section of names and values, such as {GREETING: hello}",
)
COMMAND = ListOf(
    Text("a text, one word of the command", forms.word),
    "a list of words, such as [python3, app.py]",
    minimum=1,
)
ADDRESS = Text("an address such as '127.0.0.1:8080'", forms.address, pattern=r".*:\d{1,5}")
HOST = Text("a host such as 'example.org' or 'example.org:8443'", forms.host, pattern=forms.HOST)
NETWORK = Text(
    "an address or a network, such as '10.0.0.7' or '10.0.0.0/8'", forms.network, pattern=r"[0-9A-Fa-f.:]+(/\d{1,3})?"
)
PREVIEW = Text(
    "an address such as '127.0.0.1:8081', or the word 'header'", forms.preview, pattern=rf"{forms.HEADER}|.*:\d{{1,5}}"
)

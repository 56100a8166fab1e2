"""What the schemas say to others: the JSON Schema for editors, and the reference page for people."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any, Final

from instar.definition.machine import MACHINE
from instar.definition.schema import DEFINITION
from instar.definition.section import REQUIRED, Key, Section
from instar.definition.shapes import Either, ListOf, MapOf, Shape

_FOLDER: Final = Path(__file__).parent

_INTRODUCTION: Final = """\
# The definition: `instar.yaml`

<!-- Generated from src/instar/definition by .venv/bin/python -m instar.definition.published > docs/definition.md -->

One file says what an image is made of, how an instance of it runs, and where. `instar init` writes one that works as
it is, `instar validate` checks one, and `instar schema` prints its JSON Schema, which editors take to complete keys
and to mark mistakes.

Here is one with nearly every key. Only `name`, `image.base` and `service.command` have to be there.

```yaml
{example}```

## How it is read

- **Strictly.** An unknown key, a value of the wrong kind and a key that stands twice are errors with line and column.
  All are reported at once.
- **As plain YAML.** Text, numbers, lists and sections; no anchors, aliases, tags or second documents. Only `true` and
  `false` are booleans: `yes`, `no`, `on` and `off` are texts, `22:22` is a text, and `0644` keeps its zero.
- **A text that looks like a number stands in quotes**, such as `"8080"` in a command. In `config` and `env` the quotes
  may be left out: a value is taken as it is written.
- **Times** are written with units: `500ms`, `2s`, `1m30s`, `1h`. **Sizes** too: `64K`, `256M`, `1G`, in steps of 1024.
- **Your own paths** begin in the definition's folder and stay in it. **Paths in the image** are absolute.
- **The definition, its lock, the requirements file and secrets are regular files**, no links to any: what root reads
  is in the folder, whoever may write there. What only root may read is not repeated in a message to anybody else. In
  `files`, a link is copied as a link.
- **A [secret](secrets.md) is a file beside the definition, one that age has encrypted, or from a source that the
  [machine's file](machine.md) names**: a file elsewhere, a command, or a variable.
- **The service is `name`, for every command.** `SERVICE/ENV` names an environment without a definition.
"""


_MACHINE_INTRODUCTION: Final = """\
# The machine's own file: `/etc/instar/config.yaml`

<!-- Generated from src/instar/definition: .venv/bin/python -m instar.definition.published machine >docs/machine.md -->

What root runs on this machine, and whom it tells, is the machine's business: a definition comes from whoever can
propose a change, and says nothing of it. It stands in one file of the machine, which need not be there:

```yaml
{example}```

It is read as strictly as a [definition](definition.md#how-it-is-read): an unknown key, a value of the wrong kind, a key
that stands twice and a YAML alias are errors with line and column, told by every command that reads the file.
`instar doctor` shows what the file sets, `instar schema --machine` prints its JSON Schema. A command reads it each
time, the agent when it starts, and on SIGHUP: `sudo systemctl reload instar-agent` after a change. One that has an
error in it, or names a ledger that is out of reach or an address for metrics that something else listens on, is refused
then, with a message in the agent's log, and the agent goes on with what it had.

- **Only who is root decides what root runs.** The file and its folder belong to root, and nobody else may write to
  them; otherwise it is refused. Without root, one that belongs to whoever runs the command is read too. A link is
  refused.
- **An option of the command line wins**, key by key.
- **`INSTAR_CONFIG=FILE`** names another file, which then has to be there. With `INSTAR_HOME` set it is
  `$INSTAR_HOME/config.yaml`: what is kept apart has settings of its own.
- **`indexes`** are what a definition refers to by name alone: it says what comes from `internal`, and this file where
  that is and who may ask. A password stands in a file of its own (`chmod 600`; a group that locks without root may read
  it). It goes to that address and to no other, and is in no definition, lock, image, message or list of processes.
- **`secrets`** are what a definition takes by name alone, `secrets: {{TOKEN: {{source: vault}}}}`: it says that the
  token comes from `vault`, and this file what that is. So no definition has root run a command or read a file. Any
  definition that is deployed from this machine may take any source, unless `environments` says which may. A source is
  read when a release is made (by `deploy` twice, before the bake and after it) and when one is planned, and never
  again: what runs, a rollback and the agent have what is kept of it. When it fails, nothing is begun, and what runs
  goes on.
  - A `command` has a clean environment (a fixed PATH and no HOME: `[env, HOME=/root, pass, show, shop]` where it needs
    one) and no input, prints at most 64 KiB of UTF-8, and is killed with its children after `timeout`. Line ends at
    the end are taken off, nothing else. What it prints, on either stream, is in no message.
  - A `file` is taken as it is, of at most 1 MiB. A link is refused, and one that everybody may read.
  - A `variable` is the caller's: `sudo --preserve-env=SHOP_TOKEN instar deploy dev`.
- **`age`** says which identities read [secrets that are encrypted in git](secrets.md#in-git), besides the caller's own.
- **`commands`** that definitions refer to by name come with what uses them. Until then they are refused, like any key
  that would do nothing.
"""


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of a definition. Source: JSON Schema, draft 2020-12."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "instar.yaml",
        "description": "The definition of a service: what its image is made of, how it runs, and where.",
        **DEFINITION.json_schema(),
    }


def machine_json_schema() -> dict[str, Any]:
    """Return the JSON Schema of the machine's own file."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "/etc/instar/config.yaml",
        "description": "What is the machine's business and no definition's.",
        **MACHINE.json_schema(),
    }


def reference() -> str:
    """Return the reference page as Markdown: the annotated example, the rules of reading, and a table a section."""
    return _page(_INTRODUCTION, "example.yaml", DEFINITION)


def machine_reference() -> str:
    """Return the same of the machine's own file."""
    return _page(_MACHINE_INTRODUCTION, "machine.yaml", MACHINE)


def _page(introduction: str, example: str, root: Section) -> str:
    parts = [introduction.format(example=(_FOLDER / example).read_text("utf-8"))]
    places: dict[Section, list[str]] = {}  # a section may be at several
    for path, section in root.sections():
        places.setdefault(section, []).append(path)
    return "\n".join([*parts, *(_table(paths, section) for section, paths in places.items())])


def _table(paths: list[str], section: Section) -> str:
    rows = "".join(_row(key) for key in section.keys.values())
    heading = ", ".join(f"`{path}`" if path else "Keys" for path in paths)
    return f"## {heading}\n\n| key | | value | default |\n| --- | --- | --- | --- |\n{rows}"


def _row(key: Key) -> str:
    cells = [f"`{key.name}`", key.about, _value(key.shape), _default(key)]
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |\n"


def _value(shape: Shape) -> str:
    """Return what can stand there, its examples as code."""
    if isinstance(shape, Section):
        return "section, below"
    if isinstance(shape, ListOf) and isinstance(shape.item, Section):
        return "list of sections, below"
    if isinstance(shape, MapOf) and isinstance(shape.value, Section):
        return "a section for each name, below"
    if isinstance(shape, Either):
        return " or ".join(_value(one) for one in shape.shapes)
    return re.sub(r"(?<!\w)'([^']+)'(?!\w)", r"`\1`", shape.expected)


def _default(key: Key) -> str:
    if key.default is REQUIRED:
        return "**required**"
    if key.default_about:
        return key.default_about
    if isinstance(key.default, bool | int | str):
        return f"`{_shown(key.shape.written(key.default))}`"
    return ""


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


if __name__ == "__main__":
    sys.stdout.write(machine_reference() if sys.argv[1:] == ["machine"] else reference())

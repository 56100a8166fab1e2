"""What the schemas say to others: the JSON Schema for editors, and the reference page for people."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any, Final

from instar.definition.composed import Either, ListOf, MapOf
from instar.definition.layers import OVERRIDABLE
from instar.definition.machine import MACHINE
from instar.definition.schema import DEFINITION
from instar.definition.section import REQUIRED, Key, Section
from instar.definition.shapes import Shape

_FOLDER: Final = Path(__file__).parent

_OVERRIDDEN: Final = rf"environments\.NAME\.(?:roles\.NAME\.)?(?:{'|'.join(OVERRIDABLE)})(?:\.|$)"
_INTRODUCTION: Final = """\
# The definition: `instar.yaml`

<!-- Generated from src/instar/definition by .venv/bin/python -m instar.definition.published > docs/definition.md -->

One file says what an image is made of, how an instance of it runs, and where. `instar init` writes one that works as
it is, and `instar validate` checks one. Editors complete keys and mark mistakes by its JSON Schema, which `init` writes
beside it: `instar schema >instar.schema.json`, again after an upgrade, and one line at the top of `instar.yaml`:

```yaml
# yaml-language-server: $schema=instar.schema.json
```

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

## Which value holds

What is about running need not be written for each environment again. From the lowest up hold: `service` (or the role),
then `defaults`, then the environment. `instar config ENV` says of each value where it comes from.

```yaml
service:
  command: [./shop]
  port: 8080
  limits: {{memory: 256M, cpus: 1.0}}

defaults:                            # every environment's, as if it stood in each
  limits: {{memory: 512M}}
  config: {{LEVEL: info, TRACE: "1"}}

environments:
  dev:
    listen: 127.0.0.1:8080
    config_file: dev.env
    config: {{LEVEL: debug, TRACE: null}}
  production:
    listen: 127.0.0.1:8090
    limits: {{memory: 2G}}             # and cpus: 1.0, which is the service's
```

- **Sections are merged key by key, roles by their names; lists, a secret and all else are replaced.** `null` takes away
  what is said below, so that the usual value holds; where nothing is said below it is an error. Of the ways to know an
  instance's health, the upper one stands for the others.
- **An environment, and `defaults`, can have `command`, `health`, `timeouts`, `stop`, `limits`, `volumes`, `tmp` and
  `shm` of their own**; where there are several roles, each under `roles.NAME`. All else of a service is the same
  everywhere, as the image is, and another one here is an error. A change makes a new release, as it does in `service`.
  A promotion brings the image and how it ran, with what the environment that it goes to overrides.
- **`defaults` has the keys of an environment**, besides `listen` and `promote_from`. A section of a provider in it is
  for the environments of that provider.
- **`config_file` names a `.env` file beside the definition**, below the `config` that it stands beside and above
  `defaults`: `NAME=VALUE` a line, comments after `#`, values in quotes if one likes (in double ones `\\n`).
  Nothing is put in the place of `$NAME`: outside of single quotes that is refused, as is everything else that the forms
  do not have, with line and column. The environment of whoever deploys is never read.
- **Configuration is no secret.** `instar config`, `diff` and the ledger show what a `.env` file says. No image gets the
  file, but what is secret stands in `secrets`, one file each.
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
  - A `command` is called in `/`, with a clean environment (a fixed PATH and no HOME: `[env, HOME=/root, pass, show,
    shop]` where it needs one) and no input, prints at most 64 KiB of UTF-8, and is killed with its children after
    `timeout`. Line ends at the end are taken off, nothing else. What it prints, on either stream, is in no message.
  - A `file` is taken as it is, of at most 1 MiB. A link is refused, and one that everybody may read.
  - A `variable` is the caller's: `sudo --preserve-env=SHOP_TOKEN instar deploy dev`.
- **`age`** says which identities read [secrets that are encrypted in git](secrets.md#in-git), besides the caller's own.
- **`logs.ship`** says where the agent [ships logs](logs.md).
- **`readers`** names a group of users who [may look without root](readers.md), through the agent.
- **`commands`** that definitions refer to by name come with what uses them. Until then they are refused, like any key
  that would do nothing.
"""


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of a definition. Source: JSON Schema, draft 2020-12."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "instar.yaml",
        "description": "The definition of a service: what its image is made of, how it runs, and where.",
        **_layered(DEFINITION.json_schema()),
    }


def _layered(schema: dict[str, Any]) -> dict[str, Any]:
    """Let ``null`` stand for what an environment takes away, and sections of it leave out what is said below."""
    properties = schema["properties"]
    whole = [properties["defaults"], properties["environments"]["additionalProperties"]]
    for one in whole:
        _let_null(one)
    return schema


def _let_null(schema: dict[str, Any]) -> None:
    schema.pop("required", None)
    more = schema.get("additionalProperties")
    inner = {**schema.get("properties", {}), **({"": more} if isinstance(more, dict) else {})}
    for name, one in inner.items():
        _let_null(one)
        for either in one.get("anyOf", ()):
            _let_null(either)
        if "anyOf" in one:
            one["anyOf"].append({"type": "null"})
        elif "enum" in one:
            one["enum"] = [*one["enum"], None]
        elif "type" in one:
            one["type"] = [*([one["type"]] if isinstance(one["type"], str) else one["type"]), "null"]
        elif not name:
            schema["additionalProperties"] = {"anyOf": [one, {"type": "null"}]}


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
        if path.startswith("defaults") or re.match(_OVERRIDDEN, path):
            continue  # which are said of environments, and of the service
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

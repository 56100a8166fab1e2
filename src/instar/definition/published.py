"""What the schema says to others: the JSON Schema for editors, and the reference page for people."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any, Final

from instar.definition.schema import DEFINITION
from instar.definition.section import REQUIRED, Key, Section
from instar.definition.shapes import Either, ListOf, MapOf, Shape

_EXAMPLE: Final = Path(__file__).parent / "example.yaml"

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
- **The service is `name`, for every command.** `SERVICE/ENV` names an environment without a definition.
"""


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of a definition. Source: JSON Schema, draft 2020-12."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "instar.yaml",
        "description": "The definition of a service: what its image is made of, how it runs, and where.",
        **DEFINITION.json_schema(),
    }


def reference() -> str:
    """Return the reference page as Markdown: the annotated example, the rules of reading, and a table a section."""
    parts = [_INTRODUCTION.format(example=_EXAMPLE.read_text("utf-8"))]
    places: dict[Section, list[str]] = {}  # a section may be at several
    for path, section in DEFINITION.sections():
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
    sys.stdout.write(reference())

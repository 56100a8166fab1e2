"""Hold files and functions to the sizes of the project's style, and ``__init__.py`` to re-exports.

A file is one noun and a function one thought; one that has grown past the limit is two.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

FILE_LINES = 440
FUNCTION_LINES = 40


def problems(path: Path) -> Iterator[str]:
    """Yield what is too long in one file, each as ``file:line: what``."""
    text = path.read_text()
    tree = ast.parse(text)
    lines = text.count("\n")
    if lines > FILE_LINES:
        yield f"{path}:1: {lines} lines, more than {FILE_LINES}: it is two nouns"
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = body_lines(node)
            if length > FUNCTION_LINES:
                yield f"{path}:{node.lineno}: {node.name} has {length} lines, more than {FUNCTION_LINES}"
    if path.name == "__init__.py":
        yield from (
            f"{path}:{node.lineno}: more than re-exports in an __init__.py"
            for node in tree.body
            if not is_reexport(node)
        )


def body_lines(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Count a function's lines without its signature and its docstring."""
    first = node.body[1 if ast.get_docstring(node) is not None and len(node.body) > 1 else 0]
    return (node.end_lineno or first.lineno) - first.lineno + 1


def is_reexport(node: ast.stmt) -> bool:
    """Say whether a statement only brings names in: now, for the type checker, or when they are asked for."""
    if isinstance(node, ast.If):
        return isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
    if isinstance(node, ast.FunctionDef):
        return node.name == "__getattr__"
    return isinstance(node, ast.Import | ast.ImportFrom | ast.Assign | ast.Expr)


def main(folders: list[str]) -> int:
    files = sorted(path for folder in folders for path in Path(folder).rglob("*.py"))
    found = [problem for path in files for problem in problems(path)]
    print("\n".join(found), end="\n" if found else "")
    return 1 if found or not files else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

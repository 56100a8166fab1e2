"""What is wrong with a definition, gathered until all of it has been read, so that a person sees everything at once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from instar.errors import DefinitionError, MachineFileError, Problem

Mark = tuple[int, int]  # line and column in the file, each from 1

MESSAGE_LIMIT = 500  # characters
LIMIT = 100  # nobody reads more, and a file of rubbish must not take minutes to be refused


class Problems:
    """The problems of one file: a definition, or the machine's own. Never raises while they are gathered."""

    def __init__(self, file: str, *, of_machine: bool = False) -> None:
        self.file = file
        self.noun = "machine's file" if of_machine else "definition"
        self._error = MachineFileError if of_machine else DefinitionError
        self._found: set[tuple[int, int, str]] = set()

    def __len__(self) -> int:
        return len(self._found)

    def __iter__(self) -> Iterator[tuple[Mark, str]]:
        """Yield each place with what is wrong there, in their order."""
        for line, column, message in sorted(self._found):
            yield (line, column), message

    @property
    def full(self) -> bool:
        """So many that it is of no use to look for more."""
        return len(self._found) >= LIMIT

    def add(self, mark: Mark, message: str) -> None:
        """Note what is wrong at ``mark``. The message may repeat what the file says: it is made fit to be printed."""
        if not self.full:
            self._found.add((*mark, shortened(message, MESSAGE_LIMIT)))

    def error(self, *, hint: str | None = None) -> DefinitionError:
        """Return all of them as one error, in the order of their places."""
        ordered = [
            Problem(file=self.file, line=line, column=column, message=message)
            for line, column, message in sorted(self._found)
        ]
        return self._error(ordered, hint=hint)


def nearest(word: str, words: Iterable[str], *, cutoff: float = 0.6) -> str | None:
    """Return the one of ``words`` that was probably meant, or None when none is near (1: the same)."""
    import difflib  # only a mistake pays for it

    by_lower = {known.lower(): known for known in words}
    found = difflib.get_close_matches(word.lower()[:60], by_lower, n=1, cutoff=cutoff)
    return by_lower[found[0]] if found else None


def shortened(text: str, limit: int) -> str:
    """Return ``text`` in one line that a terminal shows as it is, with at most ``limit`` of its characters."""
    shown = "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text[:limit])
    return shown + "…" if len(text) > limit else shown


def listed(words: Iterable[str], last: str = "or") -> str:
    """Return ``words`` as one reads them: "a, b or c"."""
    known = list(words)
    return f"{', '.join(known[:-1])} {last} {known[-1]}" if len(known) > 1 else "".join(known)

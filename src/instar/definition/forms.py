"""The forms that a text in the definition can have: each turns what was written into a value, or says what is wrong.

A form takes the text and returns the value; it raises :class:`Misfit`, whose message, if any, is advice that goes
behind "expected …, found …".
"""

from __future__ import annotations

import re
from datetime import date
from typing import Final

from instar.definition.problems import nearest
from instar.model import names

NAME: Final = names.NAME.pattern
VARIABLE: Final = r"[A-Za-z_][A-Za-z0-9_]{0,252}"  # as long as a cluster's key of such a name may be
USER: Final = r"[a-z_][a-z0-9_-]{0,30}"
SUITE: Final = r"[a-z0-9][A-Za-z0-9.-]{0,60}"
PACKAGE: Final = r"[a-z0-9][a-z0-9+.-]*[a-z0-9+.](=[0-9A-Za-z][0-9A-Za-z.+:~-]*\*?)?"
NPM_PACKAGE: Final = r"(@[A-Za-z0-9~-][A-Za-z0-9._~-]*/)?[A-Za-z0-9~_-][A-Za-z0-9._~-]*"
SHA256: Final = r"[0-9A-Fa-f]{64}"
URL: Final = r"https?://[A-Za-z0-9\[][!-~]*"
DURATION: Final = r"(?=\d)(\d{1,9}h)?(\d{1,9}m)?(\d{1,9}s)?(\d{1,9}ms)?"
SIZE: Final = r"(\d{1,13})([KMGT])i?"
MODE: Final = r"(?:0|0o)?([0-7]{3})"
HEALTH_PATH: Final = r"/[A-Za-z0-9/._~!*()@:&=+,%?-]*"
MEDIA_TYPE: Final = r"[a-z0-9]{1,60}/[a-z0-9.+-]{1,80}"
MANUAL: Final = "manual"
NEVER: Final = "never"
DAY: Final = r"\d{4}-\d{2}-\d{2}"

_LONGEST_VARIABLE: Final = 253
LONGEST_DURATION_MS: Final = 24 * 24 * 3_600_000  # HAProxy counts milliseconds in 31 bits
LONGEST_AGE_MS: Final = 366 * 24 * 3_600_000
LARGEST_SIZE_BYTES: Final = 1 << 50

_UNIT_MS = {"h": 3_600_000, "m": 60_000, "s": 1_000, "ms": 1}
_UNIT_BYTES = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


class Misfit(ValueError):
    """The text has not the form that is expected. Its message is advice, and may be empty."""


class SecretMisfit(Misfit):
    """The same of a text that holds a secret, which no message repeats."""


def fits(pattern: str, text: str) -> re.Match[str] | None:
    return re.fullmatch(pattern, text, re.ASCII)


def name(text: str) -> str:
    """A name of a service, an environment or a volume: it becomes part of host names and of paths."""
    if not fits(NAME, text):
        raise Misfit
    return text


def variable(text: str) -> str:
    if not fits(VARIABLE, text):
        raise Misfit("it is too long" if len(text) > _LONGEST_VARIABLE else "")
    return text


def word(text: str) -> str:
    """One word of a command, or a whole line: anything but nothing."""
    if not text.strip():
        raise Misfit
    return text


def exclude(text: str) -> str:
    """A pattern of .gitignore's that can match something."""
    from instar.model import patterns

    try:
        patterns.read(word(text))
    except patterns.NoPattern as error:
        raise Misfit(str(error)) from None
    return text


def words(text: str) -> list[str]:
    """Return the words of a command as items of a YAML list; [] when only a shell could tell them apart."""
    if not fits(r"[A-Za-z0-9_./=:,@%+ -]+", text):
        return []
    return [part if reads_as_text(part) else f'"{part}"' for part in text.split()]


def listed_words(text: str) -> list[str]:
    """Return like ``words`` the items of a list that was written as one text: 'a b', 'a, b' or 'a,b'."""
    return words(re.sub(r",+(\s|$)", " ", text) if re.search(r"\s", text) else text.replace(",", " "))


def package(text: str) -> str:
    if fits(PACKAGE, text):
        return text
    plain, colon, _ = text.partition(":")
    if colon and fits(PACKAGE, plain) and "=" not in plain:
        raise Misfit(f"packages are of this machine's own architecture; write '{plain}'")
    plain, slash, _ = text.partition("/")
    if slash and fits(PACKAGE, plain):
        raise Misfit(f"the suite is that of 'base', or one of 'suites'; write '{plain}'")
    if fits(PACKAGE, text.lower()):
        raise Misfit(f"names of packages are lower-case; write '{text.lower()}'")
    raise Misfit


def suite(text: str) -> str:
    if not fits(SUITE, text):
        raise Misfit
    return text


def npm_package(text: str) -> str:
    if not fits(NPM_PACKAGE, text):
        raise Misfit("write it without its version" if fits(rf"{NPM_PACKAGE}@.+", text) else "")
    return text


def sha256(text: str) -> str:
    if not fits(SHA256, text):
        raise Misfit(f"it has {len(text)} characters" if fits("[0-9A-Fa-f]+", text) else "")
    return text.lower()


def url(text: str) -> str:
    if not fits(URL, text):
        raise Misfit
    return text


def inside(text: str) -> str:
    """An absolute path in the image, as it is written when nothing is left to resolve in it."""
    if not text.startswith("/"):
        raise Misfit(f"it begins with '/'; did you mean '/{text}'?" if _clean(text) else "")
    if _control(text):
        raise Misfit("there is a control character in it")
    parts = [part for part in text.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise Misfit("write it without '..'")
    if text != "/" + "/".join(parts):
        raise Misfit(f"write it as '/{'/'.join(parts)}'")
    if len(text.encode()) > 4000 or any(len(part.encode()) > 255 for part in parts):
        raise Misfit("it is too long")
    return text


def author_path(text: str) -> str:
    """A path of the author's, relative to the definition's folder and not leading out of it. "." is the folder."""
    if _control(text) or not text:
        raise Misfit("there is a control character in it" if text else "")
    if text.startswith("/"):
        raise Misfit("a definition names files of its own folder: copy it there")
    parts = [part for part in text.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise Misfit("it leads out of the definition's folder")
    return "/".join(parts) or "."


def secret_file(text: str) -> str:
    """A secret's file: a definition comes from a colleague, and must not choose a file of the machine's."""
    if text.startswith("/"):
        raise Misfit("a definition reads no file of the machine's: copy it beside the definition, and out of git")
    return author_path(text)


def duration(text: str) -> int:
    """Return milliseconds of "500ms", "2s", "1m30s", "1h"."""
    return _milliseconds(text, LONGEST_DURATION_MS)


def age(text: str) -> int:
    """Return milliseconds of a time that nothing but Instar counts: it may be longer than a duration."""
    return _milliseconds(text, LONGEST_AGE_MS)


def pause(text: str) -> int | None:
    """Return milliseconds of a duration, None for a pause that ends when somebody says so."""
    if text == MANUAL:
        return None
    if fits(r"[A-Za-z]+", text) and nearest(text, [MANUAL]):
        raise Misfit(f"did you mean '{MANUAL}'?")
    return duration(text)


def show_pause(ms: int | None) -> str:
    return MANUAL if ms is None else show_duration(ms)


def interval(text: str) -> int | None:
    """Return milliseconds of a duration, None for what is never to happen."""
    return None if text == NEVER else duration(text)


def show_interval(ms: int | None) -> str:
    return NEVER if ms is None else show_duration(ms)


def day(text: str) -> str:
    """A day of the calendar, as it is written."""
    if not fits(DAY, text):
        raise Misfit
    try:
        date.fromisoformat(text)
    except ValueError:
        raise Misfit("there is no such day") from None
    return text


def _milliseconds(text: str, longest: int) -> int:
    found = fits(DURATION, text)
    if not found:
        days = fits(r"(\d{1,4})d", text)
        missing = f"a unit is missing; did you mean '{text}s'?" if fits(r"\d{1,9}", text) else ""
        raise Misfit(f"days are written in hours; write '{int(days[1]) * 24}h'" if days else missing)
    total = sum(
        int(part[: -len(unit)]) * ms for part, (unit, ms) in zip(found.groups(), _UNIT_MS.items(), strict=True) if part
    )
    if total == 0:
        raise Misfit("it has to be longer than nothing")
    if total > longest:
        raise Misfit(f"the longest is {longest // _UNIT_MS['h']}h")
    return total


def show_duration(ms: int) -> str:
    """Return the text that :func:`duration` turns into ``ms``; of none "0s", which nobody writes."""
    shown = ""
    for unit, each in _UNIT_MS.items():
        count, ms = divmod(ms, each)
        shown += f"{count}{unit}" if count else ""
    return shown or "0s"


def size(text: str) -> int:
    """Return bytes of "64K", "256M", "1G" (binary multiples)."""
    found = fits(SIZE, text)
    if not found:
        as_others_write = fits(r"(\d{1,13}) ?([KMGTkmgt])(i?[Bb])?", text)
        if as_others_write:
            raise Misfit(f"write '{as_others_write[1]}{as_others_write[2].upper()}'")
        if fits(r"0{1,9}", text):
            raise Misfit("it has to be more than nothing")
        raise Misfit(f"a unit is missing; did you mean '{text}M'?" if fits(r"\d{1,9}", text) else "")
    total = int(found[1]) * _UNIT_BYTES[found[2]]
    if total > LARGEST_SIZE_BYTES:
        raise Misfit("the largest is 1024T")
    return total


def show_size(size_bytes: int) -> str:
    """Return the text that :func:`size` turns into ``size_bytes`` (whole kibibytes)."""
    for unit, each in reversed(_UNIT_BYTES.items()):
        if size_bytes and size_bytes % each == 0:
            return f"{size_bytes // each}{unit}"
    return f"{size_bytes // 1024}K"


def mode(text: str) -> int:
    """Return permission bits of "644", "0644" or "0o644"."""
    found = fits(MODE, text)
    if not found:
        raise Misfit("bits beyond these (set-user-ID and such) do nothing in an instance" if _special(text) else "")
    return int(found[1], 8)


def owner(text: str) -> str:
    if not fits(USER, text) and not fits(r"\d{1,5}:\d{1,5}", text):
        raise Misfit
    return text


def user_name(text: str) -> str:
    if text == "root":
        raise Misfit("instances never run as root")
    if not fits(USER, text):
        raise Misfit
    return text


def health_path(text: str) -> str:
    if not text.startswith("/"):
        raise Misfit(f"did you mean '/{text}'?" if fits(HEALTH_PATH, "/" + text) else "")
    if not fits(HEALTH_PATH, text):
        raise Misfit("letters, digits and /._~!*()@:&=+,%?- can stand in it; write others as %XX")
    return text


def media_type(text: str) -> str:
    """A type of answers as ``Content-Type`` begins with it, in small letters."""
    if not fits(MEDIA_TYPE, text):
        better = text.partition(";")[0].strip().lower()
        raise Misfit(f"did you mean '{better}'?" if better != text and fits(MEDIA_TYPE, better) else "")
    return text


def percent(text: str) -> str:
    """Return advice for what was written where a percentage is expected."""
    if fits(r"\d{1,3}(\.\d+)? ?%", text):
        return "write it without '%'"
    return "the last step, to 100 %, comes by itself; remove it" if text == "100" else ""


def thousandths(text: str) -> str:
    """Return advice for what was written where a number with decimals is expected: 200m, as Kubernetes has it."""
    return f"write {int(text[:-1]) / 1000:g}" if fits(r"\d{1,7}m", text) else ""


def _clean(text: str) -> bool:
    return bool(text) and ".." not in text and not _control(text)


def reads_as_text(word: str) -> bool:
    """Whether YAML takes it for a text without quotes."""
    return word not in ("true", "false", "null") and bool(fits(r"(-{1,2}|\./)?[A-Za-z_/][A-Za-z0-9_./=+-]*", word))


def _control(text: str) -> bool:
    return any(character < " " or "\x7f" <= character <= "\x9f" for character in text)


def _special(text: str) -> bool:
    return bool(fits(r"(0o)?0?[1-7][0-7]{3}", text))

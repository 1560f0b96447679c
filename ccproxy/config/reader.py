"""
Typed reading of one env file or of the process environment; all mistakes at once.

python-dotenv parses, without interpolation: quotes, comments, `export`, `INFO # comment`. Its
parser knows the lines, which `dotenv_values` does not tell.
"""

from __future__ import annotations

import io
import os
import re
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import TypeVar

from dotenv.parser import Binding, parse_stream

from ccproxy.config.fleet import Entry, shown
from ccproxy.config.parsers import without_keys
from ccproxy.config.settings import HEADER_PREFIX, NAMES, PROVIDER_API_KEY, Setting
from ccproxy.errors import Mistake

T = TypeVar("T")

_OPEN_QUOTE = re.compile(r"""\s*(?:export\s+)?(\w+)\s*=\s*(["'])(?!.*\2)""")
"""A name, and a quote that is not closed on its line."""

ENVIRONMENT = Path("(environment)")
"""Stands for the file's name in mistakes of the process environment."""

# Names from other tools for what we call otherwise.
_OTHER_WORDS = {
    "MODEL": "BIG_MODEL",
    "OPUS_MODEL": "BIG_MODEL",
    "LARGE_MODEL": "BIG_MODEL",
    "SONNET_MODEL": "MIDDLE_MODEL",
    "MEDIUM_MODEL": "MIDDLE_MODEL",
    "HAIKU_MODEL": "SMALL_MODEL",
    "PROVIDER_KEY": "PROVIDER_API_KEY",
    "PROVIDER_MODEL": "BIG_MODEL",
    "PROVIDER_NAME": "PROVIDER",
    "PROVIDER_PROXY": "UPSTREAM_PROXY",
    "PROVIDER_TIMEOUT": "REQUEST_TIMEOUT",
    "PROVIDER_TOKEN": "PROVIDER_API_KEY",
    "PROVIDER_URL": "PROVIDER_BASE_URL",
    "CUSTOM_HEADERS": f"{HEADER_PREFIX}<NAME>",
    "CUSTOM_HEADER": f"{HEADER_PREFIX}<NAME>",
}


@dataclass(frozen=True, slots=True)
class Given:
    """A value, and where it was found."""

    name: str
    value: str
    line: int | None


class EnvReader:
    """
    Reads settings and collects what is wrong with them.

    Made per load, used once. Nothing is raised: whoever loads decides when to.
    """

    def __init__(self, file: Path, values: Mapping[str, Given]) -> None:
        self.file = file
        self.mistakes: list[Mistake] = []
        self.is_read = True
        """False: there is no file, or none that can be read."""
        self.is_whole = True
        """False: of a line at least nobody knows what it sets."""
        self._values = values

    def given(self, setting: Setting[T]) -> Given | None:
        """Find what the user wrote for *setting*; an empty value counts as not given."""
        found = (self._values.get(name) for name in setting.names)
        return next((one for one in found if one is not None and one.value.strip()), None)

    def read(self, setting: Setting[T]) -> T | None:
        """Read *setting*; None if it is not given, or wrong, which is noted."""
        given = self.given(setting)
        if given is None:
            return None
        try:
            return setting.parse(given.value.strip())
        except ValueError as error:
            fix = f"write for example {given.name}={setting.example}"
            self.note(given, f"{given.name} {error}", fix=fix)
            return None

    def prefixed(self, prefix: str) -> Iterator[Given]:
        """Return every value whose name begins with *prefix*, in the order of the file."""
        return (one for name, one in self._values.items() if name.startswith(prefix))

    def note(self, where: Given | None, text: str, *, fix: str) -> None:
        """Note a mistake; *where* None means the file as a whole. No key is quoted."""
        line = where.line if where else None
        text, fix = without_keys(text), without_keys(fix)
        mistake = Mistake(file=shown(self.file), line=line, text=text, fix=fix)
        if mistake not in self.mistakes:  # a setting may be read for two reasons
            self.mistakes.append(mistake)

    def note_absence(
        self, setting: Setting[T], why: str, *, near: Given | None, value: str
    ) -> None:
        """
        Note that *setting* is wanted: where it stands without a value, else *near* the reason.

        It is not said to be missing while a line cannot be read: it may stand there.
        """
        found = (self._values.get(name) for name in setting.names)
        if (empty := next(filter(None, found), None)) is not None:
            text = f"{empty.name} is empty: {why}"
            self.note(empty, text, fix=f"fill it: {empty.name}={value}")
        elif self.is_whole:
            name = setting.names[0]
            self.note(near, f"{name} is missing: {why}", fix=f"add {name}={value}")

    def check_names(self) -> None:
        """Note every name that is not a setting but looks like one. Others are not ours."""
        for name, given in self._values.items():
            if name in NAMES or name.startswith(HEADER_PREFIX):
                continue
            if (meant := _meant(name)) is not None:
                text = f"{name} is not a setting (did you mean {meant}?)"
                self.note(given, text, fix=f"rename it to {meant}, or remove it")


def read_file(file: Path, *, entry: Entry | None) -> EnvReader:
    """Open the env *file* of *entry*; what cannot be read is noted as a mistake."""
    values: dict[str, Given] = {}
    places: dict[str, list[Given]] = {}
    reader = EnvReader(file, values)
    reader.is_read = False
    try:
        content = file.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        reader.mistakes.append(_missing(file, entry))
    except OSError as error:
        reader.note(None, f"cannot be read: {error.strerror}", fix="make it a file of your own")
    except UnicodeDecodeError:
        reader.note(None, "is not UTF-8 text", fix="save it as UTF-8")
    else:
        reader.is_read = True
        for given in _values(content, reader):
            places.setdefault(given.name, []).append(given)
        reader.is_whole = not reader.mistakes
        values.update({name: _chosen(found, reader) for name, found in places.items()})
    return reader


def read_environment(environ: Mapping[str, str]) -> EnvReader:
    """Take our settings, and nothing else, out of the process environment."""
    ours = {
        name: Given(name, value, None)
        for name, value in environ.items()
        if name in NAMES or name.startswith(HEADER_PREFIX)
    }
    return EnvReader(ENVIRONMENT, ours)


def is_open_to_others(file: Path) -> bool:
    """Whether anybody but the owner may read or write *file* (CWE-732)."""
    if os.name == "nt":
        return False
    return bool(stat.S_IMODE(file.stat().st_mode) & 0o077)


def _missing(file: Path, entry: Entry | None) -> Mistake:
    """Say that *file* does not exist, in the place that names it."""
    example = file.with_name(f"{file.name}.example")
    fix = f"cp {shown(example)} {shown(file)}" if example.is_file() else f"create {shown(file)}"
    if entry is None or entry.table is None:
        return Mistake(file=shown(file), line=None, text="this env file does not exist", fix=fix)
    text = f'the env file "{shown(file)}" of {entry.label} does not exist'
    return Mistake(file=shown(entry.table), line=entry.line, text=text, fix=fix)


def _values(content: str, reader: EnvReader) -> Iterator[Given]:
    for binding in parse_stream(io.StringIO(content)):
        place = Given(binding.key or "", binding.value or "", _line(binding))
        if binding.error:
            _note_broken(binding, place, reader)
        elif binding.key is None:
            continue
        elif binding.value is None and binding.key in NAMES:
            text = f"{binding.key} has no value"
            reader.note(place, text, fix=f"write {binding.key}=value, or remove the line")
        elif binding.value is not None:
            yield place


def _note_broken(binding: Binding, place: Given, reader: EnvReader) -> None:
    """Say what is wrong with a line that is no setting, and which lines it takes with it."""
    written = binding.original.string.strip().splitlines()
    quote = _OPEN_QUOTE.match(written[0])
    if quote is None:
        reader.note(place, "this line is not NAME=value", fix="check its quotes, or remove it")
        return
    text = f"the quote of {quote[1]} is not closed"
    if place.line is not None and len(written) > 1:
        text += f": what follows it was not read, to line {place.line + len(written) - 1}"
    reader.note(place, text, fix=f"close it: {quote[1]}={quote[2]}…{quote[2]}")


def _chosen(found: Sequence[Given], reader: EnvReader) -> Given:
    """Return the last of the places with one name; note it if several of them say something."""
    said = [given for given in found if given.value.strip()]
    name = found[0].name
    if len(said) > 1 and (name in NAMES or name.startswith(HEADER_PREFIX)):
        *lines, last = (str(given.line) for given in said)
        times = "twice" if len(said) == 2 else f"{len(said)} times"
        text = f"{name} is given {times} (lines {', '.join(lines)} and {last})"
        several = "; several keys go on one line, split by commas" * (
            name in PROVIDER_API_KEY.names
        )
        reader.note(said[-1], text, fix=f"keep one{several}")
    return (said or found)[-1]


def _line(binding: Binding) -> int:
    # A binding begins with the blank lines above it.
    written = binding.original.string
    above = written[: len(written) - len(written.lstrip())]
    return binding.original.line + above.count("\n")


def _meant(name: str) -> str | None:
    upper = name.upper()
    if upper in NAMES:
        return upper
    if upper in _OTHER_WORDS:
        return _OTHER_WORDS[upper]
    if upper.startswith(HEADER_PREFIX):
        return upper
    # The names of other vendors' keys are alike by nature (XAI_API_KEY, OPENAI_API_KEY).
    cutoff = 0.85 if upper.endswith("_API_KEY") else 0.8
    if upper.startswith("PROVIDER_"):
        cutoff = 0.0  # nobody else's: it must be one of ours
    close = get_close_matches(upper, sorted(NAMES), n=1, cutoff=cutoff)
    return close[0] if close else None

"""
Reads typed settings from an env file or the process environment, and collects every mistake.

python-dotenv parses the file without interpolation: quotes, comments, `export`, `INFO # comment`.
Its parser is used directly because `dotenv_values` does not return line numbers.
"""

from __future__ import annotations

import io
import os
import re
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TypeVar

from dotenv.parser import Binding, parse_stream

from ccproxy.config.fleet import Entry
from ccproxy.config.parsers import hide_keys
from ccproxy.config.settings import (
    HEADER_PREFIX,
    NAMES,
    PROVIDER_API_KEY,
    Setting,
    is_setting,
)
from ccproxy.errors import Mistake
from ccproxy.files import display_path, expand_home, read_regular
from ccproxy.text import closest

T = TypeVar("T")
D = TypeVar("D")

_OPEN_QUOTE = re.compile(r"""\s*(?:export\s+)?(\w+)\s*=\s*(["'])(?!.*\2)""")
"""A name, and a quote that is not closed on its line."""

ENVIRONMENT = Path("(environment)")
"""The file name in mistakes about the process environment."""

# The names that settings have in other tools, and common guesses.
_SYNONYMS = {
    "BIG_MODEL": "MODEL OPUS_MODEL LARGE_MODEL PROVIDER_MODEL",
    "MIDDLE_MODEL": "SONNET_MODEL MEDIUM_MODEL",
    "SMALL_MODEL": "HAIKU_MODEL",
    "PROVIDER_API_KEY": "API_KEY API_KEYS OPENAI_KEY PROVIDER_KEY PROVIDER_TOKEN",
    "PROVIDER_BASE_URL": "API_BASE API_URL BASE_URL OPENAI_API_BASE ENDPOINT PROVIDER_URL",
    "PROVIDER_REGION": "REGION",
    "PROVIDER_PLAN": "PLAN",
    "REQUEST_TIMEOUT": "TIMEOUT TIMEOUT_SECONDS UPSTREAM_TIMEOUT PROVIDER_TIMEOUT",
    "MAX_RETRIES": "RETRIES RETRY",
    "LOG_LEVEL": "LOGLEVEL LOGGING",
    "HOST": "LISTEN BIND",
    "CONTEXT_WINDOW": "WINDOW CONTEXT_LENGTH",
    "KEY_PER_MINUTE": "RATE_LIMIT RPM",
    f"{HEADER_PREFIX}<NAME>": "HEADERS EXTRA_HEADERS",
    "PROVIDER": "PROVIDER_NAME",
    "UPSTREAM_PROXY": "PROVIDER_PROXY",
}
_OTHER_NAMES = {name: setting for setting, names in _SYNONYMS.items() for name in names.split()}
# A name that begins like CUSTOM_HEADER_, but with a different separator, number or case.
_NEAR_HEADER = re.compile(
    r"(?:EXTRA|CUSTOM|CUSTM|CUSTOMER|PROVIDER|UPSTREAM)[_-]?HEADE?RS?(?:[_-](?P<name>\w*))?",
    re.IGNORECASE,
)
_OTHER_TOOLS = re.compile(r".*_API_KEY|(?:ANTHROPIC|CLAUDE|OPENAI|AZURE_OPENAI|AWS|GOOGLE|npm)_.*")
"""Names of other programs, many of which resemble settings: only close matches are reported."""


@dataclass(frozen=True, slots=True)
class Value:
    """The text of a setting, and its line in the file."""

    name: str
    text: str
    line: int | None


class EnvReader:
    """
    Reads settings and collects the mistakes in them.

    Created per file and used once. Nothing is raised here; the caller raises when it is done.
    """

    def __init__(self, file: Path, values: Mapping[str, Value]) -> None:
        self.file = file
        self.mistakes: list[Mistake] = []
        self.is_read = True
        """False if the file does not exist or cannot be read."""
        self.is_whole = True
        """False if a line cannot be parsed, so that a missing setting might be on it."""
        self._values = values

    def value(self, setting: Setting[T, D]) -> Value | None:
        """Return the text of *setting*; None if it is not set or empty."""
        values = (self._values.get(name) for name in setting.names)
        return next((value for value in values if value is not None and value.text.strip()), None)

    def read(self, setting: Setting[T, D]) -> T | D:
        """Return the value of *setting*, or its default if it is not set; note an invalid value."""
        value = self.value(setting)
        if value is None:
            return setting.default
        try:
            return setting.parse(value.text.strip())
        except ValueError as error:
            fix = f"for example, write {value.name}={setting.example}"
            self.note(value, f"{value.name} {error}", fix=fix)
            return setting.default

    def prefixed(self, prefix: str) -> Iterator[Value]:
        """Return every value with a name that begins with *prefix*, in the order of the file."""
        return (value for name, value in self._values.items() if name.startswith(prefix))

    def check_extra(self, setting: Setting[T, D], module: str, extra: str) -> None:
        """Note a mistake if *setting* is used but *module*, of its *extra*, is not installed."""
        value = self.value(setting)
        if value is not None and find_spec(module) is None:
            text = f"{setting.name} needs a library that is not installed"
            self.note(value, text, fix=f"pip install 'ccproxy-fleet[{extra}]'")

    def path(self, text: str) -> Path:
        """
        Return *text* as a path; a relative one is resolved against the folder of the env file.

        Links are not resolved: renewing a certificate or a Kubernetes secret changes the target.
        """
        folder = self.file.parent.resolve()
        return Path(os.path.normpath(folder / expand_home(text.strip())))

    def note(
        self, value: Value | None, text: str, *, fix: str, is_exposed_file: bool = False
    ) -> None:
        """Record a mistake in *value*, or in the whole file if it is None. Keys are masked."""
        line = value.line if value else None
        text, fix = hide_keys(text), hide_keys(fix)
        mistake = Mistake(
            file=display_path(self.file),
            line=line,
            text=text,
            fix=fix,
            is_exposed_file=is_exposed_file,
        )
        if mistake not in self.mistakes:  # a setting may be read more than once
            self.mistakes.append(mistake)

    def note_absence(
        self, setting: Setting[T, D], reason: str, *, near: Value | None, example: str
    ) -> None:
        """
        Note that *setting* is required: at its empty line, otherwise at *near*.

        Nothing is noted while a line of the file cannot be parsed, because the setting may be on
        that line.
        """
        values = (self._values.get(name) for name in setting.names)
        if (empty := next(filter(None, values), None)) is not None:
            text = f"{empty.name} is empty: {reason}"
            self.note(empty, text, fix=f"give it a value: {empty.name}={example}")
        elif self.is_whole:
            name = setting.names[0]
            self.note(near, f"{name} is missing: {reason}", fix=f"add {name}={example}")

    def check_names(self) -> None:
        """Record every name that resembles a setting but is not one; other names are ignored."""
        for name, value in self._values.items():
            if is_setting(name):
                continue
            if (match := _intended_name(name)) is not None:
                text = f'{name} is not a setting (did you mean "{match}"?)'
                self.note(value, text, fix=f"rename it to {match}, or remove it")


def read_file(file: Path, *, entry: Entry | None) -> EnvReader:
    """Read the env *file* of *entry*; a file that cannot be read is noted as a mistake."""
    values: dict[str, Value] = {}
    occurrences: dict[str, list[Value]] = {}
    reader = EnvReader(file, values)
    reader.is_read = False
    try:
        content = read_regular(file, encoding="utf-8-sig")
    except FileNotFoundError:
        reader.mistakes.append(_missing_file(file, entry))
    except OSError as error:
        fix = f"make sure {display_path(file)} is a regular file that ccproxy can read"
        reader.note(None, f"cannot be read: {error.strerror}", fix=fix)
    except UnicodeDecodeError:
        reader.note(None, "is not UTF-8 text", fix="save it as UTF-8")
    else:
        reader.is_read = True
        for value in _parse(content, reader):
            occurrences.setdefault(value.name, []).append(value)
        reader.is_whole = not reader.mistakes
        values.update({name: _last(several, reader) for name, several in occurrences.items()})
    return reader


def read_environment(environ: Mapping[str, str]) -> EnvReader:
    """Read the settings of ccproxy, and no other variables, from the process environment."""
    values = {name: Value(name, text, None) for name, text in environ.items() if is_setting(name)}
    return EnvReader(ENVIRONMENT, values)


def is_open_to_others(file: Path) -> bool:
    """Return True if users other than the owner may read or write *file* (CWE-732)."""
    if os.name == "nt":
        return False
    return bool(stat.S_IMODE(file.stat().st_mode) & 0o077)


def _missing_file(file: Path, entry: Entry | None) -> Mistake:
    """Return the mistake for a missing *file*, at the line of the table that names it."""
    name = display_path(file)
    example = file.with_name(f"{file.name}.example")
    fix = f"cp {display_path(example)} {name}" if example.is_file() else f"create {name}"
    if entry is None or entry.table is None:
        return Mistake(file=name, line=None, text="this env file does not exist", fix=fix)
    text = f'the env file "{name}" of {entry.label} does not exist'
    return Mistake(file=display_path(entry.table), line=entry.line, text=text, fix=fix)


def _parse(content: str, reader: EnvReader) -> Iterator[Value]:
    for binding in parse_stream(io.StringIO(content)):
        value = Value(binding.key or "", binding.value or "", _line(binding))
        if binding.error:
            _note_broken_line(binding, value, reader)
        elif binding.key is None:
            continue
        elif binding.value is None and is_setting(binding.key):
            text = f"{binding.key} has no value"
            reader.note(value, text, fix=f"write {binding.key}=value, or remove the line")
        elif binding.value is not None:
            yield value


def _note_broken_line(binding: Binding, value: Value, reader: EnvReader) -> None:
    """Record the syntax error of a line, and the lines that are not read because of it."""
    lines = binding.original.string.strip().splitlines()
    quote = _OPEN_QUOTE.match(lines[0])
    if quote is None:
        reader.note(
            value, "this line is not NAME=value", fix="check the quotes on this line, or remove it"
        )
        return
    text = f"the quote of {quote[1]} is not closed"
    if value.line is not None and len(lines) > 1:
        text += f": the lines up to {value.line + len(lines) - 1} were not read"
    reader.note(value, text, fix=f"close it: {quote[1]}={quote[2]}…{quote[2]}")


def _last(values: Sequence[Value], reader: EnvReader) -> Value:
    """Return the last non-empty value of a name's *values*; note a mistake if there are several."""
    filled = [value for value in values if value.text.strip()]
    name = values[0].name
    if len(filled) > 1 and is_setting(name):
        *lines, last = (str(value.line) for value in filled)
        times = "twice" if len(filled) == 2 else f"{len(filled)} times"
        text = f"{name} is set {times} (lines {', '.join(lines)} and {last})"
        is_key = name in PROVIDER_API_KEY.names
        several = "; write several keys on one line, separated by commas" if is_key else ""
        reader.note(filled[-1], text, fix=f"keep one of these lines{several}")
    return (filled or values)[-1]


def _line(binding: Binding) -> int:
    # A binding begins with the blank lines above it.
    text = binding.original.string
    blank = text[: len(text) - len(text.lstrip())]
    return binding.original.line + blank.count("\n")


def _intended_name(name: str) -> str | None:
    """Return the setting that *name* probably means, or None if it is another program's."""
    upper = name.upper().replace("-", "_")
    if is_setting(upper):
        return upper
    if upper in _OTHER_NAMES:
        return _OTHER_NAMES[upper]
    if header := _NEAR_HEADER.fullmatch(name):
        return f"{HEADER_PREFIX}{(header['name'] or '').upper() or '<NAME>'}"
    if upper.startswith("PROVIDER_"):
        return closest(upper, sorted(NAMES), cutoff=0.0)  # no other program uses this prefix
    # A name with an extra or missing letter or separator: KEY_MAX_INFLIGHT, LOG_LEVELS, MAXRETRIES.
    squeezed = {setting.replace("_", ""): setting for setting in NAMES}
    if (setting := squeezed.get(upper.replace("_", "").removesuffix("S"))) is not None:
        return setting
    return closest(upper, sorted(NAMES), cutoff=0.85 if _OTHER_TOOLS.fullmatch(upper) else 0.8)

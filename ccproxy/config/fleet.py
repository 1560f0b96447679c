"""
ccproxy.toml -> Fleet: the table of proxies, and the folder of their files.

The CLI reads this on every command, so only the standard library is imported. Env files are not
opened here: a mistake in one must not stop `status` or `stop`. `config/fleet_check.py` checks
all files together.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ccproxy.config.toml_document import TomlDocument
from ccproxy.errors import ConfigError, Mistake
from ccproxy.files import display_path, expand_home
from ccproxy.text import closest, did_you_mean

FILE_NAME = "ccproxy.toml"
LOCAL_SUFFIX = ".local.toml"
LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,31}")
LABEL_RULE = (
    "1 to 32 letters, digits, dots, dashes or underscores, beginning with a letter or digit"
)
MAX_WORKERS = 64
RESERVED = {"supervisor"}
"""Labels that the supervisor uses for its own files in logs/ and pids/."""
_ENTRY_KEYS = ("port", "env_file", "label", "workers", "fallback")
_REQUIRED_KEYS = _ENTRY_KEYS[:3]
_TOP_KEYS = ("proxies", "proxy", "fallback", "presets", "routes")
"""`config/routing_tables.py` reads the last three."""
_EXAMPLE = '"8081:envs/kimi.env:Kimi-K3"'
_LARGEST_PORT = 65535


Drafts = Mapping[Path, str]
"""Contents of tables by file, to be checked before they are written."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One line of the table: a proxy."""

    port: int
    env_file: Path
    label: str
    workers: int = 1
    """The number of processes that serve the port."""
    table: Path | None = field(default=None, compare=False)
    """The file of the table; None for a proxy that was started without one."""
    line: int | None = field(default=None, compare=False)
    """The entry's line in the table."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """Every proxy in one ccproxy.toml and in the local table next to it."""

    home: Path
    """The folder of the table and of all other files of the fleet."""
    file: Path
    entries: tuple[Entry, ...]
    drafts: Drafts = field(default_factory=dict, compare=False, repr=False)

    @property
    def tables(self) -> tuple[Path, ...]:
        """The files of the table; a later definition of a name replaces an earlier one."""
        local = local_table(self.file)
        return (self.file, local) if local in self.drafts or local.exists() else (self.file,)

    @property
    def logs(self) -> Path:
        """The folder of the log files."""
        return self.home / "logs"

    @property
    def pids(self) -> Path:
        """The folder of the pid records."""
        return self.home / "pids"

    @property
    def state(self) -> Path:
        """The folder of sockets, locks and saved state."""
        return self.home / "state"

    @property
    def labels(self) -> dict[str, str]:
        """The labels by their lowercase form."""
        return {entry.label.lower(): entry.label for entry in self.entries}

    def entry(self, label: str) -> Entry | None:
        """Return the entry with this *label*, ignoring case, or None if there is none."""
        lower = label.lower()
        return next((entry for entry in self.entries if entry.label.lower() == lower), None)


def local_table(table: Path) -> Path:
    """
    Return the file next to *table* that holds the user's own part, such as `ccproxy.local.toml`.

    It need not exist. Git ignores it, so that `git pull` in a clone of ccproxy never conflicts with
    the user's own entries, routes and fallbacks.
    """
    return table.with_name(table.name.removesuffix(".toml") + LOCAL_SUFFIX)


def open_table(path: Path, drafts: Drafts | None = None) -> TomlDocument:
    """Parse the table *path*, or its draft; its syntax errors are noted in the document."""
    file = path.resolve()
    text = (drafts or {}).get(file)
    return TomlDocument(file, list_name="proxies", list_example=_EXAMPLE, text=text)


def load_fleet(path: Path, drafts: Drafts | None = None) -> Fleet:
    """Read the table *path*, or its *drafts*; raise one ConfigError with all mistakes."""
    fleet, mistakes = read_fleet(path, drafts)
    if mistakes:
        raise ConfigError(mistakes)
    return fleet


def read_fleet(path: Path, drafts: Drafts | None = None) -> tuple[Fleet, tuple[Mistake, ...]]:
    """Read the valid parts of the table *path*; also return the mistakes in the rest."""
    document = open_table(path, drafts)
    entries = _TableReader(document).read() if document.is_valid else []
    mistakes = document.sorted_mistakes()
    fleet = Fleet(home=document.file.parent, file=document.file, entries=(), drafts=drafts or {})
    for local in fleet.tables[1:]:
        document = open_table(local, drafts)
        more = _TableReader(document, is_local=True).read() if document.is_valid else []
        if more:
            mistakes = tuple(one for one in mistakes if not one.is_empty_table)
        mistakes = (*mistakes, *document.sorted_mistakes(), *_duplicates(entries, more))
        entries += more
    return replace(fleet, entries=tuple(entries)), mistakes


class _TableReader:
    """Reads the entries of one table and notes the mistakes in them."""

    def __init__(self, document: TomlDocument, *, is_local: bool = False) -> None:
        self._document = document
        self._is_local = is_local

    def read(self) -> list[Entry]:
        document = self._document
        self._check_names()
        raw = [*self._short_entries(), *self._long_entries()]
        if not (raw or document.mistakes or self._is_local):
            fix = f"add one: proxies = [{_EXAMPLE}], or run: ccproxy init"
            document.mistakes.append(
                Mistake(
                    file=display_path(document.file),
                    line=None,
                    text="the table contains no proxy",
                    fix=fix,
                    is_empty_table=True,
                )
            )
        entries = [entry for fields, line in raw if (entry := self._entry(fields, line))]
        self._check_duplicates(entries)
        return entries

    def _check_names(self) -> None:
        document = self._document
        for name in document.values.keys() - set(_TOP_KEYS):
            if match := closest(name, _TOP_KEYS):
                text = f"{name} is not a setting{did_you_mean(name, _TOP_KEYS)}"
                document.note(document.line_of(name), text, f"rename it to {match}")

    # The short form: "PORT:ENVFILE:LABEL"...

    def _short_entries(self) -> Iterable[tuple[dict[str, Any], int]]:
        document = self._document
        rows = document.values.get("proxies", [])
        if not isinstance(rows, list):
            line = document.line_of("proxies")
            document.note(line, "proxies must be a list", f"write proxies = [{_EXAMPLE}]")
            return
        last_lines: dict[str, int] = {}
        for row in rows:
            text = str(row)
            last = last_lines.get(text, 0)
            line = document.line_of_string(text, after=last) or last
            line = last_lines[text] = line or document.line_of("proxies") or 1
            port, _, rest = text.partition(":")
            env_file, colon, label = rest.rpartition(":")
            if not isinstance(row, str) or not colon or not env_file:
                form = f'"{text}" is not of the form PORT:ENVFILE:LABEL'
                document.note(line, form, f"write it like {_EXAMPLE}")
                continue
            yield {"port": port.strip(), "env_file": env_file.strip(), "label": label.strip()}, line

    # ...and the long form: [[proxy]].

    def _long_entries(self) -> Iterable[tuple[dict[str, Any], int]]:
        document = self._document
        tables = document.values.get("proxy", [])
        if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
            line = document.line_of("proxy")
            document.note(line, "proxy must be an array of tables", "begin each with [[proxy]]")
            return
        for index, table in enumerate(tables):
            line = document.array_table_line("proxy", index)
            for name in table.keys() - set(_ENTRY_KEYS):
                hint = did_you_mean(name, _ENTRY_KEYS)
                text = f"{name} is not a setting of a proxy{hint}"
                fix = f"rename or remove it; the settings are {', '.join(_ENTRY_KEYS)}"
                document.note(document.line_of(name, after=line or None), text, fix)
            missing = [name for name in _REQUIRED_KEYS if name not in table]
            if missing:
                document.note(line, f"[[proxy]] has no {' and no '.join(missing)}", "add it")
                continue
            yield table, line

    def _entry(self, fields: Mapping[str, Any], line: int) -> Entry | None:
        document = self._document
        mistakes = len(document.mistakes)
        port = self._integer(fields["port"], "the port", _LARGEST_PORT, line)
        workers = self._integer(fields.get("workers", 1), "workers", MAX_WORKERS, line)
        label, env_file = fields["label"], fields["env_file"]
        if not isinstance(label, str) or not LABEL.fullmatch(label) or not label.isascii():
            document.note(
                line, f'the label "{label}" is not allowed', f"a label consists of {LABEL_RULE}"
            )
        elif label.lower() in RESERVED:
            text = f'the label "{label}" is reserved for ccproxy itself'
            document.note(line, text, "choose another label")
        if not isinstance(env_file, str) or not env_file or "\0" in env_file:
            document.note(
                line, "env_file must be the path of a file", "set it to the path of a file in envs/"
            )
        if len(document.mistakes) > mistakes:
            return None
        file = document.file
        path = file.parent / expand_home(env_file)
        return Entry(port=port, env_file=path, label=label, workers=workers, table=file, line=line)

    def _integer(self, value: object, name: str, largest: int, line: int) -> int:
        text = str(value)
        if not isinstance(value, bool) and re.fullmatch(r"[0-9]{1,6}", text):
            number = int(text)
            if 1 <= number <= largest:
                return number
        fix = f"choose a whole number from 1 to {largest}"
        self._document.note(line, f'{name} must be from 1 to {largest}, got "{text}"', fix)
        return 0

    def _check_duplicates(self, entries: list[Entry]) -> None:
        ports: dict[int, Entry] = {}
        labels: dict[str, Entry] = {}
        for entry in entries:
            first = ports.setdefault(entry.port, entry)
            if first is not entry:
                free = _free_port({entry.port for entry in entries}, above=entry.port)
                fix = f"give one of them another port, for example {free}"
                self._note_duplicate(f"port {entry.port} is used twice", first, entry, fix=fix)
            first = labels.setdefault(entry.label.lower(), entry)
            if first is not entry:
                fix = "give one of them another label; case is ignored"
                self._note_duplicate(f"label {entry.label} is used twice", first, entry, fix=fix)
        for entry in entries:
            for number in range(2, entry.workers + 1):
                other = labels.get(f"{entry.label}.{number}".lower())
                if other is not None:
                    text = f"process {number} of {entry.label} also logs to {other.label}.log"
                    fix = f"give {other.label} another label"
                    self._note_duplicate(text, entry, other, fix=fix)

    def _note_duplicate(self, text: str, *entries: Entry, fix: str) -> None:
        document = self._document
        name = display_path(document.file)
        rows = "".join(
            f"\n      {name}:{entry.line}   {document.lines[(entry.line or 1) - 1].strip()}"
            for entry in entries
        )
        document.note(entries[-1].line, text + rows, fix)


def _duplicates(entries: Iterable[Entry], more: Iterable[Entry]) -> Iterator[Mistake]:
    """Yield a mistake for each entry of the local table that repeats a port, label or log file."""
    first = list(entries)
    for entry in more:
        for other in first:
            what = ""
            if other.label.lower() == entry.label.lower():
                what = f"label {entry.label}"
            elif other.port == entry.port:
                what = f"port {entry.port}"
            elif shared := _log_names(entry) & _log_names(other):
                what = f"{min(shared)}.log"
            if what and entry.table and other.table:
                location = f"{display_path(other.table)}:{other.line}"
                yield Mistake(
                    file=display_path(entry.table),
                    line=entry.line,
                    text=f"{what} is used twice, also in {location}",
                    fix="give one of them another port or label",
                )


def _log_names(entry: Entry) -> set[str]:
    """Return the names of the logs of an entry's processes, in lower case."""
    label = entry.label.lower()
    return {label, *(f"{label}.{number}" for number in range(2, entry.workers + 1))}


def _free_port(used: set[int], *, above: int) -> int:
    return next((port for port in range(above + 1, _LARGEST_PORT + 1) if port not in used), 8081)

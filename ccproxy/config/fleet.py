"""
ccproxy.toml -> Fleet: the table of proxies, and the folder that they live in.

The CLI reads this on every command, so it imports nothing but the standard library. Env files
are not opened here: a mistake in one must not keep `status` and `stop` from working. All of it
is checked together by `config/check.py`.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from ccproxy.errors import ConfigError, Mistake
from ccproxy.files import read_regular

FILE_NAME = "ccproxy.toml"
LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,31}")
LABEL_RULE = (
    "1 to 32 letters, digits, dots, dashes or underscores, beginning with a letter or digit"
)
MOST_WORKERS = 64
RESERVED = {"supervisor"}
"""Labels whose files in logs/ and pids/ are not a worker's."""
NO_PROXY = "the table holds no proxy"
"""The one mistake that a first proxy mends."""
_KEYS = ("port", "env_file", "label", "workers", "fallback")
_TOP = ("proxies", "proxy", "fallback", "presets", "routes")
"""The last three are read by `config/choices.py`."""
_EXAMPLE = '"8081:envs/kimi.env:Kimi-K2"'


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One line of the table: a proxy."""

    port: int
    env_file: Path
    label: str
    workers: int = 1
    """How many processes serve the port."""
    table: Path | None = field(default=None, compare=False)
    """The file that holds the table; None for a proxy that was started without one."""
    line: int | None = field(default=None, compare=False)
    """Where in the table the entry stands."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """Every proxy of one ccproxy.toml."""

    home: Path
    """The folder that holds the table; everything else lies beside it."""
    file: Path
    entries: tuple[Entry, ...]

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
        """The folder of sockets, locks and whatever else outlives a process."""
        return self.home / "state"

    def entry(self, label: str) -> Entry | None:
        """Find an entry by its *label*, without regard to case."""
        wanted = label.lower()
        return next((entry for entry in self.entries if entry.label.lower() == wanted), None)


def load_fleet(path: Path) -> Fleet:
    """
    Read the table *path*.

    Raises:
        ConfigError: With every mistake in the table, not only the first.

    """
    fleet, mistakes = read_fleet(path)
    if mistakes:
        raise ConfigError(mistakes)
    return fleet


def read_fleet(path: Path) -> tuple[Fleet, tuple[Mistake, ...]]:
    """Read the table *path* as far as it can be read, and say what is wrong with the rest."""
    file = path.resolve()
    reader = _TableReader(file)
    entries = reader.read()
    fleet = Fleet(home=file.parent, file=file, entries=tuple(entries))
    return fleet, tuple(sorted(reader.mistakes, key=lambda mistake: mistake.line or 0))


def shown(path: Path) -> Path:
    """Shorten *path* for the user's eyes: relative to where the user is, if it lies below."""
    here = Path.cwd()
    is_below = here != here.parent and path.is_relative_to(here)
    return path.relative_to(here) if is_below else path


class _TableReader:
    """Reads one table and collects what is wrong with it."""

    def __init__(self, file: Path) -> None:
        self.mistakes: list[Mistake] = []
        self._file = file
        self._lines: list[str] = []

    def read(self) -> list[Entry]:
        document = self._document()
        if document is None:
            return []
        self._check_names(document)
        raw = [*self._short_entries(document), *self._long_entries(document)]
        if not raw and not self.mistakes:
            self._mistake(None, NO_PROXY, f"add one: proxies = [{_EXAMPLE}], or: ccproxy init")
        entries = [entry for fields, line in raw if (entry := self._entry(fields, line))]
        self._check_twins(entries)
        return entries

    def _document(self) -> dict[str, Any] | None:
        try:
            text = read_regular(self._file, encoding="utf-8-sig")
        except OSError as error:
            self._mistake(None, f"cannot be read: {error.strerror}", "make it readable")
            return None
        except UnicodeDecodeError:
            self._mistake(None, "is not UTF-8 text", "save it as UTF-8")
            return None
        self._lines = text.splitlines()
        try:
            return tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            self._not_toml(str(error))
            return None

    def _not_toml(self, said: str) -> None:
        name, fix = self._file.name, f"write entries as {_EXAMPLE},"
        if (row := _broken_row(self._lines)) is not None:
            # The parser stumbles further down, where a second entry begins or the file ends.
            line, lacks = row
            self._mistake(line, f"{name} is not valid TOML: this line lacks {lacks}", fix)
            return
        place = re.search(r"\(at line (\d+), column \d+\)", said)
        line = int(place[1]) if place else len(self._lines)
        text = re.sub(r"\s*\(at [^)]*\)$", "", said)
        self._mistake(line, f"{name} is not valid TOML: {text}", fix)

    def _check_names(self, document: Mapping[str, Any]) -> None:
        for name in document.keys() - set(_TOP):
            meant = get_close_matches(name, _TOP, n=1)
            if meant:
                text = f"{name} is not a setting (did you mean {meant[0]}?)"
                self._mistake(self._line_of(name), text, f"rename it to {meant[0]}")

    # The short form: "PORT:ENVFILE:LABEL"...

    def _short_entries(self, document: Mapping[str, Any]) -> Iterable[tuple[dict[str, Any], int]]:
        rows = document.get("proxies", [])
        if not isinstance(rows, list):
            self._mistake(self._line_of("proxies"), "proxies must be a list", f"[{_EXAMPLE}]")
            return
        seen: dict[str, int] = {}
        for row in rows:
            text = str(row)
            line = self._line_of_row(text, after=seen.get(text, 0))
            seen[text] = line
            port, _, rest = text.partition(":")
            env_file, colon, label = rest.rpartition(":")
            if not isinstance(row, str) or not colon or not env_file:
                what = f'"{text}" is not of the form PORT:ENVFILE:LABEL'
                self._mistake(line, what, f"write it like {_EXAMPLE}")
                continue
            yield {"port": port.strip(), "env_file": env_file.strip(), "label": label.strip()}, line

    # ...and the long one: [[proxy]].

    def _long_entries(self, document: Mapping[str, Any]) -> Iterable[tuple[dict[str, Any], int]]:
        tables = document.get("proxy", [])
        if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
            self._mistake(self._line_of("proxy"), "proxy must be tables", "begin each: [[proxy]]")
            return
        heads = [i for i, text in enumerate(self._lines, 1) if re.match(r"\s*\[\[\s*proxy\b", text)]
        for number, table in enumerate(tables):
            line = heads[number] if number < len(heads) else 0
            for name in table.keys() - set(_KEYS):
                meant = get_close_matches(name, _KEYS, n=1) or [", ".join(_KEYS)]
                text = f"{name} is not a setting of a proxy (did you mean {meant[0]}?)"
                self._mistake(self._line_of(name, after=line), text, "rename or remove it")
            missing = [name for name in _KEYS[:3] if name not in table]
            if missing:
                self._mistake(line, f"[[proxy]] has no {' and no '.join(missing)}", "add it")
                continue
            yield table, line

    def _entry(self, fields: Mapping[str, Any], line: int) -> Entry | None:
        before = len(self.mistakes)
        port = self._whole(fields["port"], "the port", 65535, line)
        workers = self._whole(fields.get("workers", 1), "workers", MOST_WORKERS, line)
        label, env_file = fields["label"], fields["env_file"]
        if not isinstance(label, str) or not LABEL.fullmatch(label) or not label.isascii():
            self._mistake(line, f'the label "{label}" is not allowed', f"a label is {LABEL_RULE}")
        elif label.lower() in RESERVED:
            fix = "choose another label"
            self._mistake(line, f'the label "{label}" is taken by ccproxy itself', fix)
        if not isinstance(env_file, str) or not env_file or "\0" in env_file:
            self._mistake(line, "env_file must be the path of a file", "name one below envs/")
        if len(self.mistakes) > before:
            return None
        path = self._file.parent / Path(env_file).expanduser()
        return Entry(
            port=port, env_file=path, label=label, workers=workers, table=self._file, line=line
        )

    def _whole(self, value: object, what: str, most: int, line: int) -> int:
        text = str(value)
        if not isinstance(value, bool) and re.fullmatch(r"[0-9]{1,6}", text):
            number = int(text)
            if 1 <= number <= most:
                return number
        fix = f"choose a whole number from 1 to {most}"
        self._mistake(line, f'{what} must be from 1 to {most}, got "{text}"', fix)
        return 0

    def _check_twins(self, entries: list[Entry]) -> None:
        ports: dict[int, Entry] = {}
        labels: dict[str, Entry] = {}
        taken = {entry.port for entry in entries}
        for entry in entries:
            first = ports.setdefault(entry.port, entry)
            if first is not entry:
                free = next(port for port in range(entry.port + 1, 131072) if port not in taken)
                fix = f"give one of them another port, for example {free if free < 65536 else 8081}"
                self._twins(f"port {entry.port} is used twice", first, entry, fix=fix)
            first = labels.setdefault(entry.label.lower(), entry)
            if first is not entry:
                fix = "give one of them another label; upper and lower case are the same"
                self._twins(f"label {entry.label} is used twice", first, entry, fix=fix)
        for entry in entries:
            for number in range(2, entry.workers + 1):
                other = labels.get(f"{entry.label}.{number}".lower())
                if other is not None:
                    text = f"process {number} of {entry.label} logs to {other.label}.log, too"
                    self._twins(text, entry, other, fix=f"give {other.label} another label")

    def _twins(self, text: str, *entries: Entry, fix: str) -> None:
        name = shown(self._file)
        where = "".join(
            f"\n      {name}:{entry.line}   {self._lines[(entry.line or 1) - 1].strip()}"
            for entry in entries
        )
        self._mistake(entries[-1].line, text + where, fix)

    # Where things stand; tomllib does not tell.

    def _line_of(self, name: str, *, after: int = 0) -> int | None:
        pattern = re.compile(rf"""\s*\[*\s*["']?{re.escape(name)}["']?\s*[=\].]""")
        rows = enumerate(self._lines[after:], after + 1)
        return next((number for number, text in rows if pattern.match(text)), None)

    def _line_of_row(self, text: str, *, after: int) -> int:
        rows = enumerate(self._lines[after:], after + 1)
        quoted = (f'"{text}"', f"'{text}'")
        found = (
            number
            for number, row in rows
            if not row.lstrip().startswith("#") and any(one in row for one in quoted)
        )
        return next(found, after or self._line_of("proxies") or 1)

    def _mistake(self, line: int | None, text: str, fix: str) -> None:
        self.mistakes.append(Mistake(file=shown(self._file), line=line or None, text=text, fix=fix))


def _broken_row(lines: Iterable[str]) -> tuple[int, str] | None:
    """Find the first line of the list `proxies` that lacks a comma or a quote, and say which."""
    is_inside = False
    unfinished = 0  # the line of an entry that no comma follows yet
    for number, text in enumerate(lines, 1):
        head = re.match(r"\s*proxies\s*=\s*\[", text)
        is_inside = is_inside or head is not None
        # Each entry as one sign: what is left shows how they are strung together.
        row = re.sub(r"""("[^"]*"|'[^']*')""", "S", text[head.end() if head else 0 :])
        row = row.partition("#")[0].replace(" ", "").replace("\t", "")
        if not is_inside or not row:
            continue
        if '"' in row or "'" in row or ":" in row:
            return number, "a quote"
        if "SS" in row:
            return number, "a comma between its entries"
        if unfinished and row.startswith("S"):
            return unfinished, "its comma"
        if "]" in row:
            return None
        unfinished = number if row.endswith("S") else 0
    return None

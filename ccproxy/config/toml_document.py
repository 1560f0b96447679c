"""
A TOML file with the line numbers of its tables and keys, which tomllib does not return.

Imported on every command, so only the standard library is used.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from ccproxy.errors import Mistake
from ccproxy.files import display_path, read_regular


class TomlDocument:
    """
    One TOML file; `values` is empty if it cannot be read or parsed.

    Its mistakes, and those that readers of the document note, are in `mistakes`.
    """

    def __init__(
        self, file: Path, *, list_name: str, list_example: str, text: str | None = None
    ) -> None:
        """
        Read *file*, or use *text* as its content.

        If a row of the list *list_name* has a syntax error, the mistake names that row.
        """
        self.file = file
        self.mistakes: list[Mistake] = []
        self.lines: list[str] = []
        self._list_name = list_name
        self._list_example = list_example
        values = self._read() if text is None else self._parse(text)
        self.is_valid = values is not None
        self.values: Mapping[str, Any] = values or {}

    def note(self, line: int | None, text: str, fix: str) -> None:
        """Record a mistake; a *line* of None or 0 means the file as a whole."""
        file = display_path(self.file)
        self.mistakes.append(Mistake(file=file, line=line or None, text=text, fix=fix))

    def sorted_mistakes(self) -> tuple[Mistake, ...]:
        """Return all mistakes in the order of their lines."""
        return tuple(sorted(self.mistakes, key=lambda mistake: mistake.line or 0))

    def line_of(self, *names: str, after: int | None = None) -> int | None:
        """
        Return the line of the table or key with these *names*, or None if there is none.

        With *after*, only that line and later ones are searched, a key is preferred to a table,
        and *after* is returned if there is no match.
        """
        name = r"\s*\.\s*".join(rf"""["']?{re.escape(part)}["']?""" for part in names)
        table = re.compile(rf"\s*\[{{1,2}}\s*{name}\s*[\].]", re.IGNORECASE)
        key = re.compile(rf"\s*{name}\s*[=.]", re.IGNORECASE)
        inline = re.compile(rf"""^[^#]*[{{,]\s*{name}\s*=""", re.IGNORECASE)
        order = (table, key, inline) if after is None else (key, table, inline)
        start = (after or 1) - 1
        for pattern in order:
            for number, line in enumerate(self.lines[start:], start + 1):
                if pattern.match(line):
                    return number
        return after

    def line_of_string(self, text: str, *, after: int) -> int | None:
        """Return the first line after line *after* that contains the string *text*, or None."""
        quoted = (f'"{text}"', f"'{text}'")
        for number, line in enumerate(self.lines[after:], after + 1):
            if not line.lstrip().startswith("#") and any(one in line for one in quoted):
                return number
        return None

    @cached_property
    def _array_tables(self) -> dict[str, list[int]]:
        lines: dict[str, list[int]] = {}
        for number, line in enumerate(self.lines, 1):
            if head := re.match(r"\s*\[\[\s*([\w-]+)", line):
                lines.setdefault(head[1], []).append(number)
        return lines

    def array_table_line(self, name: str, index: int) -> int:
        """Return the line of the *index*-th `[[name]]`, or 0 if it is written in another form."""
        lines = self._array_tables.get(name, [])
        return lines[index] if index < len(lines) else 0

    def _read(self) -> dict[str, Any] | None:
        try:
            text = read_regular(self.file, encoding="utf-8-sig")
        except OSError as error:
            self.note(None, f"cannot be read: {error.strerror}", "make it readable")
            return None
        except UnicodeDecodeError:
            self.note(None, "is not UTF-8 text", "save it as UTF-8")
            return None
        return self._parse(text)

    def _parse(self, text: str) -> dict[str, Any] | None:
        self.lines = text.splitlines()
        try:
            return tomllib.loads(text)
        except RecursionError:
            self._note_syntax_error("nested too deeply")
        except ValueError as error:  # also raised for a number with thousands of digits
            self._note_syntax_error(str(error))
        return None

    def _note_syntax_error(self, message: str) -> None:
        name, fix = self.file.name, f"write entries as {self._list_example},"
        if (row := _broken_row(self.lines, self._list_name)) is not None:
            # The parser reports a later line: where the next entry begins, or the end of the file.
            line, missing = row
            self.note(line, f"{name} is not valid TOML: this line lacks {missing}", fix)
            return
        position = re.search(r"\(at line (\d+), column \d+\)", message)
        line = int(position[1]) if position else len(self.lines)
        text = re.sub(r"\s*\(at [^)]*\)$", "", message)
        self.note(line, f"{name} is not valid TOML: {text}", fix)


def _broken_row(lines: Iterable[str], list_name: str) -> tuple[int, str] | None:
    """Return the first line of the list that lacks a comma or a quote, and what it lacks."""
    is_inside = False
    unfinished = 0  # the line of an entry that has no comma yet
    for number, text in enumerate(lines, 1):
        head = re.match(rf"\s*{list_name}\s*=\s*\[", text)
        is_inside = is_inside or head is not None
        # Each entry becomes one character, so that only quotes, commas and brackets remain.
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

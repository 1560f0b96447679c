"""
The catalogue: facts about individual models, with source and date.

`catalogue.json` has one line per model. Its sections are named after presets, or after a preset's
regions and plans with their own models or prices. A row overrides the assumptions about the model's
family in its card in `providers.toml`. A newer file can be installed without a release, so this
module reads bytes; `config/catalogue/catalogue_file.py` selects the file.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Literal

import msgspec

from ccproxy.providers.pricing import Price
from ccproxy.providers.quirks import Api, EffortWord

TokenCount = Annotated[int, msgspec.Meta(ge=1)]
Status = Literal["current", "preview", "deprecated", "retired"]
FORMAT = 1
"""The version of the file format; files of other versions cannot be read."""

_DATE = re.compile(r"\d{4}-\d{2}-\d{2}").fullmatch
_VERSION = re.compile(r"[-@]20\d{2}-?\d{2}-?\d{2}$").sub


class ModelFacts(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True
):
    """Facts about one model at one provider; None where a fact is unknown."""

    source: str
    """Codes in `Catalogue.sources`, separated by spaces."""
    date: str
    """The date of the newest source, YYYY-MM-DD."""
    status: Status = "current"
    retires: str = ""
    """The date from which the provider refuses or replaces the model, YYYY-MM-DD."""
    successor: str = ""
    """The replacement that the provider or the catalogue recommends."""
    window: TokenCount | None = None
    """The context window in tokens, for input plus output."""
    max_input: TokenCount | None = None
    """The maximum number of input tokens, if less than the window."""
    max_output: TokenCount | None = None
    images: bool | None = None
    pdf: bool | None = None
    api: Api | None = None
    """The dialect that supports the model's tools and reasoning."""
    efforts: tuple[EffortWord, ...] | None = None
    always_reasons: bool | None = None
    """Whether reasoning cannot be disabled."""
    price: Price | None = None
    note: str = ""

    def __post_init__(self) -> None:
        """Reject rows without a source or with invalid dates."""
        if not self.source.split():
            raise ValueError("a row needs a source")
        for name, day in (("date", self.date), ("retires", self.retires or "2000-01-01")):
            if not _DATE(day):
                raise ValueError(f'{name} must be YYYY-MM-DD, got "{day}"')

    @property
    def prompt_window(self) -> int | None:
        """The maximum number of tokens in a prompt."""
        return self.max_input or self.window


Section = dict[str, ModelFacts]
"""Rows by model name."""


class _File(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    format: Literal[1]
    date: str
    sources: dict[str, str]
    models: dict[str, msgspec.Raw]


@dataclass(frozen=True, slots=True, kw_only=True)
class Catalogue:
    """A catalogue file. Sections are decoded on demand, because a worker needs only one."""

    date: str
    """The date of the file, YYYY-MM-DD."""
    sources: Mapping[str, str]
    """The meaning of the source codes in the rows."""
    sections: Mapping[str, msgspec.Raw]

    def section(self, name: str) -> Section:
        """
        Return the rows of a section, or an empty section if it does not exist.

        Raises:
            ValueError: If the rows are invalid.
        """
        raw = self.sections.get(name)
        return {} if raw is None else msgspec.json.decode(raw, type=Section)

    def everything(self) -> dict[str, Section]:
        """
        Return all rows.

        Raises:
            ValueError: If a row is invalid or has an undefined source.
        """
        sections = {name: self.section(name) for name in self.sections}
        for name, section in sections.items():
            for model, row in section.items():
                if unknown := [code for code in row.source.split() if code not in self.sources]:
                    raise ValueError(f"{name}, {model}: unknown source {' '.join(unknown)}")
        return sections


def parse_catalogue(data: bytes) -> Catalogue:
    """Read a file without decoding its sections. Raises ValueError if it is not a catalogue."""
    file = msgspec.json.decode(data, type=_File)
    if not _DATE(file.date):
        raise ValueError(f'date must be YYYY-MM-DD, got "{file.date}"')
    return Catalogue(date=file.date, sources=file.sources, sections=file.models)


def format_catalogue(catalogue: Catalogue) -> bytes:
    """Encode *catalogue* as a file with one row per line, keeping the order."""
    lines = [f'"format": {FORMAT},', f'"date": {_json(catalogue.date)},', '"sources": {']
    lines += [_entries({code: _json(text) for code, text in catalogue.sources.items()}), "},"]
    sections = {
        name: "{\n" + _entries({model: _json(row) for model, row in rows.items()}) + "\n}"
        for name, rows in catalogue.everything().items()
    }
    return "\n".join(["{", *lines, '"models": {', _entries(sections), "}", "}", ""]).encode()


def shipped_catalogue_file() -> Path:
    """Return the path of the catalogue in this release."""
    return Path(__file__).with_name("catalogue.json")


def rows_by_name(rows: Mapping[str, ModelFacts]) -> Mapping[str, ModelFacts]:
    """Return *rows* by lower-case name, for `row_of`."""
    return MappingProxyType({name.lower(): row for name, row in rows.items()})


def row_of(rows: Mapping[str, ModelFacts], model: str) -> ModelFacts | None:
    """Return the row of *model*; a dated version uses the row of the undated name, if necessary."""
    name = model.lower()
    return rows.get(name) or rows.get(_VERSION("", name))


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()


def _entries(values: Mapping[str, str]) -> str:
    return ",\n".join(f"{_json(key)}: {text}" for key, text in values.items())

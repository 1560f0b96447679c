"""Checks, compares and installs a newer catalogue file that the user provides."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec

from ccproxy.config.catalogue.catalogue_file import (
    active_catalogue,
    shipped_catalogue,
    user_catalogue_file,
)
from ccproxy.errors import ConfigError, Mistake
from ccproxy.files import read_regular, write_atomically
from ccproxy.providers.catalogue import (
    Catalogue,
    ModelFacts,
    Section,
    format_catalogue,
    parse_catalogue,
)

_MAX_SHOWN_FIELD = 60


def read_refreshed(file: Path) -> Catalogue:
    """
    Read a catalogue that the user wants to install.

    Raises:
        ConfigError: If it is invalid, or not newer than this release's.
        OSError: If it cannot be read.
    """
    try:
        catalogue = parse_catalogue(read_regular(file).encode())
        catalogue.everything()
    except (ValueError, RecursionError) as error:
        text = f"this is not a valid model catalogue: {error}"
        raise _mistake(file, text, "correct the file, or use another one") from error
    shipped = shipped_catalogue()
    if catalogue.date <= shipped.date:
        text = (
            f"its date {catalogue.date} is not later than the date of this release, {shipped.date}"
        )
        raise _mistake(file, text, "nothing to install: the newer catalogue is already in use")
    return catalogue


def differences(new: Catalogue) -> Iterator[str]:
    """Yield a line for each model that *new* adds, removes or changes."""
    old_sections, new_sections = active_catalogue().everything(), new.everything()
    for name in [*old_sections, *(one for one in new_sections if one not in old_sections)]:
        yield from _section_lines(name, old_sections.get(name, {}), new_sections.get(name, {}))


def install(new: Catalogue) -> Path:
    """Write *new* as the user's catalogue and return its path."""
    file = user_catalogue_file()
    write_atomically(file, format_catalogue(new).decode())
    return file


def reset() -> Path | None:
    """Delete the user's catalogue; return its path, or None if there was none."""
    file = user_catalogue_file()
    try:
        file.unlink()
    except FileNotFoundError:
        return None
    return file


def _section_lines(name: str, old: Section, new: Section) -> Iterator[str]:
    for model in [*old, *(one for one in new if one not in old)]:
        before, after = old.get(model), new.get(model)
        if before is None:
            yield f"+ {name}  {model}"
        elif after is None:
            yield f"- {name}  {model}"
        elif changes := [*_changes(before, after)]:
            yield f"~ {name}  {model}  {', '.join(changes)}"


def _changes(before: ModelFacts, after: ModelFacts) -> Iterator[str]:
    """Yield the fields that differ; a new source or date alone is not a change."""
    for field in ModelFacts.__struct_fields__:
        old, new = getattr(before, field), getattr(after, field)
        if old != new and field not in ("source", "date"):
            yield f"{field} {_shown(old)} -> {_shown(new)}"


def _shown(value: object) -> str:
    text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    text = text or "–"
    return text if len(text) <= _MAX_SHOWN_FIELD else f"{text[: _MAX_SHOWN_FIELD - 1]}…"


def _mistake(file: Path, text: str, fix: str) -> ConfigError:
    return ConfigError([Mistake(file=file, line=None, text=text, fix=fix)])

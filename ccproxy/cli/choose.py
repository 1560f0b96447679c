"""What the user typed -> the fleet and its entries."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from fnmatch import fnmatchcase

import click

from ccproxy.cli.verb import Options
from ccproxy.config.fleet import Entry, Fleet, find_config, load_fleet, read_fleet
from ccproxy.errors import ConfigError, UsageError


def open_fleet(options: Options) -> Fleet:
    """
    Read the table that the options, the environment or the folder point at.

    Raises:
        ConfigError: If there is none, or it has mistakes.

    """
    return load_fleet(find_config(options.config))


def choose(fleet: Fleet, labels: Sequence[str]) -> tuple[Entry, ...]:
    """
    Return the entries that *labels* name, in the table's order; all if none is named.

    A label is typed without regard to case and may be a glob pattern (`kimi*`).

    Raises:
        UsageError: For a label that fits no entry.

    """
    if not labels:
        return fleet.entries
    chosen = {entry.label for label in labels for entry in _matching(fleet, label)}
    return tuple(entry for entry in fleet.entries if entry.label in chosen)


def choose_one(fleet: Fleet, label: str) -> Entry:
    """
    Return the one entry that *label* names.

    Raises:
        UsageError: If it fits none or several.

    """
    found = _matching(fleet, label)
    if len(found) > 1:
        names = ", ".join(entry.label for entry in found)
        raise UsageError(f'"{label}" fits {len(found)} labels: {names}\n  fix: name one of them')
    return found[0]


def complete_label(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[str]:
    """Return the labels that begin with *incomplete*, for the shell; none if there is no table."""
    options = ctx.find_object(Options) or Options()
    try:
        fleet, _ = read_fleet(find_config(options.config))
    except ConfigError:
        return []
    start = incomplete.lower()
    return [entry.label for entry in fleet.entries if entry.label.lower().startswith(start)]


def unknown_label(label: str, labels: Sequence[str]) -> UsageError:
    """Return the error for a *label* that is none of *labels*."""
    by_key = {known.lower(): known for known in labels}
    likely = get_close_matches(label.lower(), by_key, n=1, cutoff=0.4)
    meant = f' (did you mean "{by_key[likely[0]]}"?)' if likely else ""
    return UsageError(
        f'"{label}" is not in the table{meant}\n  fix: use one of: {", ".join(labels)}'
    )


def _matching(fleet: Fleet, label: str) -> tuple[Entry, ...]:
    exact = fleet.entry(label)
    if exact is not None:
        return (exact,)
    pattern = label.lower()
    found = tuple(entry for entry in fleet.entries if fnmatchcase(entry.label.lower(), pattern))
    if not found:
        raise unknown_label(label, [entry.label for entry in fleet.entries])
    return found

"""What the user typed -> the fleet and its entries."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from difflib import get_close_matches
from fnmatch import fnmatchcase

import click

from ccproxy.cli.command import Options
from ccproxy.config.fleet import Entry, Fleet, load_fleet, read_fleet
from ccproxy.config.locations import find_config
from ccproxy.errors import ConfigError, UsageError


def open_fleet(options: Options) -> Fleet:
    """
    Read the table that the options, the environment or the folder point at.

    Raises:
        ConfigError: If there is none, or it has mistakes.

    """
    return load_fleet(find_config(options.config))


def open_what_can_be_read(options: Options) -> Fleet:
    """
    Read the table as far as it can be read: what runs can be stopped whatever was made of it.

    Raises:
        ConfigError: If there is none.

    """
    fleet, _ = read_fleet(find_config(options.config))
    return fleet


def open_to_look(options: Options) -> tuple[Fleet, ConfigError | None]:
    """
    Read the table as far as it can be read, and return what is wrong with the rest.

    Raises:
        ConfigError: If there is no table, or nothing of it can be read.

    """
    fleet, mistakes = read_fleet(find_config(options.config))
    return fleet, ConfigError(mistakes) if mistakes else None


def choose(fleet: Fleet, labels: Sequence[str]) -> tuple[Entry, ...]:
    """
    Return the entries that *labels* name, in the table's order; all if none is named.

    A label is typed without regard to case. It may be a glob pattern (`kimi*`) or the beginning of
    a label, if no other label begins with it.

    Raises:
        UsageError: For a label that fits no entry, or a beginning that fits several.

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


def pick_entry(fleet: Fleet, *, fix: str) -> Entry:
    """
    Return the only entry, or let the user choose one from a list on a terminal.

    Raises:
        UsageError: If there are several and stdin is not a terminal; it names *fix*.
        click.Abort: If the user gives up.

    """
    labels = [entry.label for entry in fleet.entries]
    if len(labels) == 1:
        return fleet.entries[0]
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise UsageError(f"the label is missing\n  fix: {fix}; labels: {', '.join(labels)}")
    width = len(str(len(labels)))
    for number, label in enumerate(labels, 1):
        click.echo(f"  {number:>{width}}  {label}", err=True)

    def parse(typed: str) -> Entry:
        if typed.isdecimal() and 1 <= int(typed) <= len(labels):
            return fleet.entries[int(typed) - 1]
        try:
            return choose_one(fleet, typed)
        except UsageError as error:
            raise click.UsageError(str(error).partition("\n")[0]) from error

    entry: Entry = click.prompt("Provider, number or label", value_proc=parse, err=True)
    return entry


def known_labels(fleet: Fleet, running: Sequence[str], typed: Sequence[str]) -> list[str]:
    """
    Return the labels that *typed* names, also of workers that run but left the table.

    Raises:
        UsageError: For a label that is neither.

    """
    labels = [*running, *(entry.label for entry in fleet.entries if entry.label not in running)]
    if not typed:
        return labels
    chosen = {found for label in typed for found in _fitting(label, labels)}
    return [label for label in labels if label in chosen]


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
    found = _fitting(label, [entry.label for entry in fleet.entries])
    return tuple(entry for entry in fleet.entries if entry.label in found)


def _fitting(label: str, labels: Sequence[str]) -> list[str]:
    pattern = label.lower()
    exact = [known for known in labels if known.lower() == pattern]
    matches = exact or [known for known in labels if fnmatchcase(known.lower(), pattern)]
    if matches:
        return matches
    longer = [known for known in labels if pattern and known.lower().startswith(pattern)]
    if len(longer) > 1:
        fix = f'name one of them, or all with the pattern "{label}*"'
        raise UsageError(f'"{label}" fits {len(longer)} labels: {", ".join(longer)}\n  fix: {fix}')
    if not longer:
        raise unknown_label(label, labels)
    return longer

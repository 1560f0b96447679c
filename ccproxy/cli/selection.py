"""Opens the fleet's table and selects the entries that the user named."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

import click

from ccproxy.cli.command import Options
from ccproxy.config.fleet import Entry, Fleet, read_fleet
from ccproxy.config.locations import find_config
from ccproxy.errors import ConfigError, NoFleetError, UsageError
from ccproxy.text import did_you_mean

if TYPE_CHECKING:
    from ccproxy.config.fleet_check import CheckedFleet


def open_fleet(options: Options) -> Fleet:
    """Read the table, or the proxies of `ccproxy up --port`; ConfigError if it has mistakes."""
    fleet, mistakes = open_readable_part(options)
    if mistakes is not None:
        raise mistakes
    return fleet


def open_entry(options: Options, label: str) -> tuple[Fleet, Entry]:
    """Return the table as `open_fleet` does, and the entry that *label* names."""
    fleet = open_fleet(options)
    return fleet, choose_one(fleet, label)


def open_checked(options: Options) -> CheckedFleet:
    """Read the table and every env file; ConfigError lists every mistake in them."""
    from ccproxy.config.fleet_check import load_all

    return load_all(find_config(options.config))


def open_readable_part(options: Options) -> tuple[Fleet, ConfigError | None]:
    """
    Return the entries without mistakes, and the mistakes in the rest of the table.

    Used by commands that show or stop running proxies, which a mistake in the table must not block.

    Raises:
        ConfigError: If there is no table, or none of it can be read.
    """
    try:
        fleet, mistakes = read_fleet(find_config(options.config))
    except NoFleetError as error:
        return _single_proxies(error), None
    return fleet, ConfigError(mistakes) if mistakes else None


def choose(fleet: Fleet, labels: Sequence[str]) -> tuple[Entry, ...]:
    """
    Return the entries that *labels* name, in table order; all entries if *labels* is empty.

    Matching ignores case. Each of *labels* may be a glob pattern (`kimi*`), or the beginning of a
    single label.

    Raises:
        UsageError: If a label matches no entry, or is the beginning of several labels.
    """
    if not labels:
        return fleet.entries
    chosen = {entry.label for label in labels for entry in _matching_entries(fleet, label)}
    return tuple(entry for entry in fleet.entries if entry.label in chosen)


def choose_one(fleet: Fleet, label: str) -> Entry:
    """Return the entry that *label* names; raise UsageError if it matches no entry or several."""
    entries = _matching_entries(fleet, label)
    if len(entries) > 1:
        names = ", ".join(entry.label for entry in entries)
        text = f'"{label}" matches {len(entries)} labels: {names}'
        raise UsageError(f"{text}\n  fix: name one of them")
    return entries[0]


def pick_entry(fleet: Fleet, *, fix: str) -> Entry:
    """
    Return the only entry, or let the user choose one from a list on a terminal.

    Raises:
        UsageError: If there are several and this is not a terminal; the message contains *fix*.
        click.Abort: If the user cancels.
    """
    labels = [entry.label for entry in fleet.entries]
    if len(labels) == 1:
        return fleet.entries[0]
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise UsageError(f"the label is missing\n  fix: {fix}; labels: {', '.join(labels)}")
    numbered = {str(number): entry for number, entry in enumerate(fleet.entries, 1)}
    width = len(str(len(labels)))
    for number, entry in numbered.items():
        click.echo(f"  {number:>{width}}  {entry.label}", err=True)

    def parse(typed: str) -> Entry:
        if typed in numbered:
            return numbered[typed]
        try:
            return choose_one(fleet, typed)
        except UsageError as error:
            raise click.UsageError(str(error).partition("\n")[0]) from error

    chosen: Entry = click.prompt("Provider, number or label", value_proc=parse, err=True)
    return chosen


def known_labels(fleet: Fleet, running: Sequence[str], typed: Sequence[str]) -> list[str]:
    """Return the labels that *typed* names, including *running* ones that are not in the table."""
    labels = [*running, *(entry.label for entry in fleet.entries if entry.label not in running)]
    if not typed:
        return labels
    chosen = {match for label in typed for match in _matching_labels(label, labels)}
    return [label for label in labels if label in chosen]


def complete_label(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[str]:
    """Return the labels that start with *incomplete*, for shell completion."""
    options = ctx.find_object(Options) or Options()
    try:
        fleet, _ = read_fleet(find_config(options.config))
    except ConfigError:
        return []
    start = incomplete.lower()
    return [entry.label for entry in fleet.entries if entry.label.lower().startswith(start)]


def unknown_label(label: str, labels: Sequence[str]) -> UsageError:
    """Return the error for a *label* that matches none of *labels*."""
    suggestion = did_you_mean(label, labels, cutoff=0.4)
    return UsageError(
        f'"{label}" is not in the table{suggestion}\n  fix: use one of: {", ".join(labels)}'
    )


def _single_proxies(error: NoFleetError) -> Fleet:
    """Return the proxies that run without a table; raise *error* if there are none."""
    from ccproxy.cli.single_proxy import running_single_proxies  # rarely needed

    fleet = running_single_proxies(os.environ)
    if fleet is None:
        raise error
    return fleet


def _matching_entries(fleet: Fleet, label: str) -> tuple[Entry, ...]:
    matches = _matching_labels(label, [entry.label for entry in fleet.entries])
    return tuple(entry for entry in fleet.entries if entry.label in matches)


def _matching_labels(label: str, labels: Sequence[str]) -> list[str]:
    pattern = label.lower()
    exact = [name for name in labels if name.lower() == pattern]
    matches = exact or [name for name in labels if fnmatchcase(name.lower(), pattern)]
    if matches:
        return matches
    longer = [name for name in labels if pattern and name.lower().startswith(pattern)]
    if len(longer) > 1:
        fix = f'name one of them, or all with the pattern "{label}*"'
        text = f'"{label}" matches {len(longer)} labels: {", ".join(longer)}'
        raise UsageError(f"{text}\n  fix: {fix}")
    if not longer:
        raise unknown_label(label, labels)
    return longer

"""
Write one routing rule into the table, in the form that a user would write.

    [routes.Kimi-K2]
    subagent = "GLM-4.6:big"

The other lines of the file are unchanged. If the existing rule is an inline table or has dotted
keys, it cannot be edited: nothing is changed, and the error contains the lines to write.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ccproxy.cli.setup.config_edit import change_table, read_text, toml_value
from ccproxy.config.fleet import Fleet, open_table
from ccproxy.errors import CcproxyError, UsageError

_BARE = re.compile(r"[A-Za-z0-9_-]+")
_HEADER = re.compile(r"\s*\[")


class RuleChange(NamedTuple):
    """The effect of writing a rule."""

    toml: str
    """The entry's table after the change."""
    diff: str
    text: str
    """The whole file after the change."""


def preview_rule(fleet: Fleet, label: str, rule: str, model: str | None) -> RuleChange:
    """
    Return the change that `write_rule` would make.

    Raises:
        CcproxyError: If the rule is written in a form that cannot be changed.

    """
    before = read_text(_file_of(fleet, label))
    after = with_rule(before, label, rule, model)
    lines = difflib.unified_diff(before.splitlines(), after.splitlines(), lineterm="", n=2)
    diff = "\n".join(list(lines)[2:])
    section = _section(after.splitlines(), label)
    toml = "" if section is None else "\n".join(after.splitlines()[slice(*section)]).strip()
    return RuleChange(toml=toml, diff=diff, text=after)


def write_rule(fleet: Fleet, label: str, rule: str, model: str | None) -> None:
    """
    Set *rule* of the entry *label* to *model*, or remove the rule if *model* is None.

    Raises:
        CcproxyError: If the table cannot be edited or would be invalid; nothing is changed.
        OSError: If the file cannot be written.

    """
    file = _file_of(fleet, label)
    change_table(fleet, file, lambda text: with_rule(text, label, rule, model))


def _file_of(fleet: Fleet, label: str) -> Path:
    """Return the file with the entry's effective routes: the last file that has any."""
    for file in reversed(fleet.tables):
        if _routes(open_table(file).values, label):
            return file
    entry = fleet.entry(label)
    return (entry and entry.table) or fleet.file


def with_rule(text: str, label: str, rule: str, model: str | None) -> str:
    """
    Return the *text* of a table with the rule added, changed or removed.

    Raises:
        CcproxyError: If the rule is written in a form that cannot be changed.

    """
    lines = text.splitlines()
    changed = "\n".join(_changed(lines, label, rule, model)).rstrip() + "\n"
    try:
        before, after = tomllib.loads(text), tomllib.loads(changed)
    except tomllib.TOMLDecodeError as error:
        raise _by_hand(label, rule, model) from error
    if _without(before, label, rule) != _without(after, label, rule):
        raise _by_hand(label, rule, model)
    if _rules(after, label).get(rule) != model:
        raise _by_hand(label, rule, model)
    return changed


def _changed(lines: list[str], label: str, rule: str, model: str | None) -> list[str]:
    section = _section(lines, label)
    setting = [] if model is None else [f"{rule} = {toml_value(model)}"]
    if section is None:
        return [*lines, "", f"[routes.{_key(label)}]", *setting] if setting else lines
    start, end = section
    own = re.compile(rf"""\s*(["']?){re.escape(rule)}\1\s*=""")
    for number in range(start + 1, end):
        if own.match(lines[number]):
            return [*lines[:number], *setting, *lines[number + 1 :]]
    return [*lines[: start + 1], *setting, *lines[start + 1 :]]


def _section(lines: Sequence[str], label: str) -> tuple[int, int] | None:
    """Return the start and end of the entry's routes, as line indexes; the end is exclusive."""
    name = re.escape(label)
    head = re.compile(rf"""\s*\[\s*routes\s*\.\s*(["']?){name}\1\s*\]""", re.IGNORECASE)
    for start, line in enumerate(lines):
        if head.match(line):
            rest = enumerate(lines[start + 1 :], start + 1)
            end = next((number for number, line in rest if _HEADER.match(line)), len(lines))
            return start, end
    return None


def _routes(values: Mapping[str, Any], label: str) -> dict[str, Any]:
    """Return the entry's routes; `[routes.LABEL]` may have the label in another case."""
    routes = values.get("routes")
    tables = routes if isinstance(routes, dict) else {}
    return {name: table for name, table in tables.items() if name.lower() == label.lower()}


def _rules(values: dict[str, Any], label: str) -> dict[str, Any]:
    tables = [table for table in _routes(values, label).values() if isinstance(table, dict)]
    return tables[0] if len(tables) == 1 else {}


def _without(values: dict[str, Any], label: str, rule: str) -> dict[str, Any]:
    """Return *values* without the rule and without tables that become empty."""
    routes = values.get("routes")
    if not isinstance(routes, dict):
        return values
    rest = {}
    for name, table in routes.items():
        remaining = table
        if name.lower() == label.lower() and isinstance(table, dict):
            remaining = {key: value for key, value in table.items() if key != rule}
        if remaining:
            rest[name] = remaining
    others = {key: value for key, value in values.items() if key != "routes"}
    return {**others, "routes": rest} if rest else others


def _key(label: str) -> str:
    return label if _BARE.fullmatch(label) else toml_value(label)


def _by_hand(label: str, rule: str, model: str | None) -> CcproxyError:
    if model is None:
        fix = f"remove {rule} below [routes.{_key(label)}] by hand"
    else:
        fix = f"add this by hand:\n[routes.{_key(label)}]\n{rule} = {toml_value(model)}"
    text = f"the routes of {label} cannot be edited automatically"
    return UsageError(f"{text}\n  fix: {fix}")

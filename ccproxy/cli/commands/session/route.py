"""Show how a proxy chooses models and why."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ccproxy.cli.command import Options, command
from ccproxy.cli.render.table import Column, table
from ccproxy.cli.render.terminal import notify, show, show_json
from ccproxy.cli.selection import complete_label, open_entry
from ccproxy.cli.single_proxy import require_table
from ccproxy.errors import ConfigError, UsageError
from ccproxy.text import printable

if TYPE_CHECKING:
    from ccproxy.config.fleet import Fleet
    from ccproxy.config.fleet_check import CheckedFleet

_SERVING = ("ready", "degraded", "starting")
"""The states in which an entry can serve as a fallback."""


@command(
    "ccproxy route kimi                                  # its rules",
    "ccproxy route kimi --explain request.json           # a body, or {headers, body}",
    "ccproxy route kimi --explain request.json -H 'x-claude-code-agent-id: a1'",
)
@click.argument("label", shell_complete=complete_label)
@click.option(
    "--explain", "file", metavar="FILE", help="Explain this recorded request; - reads stdin."
)
@click.option(
    "-H", "--header", "headers", multiple=True, metavar="NAME:VALUE", help="A request header."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON (schema 1).")
def route(
    options: Options, label: str, file: str | None, headers: Sequence[str], *, as_json: bool
) -> None:
    """
    Show the routing rules of LABEL, or which model they select for a request. Sends nothing.

    FILE contains the JSON body of a request to /v1/messages, or an object with its headers and
    body.
    """
    from ccproxy.cli.fleet_models import fleet_models
    from ccproxy.config.fleet_check import check_fleet
    from ccproxy.routing.decision import Decider
    from ccproxy.store.overrides import (
        overrides_path,
        read_overrides,
        read_switch,
        switch_path,
    )

    fleet, entry = open_entry(options, label)
    require_table(fleet)
    label = entry.label
    checked = check_fleet(fleet.file)
    if checked.mistakes:
        raise ConfigError(checked.mistakes)
    fallback = list(checked.tables.fallback(label))
    if file is None:
        rules = dict(_rules(checked, label))
        result: dict[str, Any] = {"rules": rules, "fallback": fallback}
        lines = _rule_lines(rules, fallback)
    else:
        body, recorded_headers = _read_request(file)
        decider = Decider(
            config=checked.workers[label],
            labels=fleet.labels,
            routing=checked.tables.routing(label),
            switch=read_switch(switch_path(fleet.state, label)),
            fleet_models=fleet_models(fleet),
        )
        request_headers = recorded_headers | _parse_headers(headers)
        try:
            explanation = decider.explain(body, request_headers, fallback=fallback)
        except UsageError as error:
            raise UsageError(f"{file}: {error}") from error
        result = asdict(explanation)
        lines = [f"{printable(result['model'])}   {printable(result['reason'])}"]
        lines += _fact_lines(result["facts"])
    if as_json:
        show_json({"schema": 1, "label": label, **result})
    else:
        show("\n".join(lines))
    if read_overrides(overrides_path(fleet.state, label)).is_bypassed:
        text = f"{label} is bypassed: its rules do not apply"
        notify(options, f"note: {text}   (ccproxy toggle {label} on)")
    _note_skipped(options, fleet, fallback)


def _note_skipped(options: Options, fleet: Fleet, fallback: Sequence[str]) -> None:
    """Print a note for each entry of *fallback* that is skipped because it is not running."""
    from ccproxy.supervisor.control.client import fleet_status

    rows = fleet_status(fleet).proxies if fallback else ()
    states = {row.label: row.state for row in rows}
    for label in fallback:
        if states.get(label) not in _SERVING:
            text = f"the fallback {label} is skipped (state: {states.get(label)})"
            notify(options, f"note: {text}; to start it: ccproxy start {label}")


def _rules(checked: CheckedFleet, label: str) -> Iterator[tuple[str, str]]:
    threshold = checked.workers[label].long_context_threshold
    routing = checked.tables.routing(label).with_threshold(threshold)
    yield from routing.rules.items()
    yield from ((f"agent {agent}", model) for agent, model in routing.agents.items())
    if (long := routing.long_context) is not None:
        over = f" over {long.over}" if long.over is not None else ""
        yield f"long context{over}", long.model


def _rule_lines(rules: Mapping[str, str], fallback: Sequence[str]) -> list[str]:
    rows = {rule: printable(model) for rule, model in rules.items()}
    if fallback:
        rows["fallback"] = ", ".join(fallback)
    lines = table((Column(), Column()), list(rows.items()))
    if not rules:
        lines.insert(0, "no rules: every request uses the model for its tier")
    return lines


def _fact_lines(facts: Mapping[str, Any]) -> list[str]:
    values = {
        name.replace("_", " "): "yes" if value is True else printable(str(value))
        for name, value in facts.items()
        if value
    }
    return table((Column(), Column()), list(values.items()), indent="  ")


def _read_request(file: str) -> tuple[bytes, dict[str, str]]:
    """Read a request body and its headers; a file may contain the body alone."""
    data = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
    try:
        content = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{file} is not JSON: {error}") from error
    if isinstance(content, dict) and isinstance(content.get("body"), dict):
        headers = content.get("headers") or {}
        if not isinstance(headers, dict):
            raise UsageError(f"{file}: headers must be an object")
        return json.dumps(content["body"]).encode(), {
            str(name): str(value) for name, value in headers.items()
        }
    return data, {}


def _parse_headers(lines: Sequence[str]) -> dict[str, str]:
    headers = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not (name.strip() and colon):
            raise UsageError(f'"{line}" is not a header\n  fix: write -H "name: value"')
        headers[name.strip()] = value.strip()
    return headers

"""`ccproxy route`: the rules of an entry, and what they make of a recorded request."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ccproxy.cli.render.terminal import clean, show
from ccproxy.cli.selection import choose_one, complete_label, open_fleet
from ccproxy.cli.verb import Options, Verb
from ccproxy.errors import ConfigError, UsageError

if TYPE_CHECKING:
    from ccproxy.config.check import Checked


@click.command(
    cls=Verb,
    examples=[
        "ccproxy route kimi                                  # its rules",
        "ccproxy route kimi --explain request.json           # a body, or {headers, body}",
        "ccproxy route kimi --explain request.json -H 'x-claude-code-agent-id: a1'",
    ],
)
@click.argument("label", shell_complete=complete_label)
@click.option("--explain", "file", metavar="FILE", help="A recorded request; - is stdin.")
@click.option("-H", "--header", "headers", multiple=True, metavar="NAME:VALUE")
@click.option("--json", "as_json", is_flag=True, help="As JSON (schema 1).")
@click.pass_obj
def route(
    options: Options, label: str, file: str | None, headers: Sequence[str], *, as_json: bool
) -> None:
    """
    Show the rules by which LABEL chooses models, or what they make of a request; nothing is sent.

    FILE holds the JSON of a request to /v1/messages, or an object with its headers and body.
    """
    # Reads presets and conversion settings: too slow to load for --help and completion.
    from ccproxy.config.check import check_fleet
    from ccproxy.config.explaining import explain

    fleet = open_fleet(options)
    name = choose_one(fleet, label).label
    checked = check_fleet(fleet.file)
    if checked.mistakes:
        raise ConfigError(checked.mistakes)
    if file is None:
        found: dict[str, Any] = {"rules": dict(_rules(checked, name))}
        found["fallback"] = list(checked.choices.fallback(name))
        lines = [f"{rule:<16}  {clean(model)}" for rule, model in found["rules"].items()]
        lines = lines or ["no rules: every request goes to the model of its tier"]
        if found["fallback"]:
            lines.append(f"{'fallback':<16}  {', '.join(found['fallback'])}")
    else:
        body, told = _recorded(file)
        found = explain(checked, name, body, told | _headers(headers))
        lines = [f"{clean(found['model'])}   {clean(found['reason'])}", *_seen(found["facts"])]
    show(json.dumps({"schema": 1, "label": name, **found}) if as_json else "\n".join(lines))


def _rules(checked: Checked, label: str) -> Iterator[tuple[str, str]]:
    threshold = checked.workers[label].long_context_threshold
    routing = checked.choices.routing(label).with_threshold(threshold)
    yield from routing.rules.items()
    yield from ((f"agent {agent}", model) for agent, model in routing.agents.items())
    if (long := routing.long_context) is not None:
        over = f" over {long.over}" if long.over is not None else ""
        yield f"long context{over}", long.model


def _seen(facts: Mapping[str, Any]) -> Iterator[str]:
    for name, value in facts.items():
        if value:
            yield f"  {name.replace('_', ' '):<10}  {'yes' if value is True else clean(str(value))}"


def _recorded(file: str) -> tuple[bytes, dict[str, str]]:
    """Read a body, or an object that holds headers and a body."""
    data = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
    try:
        content = json.loads(data)
    except ValueError as error:
        raise UsageError(f"{file} is not JSON: {error}") from error
    if isinstance(content, dict) and isinstance(content.get("body"), dict):
        headers = content.get("headers") or {}
        if not isinstance(headers, dict):
            raise UsageError(f"{file}: headers must be an object")
        told = {str(name): str(value) for name, value in headers.items()}
        return json.dumps(content["body"]).encode(), told
    return data, {}


def _headers(given: Sequence[str]) -> dict[str, str]:
    pairs = [line.partition(":") for line in given]
    for line, (name, colon, _) in zip(given, pairs, strict=True):
        if not (name.strip() and colon):
            raise UsageError(f'"{line}" is not a header\n  fix: write -H "name: value"')
    return {name.strip(): value.strip() for name, _, value in pairs}

"""`ccproxy keys`: the providers' keys, their state, and what may be done about it."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, NamedTuple

import click

from ccproxy.cli.render.terminal import clean, complain, duration, show
from ccproxy.cli.selection import choose_one, complete_label, open_fleet
from ccproxy.cli.verb import Options, Verb
from ccproxy.config.fleet import Fleet
from ccproxy.errors import NotRunning, UsageError
from ccproxy.ipc.control_messages import KEY_ACTIONS, KeyAction
from ccproxy.supervisor.control.key_actions import ask_about_keys

REFUSALS = {"authentication_error", "permission_error", "billing_error"}
"""The errors that blame the key, not the request or the moment."""
_HEADS = ("KEY", "TAIL", "STATE", "TODAY", "IN-FLIGHT", "WHY")
_RIGHT = {"TODAY", "IN-FLIGHT"}
_COLORS = {"ready": "green", "resting": "yellow", "disabled": "bright_black"}


class _Order(NamedTuple):
    label: str | None
    deed: KeyAction
    ids: tuple[str, ...]


@click.command(
    cls=Verb,
    examples=[
        "ccproxy keys",
        "ccproxy keys kimi",
        "ccproxy keys kimi test k3        # asks the provider with this key",
        "ccproxy keys kimi disable k2     # until it is enabled",
        "ccproxy keys kimi reset          # forget every rest",
    ],
)
@click.argument(
    "words", nargs=-1, metavar="[LABEL] [ACTION] [ID]...", shell_complete=complete_label
)
@click.option("--json", "as_json", is_flag=True, help="As JSON (schema 1).")
@click.pass_obj
def keys(options: Options, words: tuple[str, ...], *, as_json: bool) -> None:
    """
    Show the keys of LABEL, or of all: state, cause, until when, and how often used today.

    ACTION is list, test, enable, disable or reset; ID is k1, k2 …, none means every key. A key is
    only ever shown by its last four characters; with -v, why it was refused last, too. Exits
    with 4 if a test finds a refused key, with 1 if another test fails or what was switched could
    not be saved.
    """
    fleet = open_fleet(options)
    order = _understand(words)
    found = _carry_out(fleet, order)
    if as_json:
        show(json.dumps({"schema": 1, "proxies": found}, indent=2))
    else:
        show("\n\n".join("\n".join(_lines(one, verbose=options.verbose)) for one in found))
    for one in found:
        if why := one.get("unsaved"):
            text = f"warning: {one['label']}: not saved ({why}); it holds until the proxy restarts"
            complain(clean(text))
    raise SystemExit(_exit_code(found))


def _understand(words: Sequence[str]) -> _Order:
    match list(words):
        case []:
            return _Order(None, "list", ())
        case [label, deed, *ids] if deed in KEY_ACTIONS:
            return _checked(_Order(label, deed, tuple(ids)))
        case [deed, *ids] if deed in KEY_ACTIONS:
            return _checked(_Order(None, deed, tuple(ids)))
        case [label]:
            return _Order(label, "list", ())
        case _:
            raise UsageError(
                f'"{words[1]}" is not something to do with keys'
                f"\n  fix: use {', '.join(KEY_ACTIONS)}"
            )


def _checked(order: _Order) -> _Order:
    """Refuse what would switch off more than was meant."""
    if order.deed == "disable" and not order.ids:
        raise UsageError("disable needs the key\n  fix: ccproxy keys LABEL disable k1")
    return order


def _carry_out(fleet: Fleet, order: _Order) -> list[dict[str, Any]]:
    if order.label is not None:
        labels = [choose_one(fleet, order.label).label]
    else:
        labels = [entry.label for entry in fleet.entries]
        if order.ids and len(labels) > 1:
            command = f"ccproxy keys LABEL {order.deed} {order.ids[0]}"
            raise UsageError(f"whose key is {order.ids[0]}?\n  fix: {command}")
    found = []
    for label in labels:
        try:
            found.append(_of_one(fleet, label, order))
        except NotRunning:
            if order.label is not None:
                raise
    if not found:
        raise NotRunning("nothing is running\n  fix: ccproxy start")
    return found


def _of_one(fleet: Fleet, label: str, order: _Order) -> dict[str, Any]:
    replies = [
        ask_about_keys(fleet, label, order.deed, key_id=key_id) for key_id in order.ids or (None,)
    ]
    one: dict[str, Any] = {"label": label, "keys": [asdict(key) for key in replies[-1].keys]}
    if replies[-1].unsaved:
        one["unsaved"] = replies[-1].unsaved
    if order.deed == "test":
        one["tests"] = [asdict(test) for reply in replies for test in reply.tests]
    return one


def _exit_code(found: Sequence[Mapping[str, Any]]) -> int:
    failed = [test for one in found for test in one.get("tests", ()) if not test["ok"]]
    if any(test["kind"] in REFUSALS for test in failed):
        return 4
    return 1 if failed or any("unsaved" in one for one in found) else 0


# As text.


def _lines(one: Mapping[str, Any], *, verbose: bool) -> list[str]:
    table = [_HEADS, *(_cells(key) for key in one["keys"])]
    widths = [max(len(cells[column]) for cells in table) for column in range(len(_HEADS))]
    lines = [str(one["label"])]
    for number, cells in enumerate(table):
        texts = [
            f"{cell:>{wide}}" if head in _RIGHT else f"{cell:<{wide}}"
            for cell, wide, head in zip(cells, widths, _HEADS, strict=True)
        ]
        if number:
            texts[2] = click.style(texts[2], fg=_COLORS.get(cells[2], "red"))
        lines.append(f"  {'  '.join(texts)}".rstrip())
        if verbose and number and (said := one["keys"][number - 1]["last_error"]):
            lines.append(f"      last refusal: {clean(said)}")
    tails = {key["id"]: key["tail"] for key in one["keys"]}
    return lines + [_tested(test, tails[test["id"]]) for test in one.get("tests", ())]


def _cells(key: Mapping[str, Any]) -> tuple[str, ...]:
    why = " · ".join(_why(rest) for rest in key["cooldowns"])
    today, flying = str(key["used_today"]), str(key["in_flight"])
    return key["id"], clean(key["tail"]), key["state"], today, flying, why


def _why(rest: Mapping[str, Any]) -> str:
    which = f" for {clean(rest['model'])}" if rest["model"] else ""
    since = time.strftime("%H:%M", time.localtime(rest["since"]))
    again = f"again in {duration(rest['seconds'])}" if rest["seconds"] else "the next request tries"
    return f"{clean(rest['cause'])} ({rest['status']}){which} since {since}, {again}"


def _tested(test: Mapping[str, Any], tail: str) -> str:
    sign = click.style("✓", fg="green") if test["ok"] else click.style("✗", fg="red")
    said = clean(test["message"]) if test["ok"] else f"{test['status']} {clean(test['message'])}"
    return f"  {sign} {test['id']} {clean(tail)}  {said}  ({test['seconds']:.1f} s)"

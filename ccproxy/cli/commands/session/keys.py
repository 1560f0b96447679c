"""Show, test, add, remove, disable and enable API keys."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import click

from ccproxy.cli.command import Options, command
from ccproxy.cli.render.account_lines import account_text, window_text
from ccproxy.cli.render.command_lines import callable_here
from ccproxy.cli.render.table import Column, table
from ccproxy.cli.render.terminal import columns, show, show_json, warn_unsaved
from ccproxy.cli.selection import choose_one, open_entry, open_fleet
from ccproxy.cli.session.completions import complete_key_words
from ccproxy.cli.single_proxy import require_env_file
from ccproxy.config.fleet import Fleet
from ccproxy.errors import NotRunning, UsageError
from ccproxy.ipc.control_messages import (
    KEY_ACTIONS,
    KeyAction,
    KeyCooldown,
    KeyRow,
    KeysReply,
    KeyTest,
    SessionMove,
)
from ccproxy.supervisor.control.worker_requests import ask_about_keys
from ccproxy.text import format_duration, printable

FILE_ACTIONS = ("add", "remove")
"""Actions on the env file, which do not require a running proxy."""
KEY_ERRORS = {"authentication_error", "permission_error", "billing_error"}
"""The error types that are caused by the key, not by the request or a temporary condition."""
OUT_OF_CREDIT = "out_of_credit"
"""The cause of a cooldown that the user can end early by topping up."""
BYPASSED = "   (bypassed: requests do not use these keys)"
_COLUMNS = (
    Column(head="KEY"),
    Column(head="TAIL"),
    Column(head="STATE"),
    Column(head="TODAY", align_right=True, drop_order=2),
    Column(head="IN-FLIGHT", align_right=True, drop_order=1),
    Column(head="SESSIONS", align_right=True, drop_order=3),
    Column(head="WHY"),
)
_CAUSES = {"per_day": "KEY_PER_DAY is reached"}
"""Causes that are limits set by the user; all others come from the provider."""
_COLORS = {"ready": "green", "cooldown": "yellow", "disabled": "bright_black"}


class _Request(NamedTuple):
    label: str | None
    """None means every proxy."""
    action: KeyAction
    ids: tuple[str, ...]
    """Empty means every key."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Proxy:
    """The keys of one proxy after the action."""

    label: str
    is_bypassed: bool
    keys: Sequence[KeyRow]
    unsaved: str
    """Why a restart will undo the action; empty if the action is saved."""
    tests: Sequence[KeyTest] | None
    """None if the action was not a test."""
    strategy: str = ""
    moves: Sequence[SessionMove] = ()

    def as_json(self) -> dict[str, Any]:
        row: dict[str, Any] = {
            "label": self.label,
            "strategy": self.strategy,
            "keys": [asdict(key) for key in self.keys],
            "moves": [asdict(move) for move in self.moves],
        }
        if self.unsaved:
            row["unsaved"] = self.unsaved
        if self.tests is not None:
            row["tests"] = [asdict(test) for test in self.tests]
        return row


@command(
    "ccproxy keys",
    "ccproxy keys kimi",
    "ccproxy keys kimi test k3        # send one request with this key",
    "ccproxy keys kimi disable k2     # until it is enabled again",
    "ccproxy keys kimi reset          # clear all cooldowns",
    "ccproxy keys kimi add            # prompts for keys without echo, or reads stdin",
    "ccproxy keys kimi remove k2      # delete it from the env file",
)
@click.argument(
    "words", nargs=-1, metavar="[LABEL] [ACTION] [ID]...", shell_complete=complete_key_words
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON (schema 1).")
@click.option("--yes", is_flag=True, help="With remove: do not ask for confirmation.")
def keys(options: Options, words: tuple[str, ...], *, as_json: bool, yes: bool) -> None:
    """
    Show the keys of LABEL, or of every proxy: state, cause, next attempt, requests today, and
    sessions bound to the key.

    ACTION is list, test, enable, disable, reset, add or remove. ID is k1, k2 and so on; without
    one, the action applies to every key. add and remove change the env file of LABEL. Only the last
    four characters of a key are shown; -v adds the last refusals, accounts, rate limits and session
    moves. Exits with 4 if a tested key is refused, or with 1 if a test fails for another reason or
    a change could not be saved.
    """
    if len(words) > 1 and words[1] in FILE_ACTIONS:
        from ccproxy.cli.setup.key_edit import add_keys, remove_keys

        _, entry = open_entry(options, words[0])
        require_env_file(entry)
        if words[1] == "add":
            add_keys(options, entry, words[2:])
        else:
            remove_keys(options, entry, words[2:], yes=yes)
        return
    proxies = _perform(open_fleet(options), _parse(words))
    if as_json:
        show_json({"schema": 1, "proxies": [proxy.as_json() for proxy in proxies]})
    else:
        show("\n\n".join("\n".join(_lines(proxy, verbose=options.verbose)) for proxy in proxies))
    for proxy in proxies:
        warn_unsaved(proxy.label, proxy.unsaved)
    raise SystemExit(_exit_code(proxies))


def _parse(words: Sequence[str]) -> _Request:
    match list(words):
        case ["disable"] | [_, "disable"]:  # without an id, all keys would be disabled
            raise UsageError("disable needs a key\n  fix: ccproxy keys LABEL disable k1")
        case []:
            return _Request(None, "list", ())
        case [label, action, *ids] if action in KEY_ACTIONS:
            return _Request(label, action, tuple(ids))
        case [action, *ids] if action in KEY_ACTIONS:
            return _Request(None, action, tuple(ids))
        case [action, *_] if action in FILE_ACTIONS:
            raise UsageError(f"{action} needs a label\n  fix: ccproxy keys LABEL {action}")
        case [label]:
            return _Request(label, "list", ())
        case _:
            actions = ", ".join((*KEY_ACTIONS, *FILE_ACTIONS))
            raise UsageError(f'unknown action "{words[1]}"\n  fix: use {actions}')


def _perform(fleet: Fleet, request: _Request) -> list[_Proxy]:
    if request.label is not None:
        labels = [choose_one(fleet, request.label).label]
    else:
        labels = [entry.label for entry in fleet.entries]
        if request.ids and len(labels) > 1:
            key, action = request.ids[0], request.action
            fix = f"ccproxy keys LABEL {action} {key}"
            raise UsageError(f"more than one proxy has a key {key}\n  fix: {fix}")
    proxies = []
    for label in labels:
        try:
            proxies.append(_perform_on(fleet, label, request))
        except NotRunning:
            if request.label is not None:
                raise
    if not proxies:
        raise NotRunning("no proxy is running\n  fix: ccproxy start")
    return proxies


def _perform_on(fleet: Fleet, label: str, request: _Request) -> _Proxy:
    from ccproxy.store.overrides import overrides_path, read_overrides  # imports msgspec

    replies: list[KeysReply] = [
        ask_about_keys(fleet, label, request.action, key_id=key_id)
        for key_id in request.ids or (None,)
    ]
    tests = [test for reply in replies for test in reply.tests]
    return _Proxy(
        label=label,
        is_bypassed=read_overrides(overrides_path(fleet.state, label)).is_bypassed,
        keys=replies[-1].keys,
        strategy=replies[-1].strategy,
        moves=replies[-1].moves,
        unsaved=replies[-1].unsaved,
        tests=tests if request.action == "test" else None,
    )


def _exit_code(proxies: Sequence[_Proxy]) -> int:
    failed = [test for proxy in proxies for test in proxy.tests or () if not test.ok]
    if any(test.kind in KEY_ERRORS for test in failed):
        return 4
    return 1 if failed or any(proxy.unsaved for proxy in proxies) else 0


# Output.


def _lines(proxy: _Proxy, *, verbose: bool) -> list[str]:
    head, *rows = table(_COLUMNS, [_cells(key) for key in proxy.keys], width=columns(), indent="  ")
    lines = [f"{proxy.label}{BYPASSED if proxy.is_bypassed else ''}", head]
    for key, row in zip(proxy.keys, rows, strict=False):
        lines.append(row)
        if verbose and key.last_error:
            lines.append(f"      last refusal: {printable(key.last_error)}")
        if verbose and key.account is not None:
            lines.append(f"      account: {account_text(key.account)}")
        if verbose and key.limits:
            lines.append(f"      limits: {' · '.join(map(window_text, key.limits))}")
    lines += rows[len(proxy.keys) :]
    lines += [_move_line(move) for move in (proxy.moves if verbose else proxy.moves[-1:])]
    if any(cooldown.cause == OUT_OF_CREDIT for key in proxy.keys for cooldown in key.cooldowns):
        lines.append(callable_here(f"  After topping up:  ccproxy keys {proxy.label} reset"))
    tails = {key.id: key.tail for key in proxy.keys}
    return lines + [_test_line(test, tails[test.id]) for test in proxy.tests or ()]


def _cells(key: KeyRow) -> tuple[str, ...]:
    # A disabled key is not tried again when its cooldowns end.
    cooldowns = () if key.state == "disabled" else key.cooldowns
    return (
        key.id,
        printable(key.tail),
        click.style(key.state, fg=_COLORS.get(key.state, "red")),
        str(key.used_today),
        str(key.in_flight),
        str(key.sessions),
        " · ".join(map(_cause, cooldowns)),
    )


def _cause(cooldown: KeyCooldown) -> str:
    model = f" for {printable(cooldown.model)}" if cooldown.model else ""
    since = ""
    if cooldown.since:  # a limit set by the user has no start time
        since = time.strftime(" since %H:%M", time.localtime(cooldown.since))
    attempt = "will be tried on the next request"
    if cooldown.seconds:
        attempt = f"next attempt in {format_duration(cooldown.seconds)}"
    status = f" ({cooldown.status})" if cooldown.status else ""
    cause = _CAUSES.get(cooldown.cause, cooldown.cause.replace("_", " "))
    return f"{printable(cause)}{status}{model}{since}, {attempt}"


def _move_line(move: SessionMove) -> str:
    at = time.strftime("%H:%M", time.localtime(move.at))
    route = f"session {printable(move.session)} moved from {move.source} to {move.target}"
    lost = f", about {move.cached_tokens_lost:,} cached tokens lost" * bool(move.cached_tokens_lost)
    return f"  {at}  {printable(route)}: {printable(move.reason)}{lost}"


def _test_line(test: KeyTest, tail: str) -> str:
    mark = click.style("✓", fg="green") if test.ok else click.style("✗", fg="red")
    status = "" if test.ok else f"{test.status} "
    message = f"{status}{printable(test.message)}"
    return f"  {mark} {test.id} {printable(tail)}  {message}  ({test.seconds:.1f} s)"

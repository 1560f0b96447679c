"""
The state of the keys as shown by `ccproxy keys` and in the reason lines of `ccproxy status`.

A key is shown by its last four characters only. A test sends one small request with the key,
regardless of the key's state, and the response updates the pool like any other response.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import msgspec

from ccproxy.convert.errors.causes import Cause
from ccproxy.errors import Problem
from ccproxy.ipc.control_messages import (
    KeyCooldown,
    KeyCounts,
    KeyRow,
    KeysReply,
    KeysRequest,
    KeyTest,
    Refusal,
)
from ccproxy.keys.display import (
    CooldownView,
    KeyView,
    format_wait,
)
from ccproxy.keys.key_state import PER_DAY, REPORTED
from ccproxy.worker.accounting.account_rows import account_row, limit_rows
from ccproxy.worker.activity.timeline import session_move
from ccproxy.worker.server.error_response import redacted
from ccproxy.worker.test_request import send_test_request
from ccproxy.worker.worker import Worker

NO_STORE = "the file with the state of the keys could not be opened at startup"

_FAULTS = (Cause.BAD_KEY.value, Cause.OUT_OF_CREDIT.value)
"""Causes that last until the user acts."""
_LONG = {*_FAULTS, Cause.QUOTA.value}


async def answer_keys(worker: Worker, request: KeysRequest) -> KeysReply | Refusal:
    """Apply the action of *request* and return the resulting keys."""
    ids = [key.id for key in worker.pool.snapshot()]
    if request.id is not None:
        if request.id not in ids:
            return Refusal(error=f"there is no key {request.id}; the keys are {', '.join(ids)}")
        ids = [request.id]
    tests: tuple[KeyTest, ...] = ()
    match request.action:
        case "test":
            tests = tuple([await _test(worker, key_id) for key_id in ids])
        case "enable":
            for key_id in ids:
                worker.pool.enable(key_id)
        case "disable":
            for key_id in ids:
                worker.pool.disable(key_id)
        case "reset":
            worker.pool.reset(request.id)
    unsaved = ""
    if request.action not in ("list", "test"):
        worker.logs.events.info(f"keys.{request.action}", keys=ids)
        worker.activity.change_keys(ids, request.action)
        unsaved = await _save(worker)
    return KeysReply(
        keys=key_rows(worker, worker.pool.snapshot()),
        strategy=worker.config.key_policy.strategy,
        moves=tuple(map(session_move, worker.pool.moves())),
        tests=tests,
        unsaved=unsaved,
    )


def key_counts(keys: Sequence[KeyView]) -> KeyCounts:
    """Return the number of *keys* that are ready for every model, and their total."""
    return KeyCounts(ready=sum(key.state == "ready" for key in keys), total=len(keys))


def key_rows(worker: Worker, keys: Sequence[KeyView]) -> tuple[KeyRow, ...]:
    """Return a row for each of *keys*, with its state."""
    return tuple(_row(worker, key) for key in keys)


def _row(worker: Worker, key: KeyView) -> KeyRow:
    return KeyRow(
        id=key.id,
        tail=key.tail,
        state=key.state,
        cooldowns=msgspec.convert(key.cooldowns, tuple[KeyCooldown, ...], from_attributes=True),
        used_today=key.used_today,
        in_flight=key.in_flight,
        sessions=key.sessions,
        last_error=key.last_error,
        account=account_row(key),
        limits=limit_rows(worker, key.id),
    )


async def _save(worker: Worker) -> str:
    """Save the state of the keys; return why a restart would undo the change, or ''."""
    if worker.keeper is not None:
        return await worker.keeper.save_now()
    # Another process of the entry may own the file; that process receives the same action.
    return NO_STORE if worker.pool.is_writer else ""


async def _test(worker: Worker, key_id: str) -> KeyTest:
    start = time.monotonic()
    kind, status, message, is_missing_path = None, 200, "the provider answers", False
    try:
        await send_test_request(worker, request_id=worker.new_id("req"), key_id=key_id)
    except Problem as error:
        problem = redacted(error, worker.logs.redact)
        kind, status, message = problem.kind, problem.status, problem.message
        is_missing_path = error.refusal is not None and error.refusal.status in (404, 405)
    return KeyTest(
        id=key_id,
        ok=kind is None,
        kind=kind,
        status=status,
        message=message,
        seconds=round(time.monotonic() - start, 3),
        is_missing_path=is_missing_path,
    )


def faulty_key(keys: Sequence[KeyView]) -> str:
    """Return the id of the first key that was rejected or is out of credit, or ''."""
    for key in keys:
        if key.state != "disabled" and any(cooldown.cause in _FAULTS for cooldown in key.cooldowns):
            return key.id
    return ""


def reason(worker: Worker, keys: Sequence[KeyView]) -> str | None:
    """Describe the problems with *keys* and the provider for the user; None if there are none."""
    parts = []
    name = worker.config.provider_name
    for breaker in worker.upstream.breakers.open():
        subject = f"{breaker.model} at {name}" if breaker.model else name
        parts.append(f"{subject} is failing; next attempt in {format_wait(breaker.seconds)}")
    for limit in worker.pool.account_limits():
        scope = f" for {limit.model}" if limit.model else ""
        wait = format_wait(limit.seconds)
        parts.append(f"{name} limits this address or account{scope}: cooling down for {wait}")
    unavailable = [key for key in keys if key.state != "ready"]
    # If no key is available, that explains every failure.
    if not keys or len(unavailable) < len(keys):
        parts.append(worker.activity.provider_failures.describe())
    if unavailable:
        details = " · ".join(f"{key.id} {key.tail} {_describe(key)}" for key in unavailable)
        parts.append(f"{len(unavailable)} of {len(keys)} keys out: {details}")
    return " · ".join(filter(None, parts)) or None


def _describe(key: KeyView) -> str:
    if key.state == "disabled":
        return "disabled by the user"
    return _describe_cooldown(
        max(key.cooldowns, key=lambda cooldown: (cooldown.cause in _LONG, cooldown.seconds))
    )


def _describe_cooldown(cooldown: CooldownView) -> str:
    if cooldown.cause == PER_DAY:
        return f"at its limit of requests per day, {_next_attempt(cooldown)}"
    since = time.strftime("%H:%M", time.localtime(cooldown.since))
    match cooldown.cause:
        case Cause.BAD_KEY.value:
            return f"rejected ({cooldown.status}) since {since}"
        case Cause.OUT_OF_CREDIT.value:
            return f"out of credit ({cooldown.status}) since {since}, {_next_attempt(cooldown)}"
        case Cause.QUOTA.value:
            if cooldown.status == REPORTED:
                return f"at the plan's usage limit since {since}, {_next_attempt(cooldown)}"
            return f"out of quota ({cooldown.status}) since {since}, {_next_attempt(cooldown)}"
    source = ", retry-after" if cooldown.has_retry_after else ""
    status = cooldown.status or "limit used up"
    return f"cooling down for {format_wait(cooldown.seconds)} ({status}{source})"


def _next_attempt(cooldown: CooldownView) -> str:
    return (
        f"next attempt in {format_wait(cooldown.seconds)}"
        if cooldown.seconds
        else "will be tried again on the next request"
    )

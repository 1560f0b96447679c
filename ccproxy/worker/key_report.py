"""
The keys as their owner sees them: why some are out, and what may be done about it.

Behind `ccproxy keys` and the reason lines of `status`. A key is never shown, only its last four
characters. A test asks the provider for a word with one key, whatever is known about it, and the
pool learns from the answer like from any other.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from ccproxy.convert.errors.classify import Cause
from ccproxy.errors import Problem
from ccproxy.keys.display import KeyShown, RestShown, span
from ccproxy.worker.server.error_response import redacted
from ccproxy.worker.state import Worker
from ccproxy.worker.test_request import trial

NO_STORE = "the file of its keys' state could not be opened when it started"

DEEDS = ("list", "test", "enable", "disable", "reset")


async def answer_keys(worker: Worker, asked: Mapping[str, Any]) -> dict[str, Any]:
    """Do what *asked* says (`do` and `id`) and return the keys as they are then."""
    deed, key_id = asked.get("do", "list"), asked.get("id")
    known = [key.id for key in worker.pool.snapshot()]
    if deed not in DEEDS:
        return {"ok": False, "error": f"no such thing to do; there are {', '.join(DEEDS)}"}
    if key_id is not None and key_id not in known:
        return {"ok": False, "error": f"no such key; there are {', '.join(known)}"}
    ids = known if key_id is None else [key_id]
    answer: dict[str, Any] = {"ok": True}
    match deed:
        case "test":
            answer["tests"] = [await _test(worker, one) for one in ids]
        case "enable":
            for one in ids:
                worker.pool.enable(one)
        case "disable":
            for one in ids:
                worker.pool.disable(one)
        case "reset":
            worker.pool.reset(key_id)
    if deed not in ("list", "test"):
        worker.log.info(f"keys.{deed}", keys=ids)
        answer |= await _save(worker)
    return {**answer, "keys": [asdict(key) for key in worker.pool.snapshot()]}


async def _save(worker: Worker) -> dict[str, str]:
    """Save what the user wants of the keys; say under `unsaved` why a restart will forget it."""
    if worker.keeper is not None:
        unsaved = await worker.keeper.save_now()
    else:  # where another process of the entry keeps the pool, that one is told, too
        unsaved = NO_STORE if worker.pool.is_kept_here else ""
    return {"unsaved": unsaved} if unsaved else {}


async def _test(worker: Worker, key_id: str) -> dict[str, Any]:
    began = time.monotonic()
    try:
        await trial(worker, request_id=worker.new_id("req"), key_id=key_id)
    except Problem as problem:
        told = redacted(problem, worker.redact)
        found = {"ok": False, "kind": told.kind, "status": told.status, "message": told.message}
    else:
        found = {"ok": True, "kind": None, "status": 200, "message": "the provider answers"}
    return {"id": key_id, **found, "seconds": round(time.monotonic() - began, 3)}


def reason(worker: Worker) -> str | None:
    """Say why not all is well with keys and provider, for the user; None if it is."""
    parts = []
    name = worker.config.provider_name
    if (seconds := worker.upstream.breaker.seconds_open) > 0:
        parts.append(f"{name} fails and is asked again in {span(seconds)}")
    if (resting := worker.pool.provider_rests_for) is not None:
        parts.append(f"{name} limits this address or account: cooling {span(resting)}")
    keys = worker.pool.snapshot()
    out = [key for key in keys if key.state != "ready"]
    if out:
        said = " · ".join(f"{key.id} {key.tail} {_said(key)}" for key in out)
        parts.append(f"{len(out)} of {len(keys)} keys out: {said}")
    return " · ".join(parts) or None


def _said(key: KeyShown) -> str:
    if key.state == "disabled":
        return "disabled by the user"
    return _why(max(key.rests, key=lambda rest: (rest.cause in _LASTING, rest.seconds)))


def _why(rest: RestShown) -> str:
    since = time.strftime("%H:%M", time.localtime(rest.since))
    match rest.cause:
        case Cause.BAD_KEY.value:
            return f"rejected {rest.status} since {since}"
        case Cause.MONEY.value:
            return f"out of money ({rest.status}) since {since}, {_again(rest)}"
        case Cause.QUOTA.value:
            return f"at the plan's limit ({rest.status}) since {since}, {_again(rest)}"
    told = ", retry-after" if rest.told else ""
    return f"cooling {span(rest.seconds)} ({rest.status}{told})"


def _again(rest: RestShown) -> str:
    return f"tried again in {span(rest.seconds)}" if rest.seconds else "tried again next"


_LASTING = {Cause.BAD_KEY.value, Cause.MONEY.value, Cause.QUOTA.value}

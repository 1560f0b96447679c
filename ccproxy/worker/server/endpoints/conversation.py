"""The /conversation routes: rows H09 to H11 on what `worker/admin/history.py` keeps."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import msgspec
from aiohttp import web

from ccproxy.errors import CcproxyError, Problem, UsageError
from ccproxy.store.history import Turn
from ccproxy.worker.server.endpoints import messages
from ccproxy.worker.server.endpoints.health import json_response
from ccproxy.worker.server.http import ClientRequest

MOST_TURNS = 1000
"""Of one answer, and of what is sent to the model."""
DEFAULT_MAX_TOKENS = 4096


async def show(request: ClientRequest) -> web.Response:
    """Return the last turns."""
    limit = limit_of(request, default=MOST_TURNS)
    with _told_as_problems():
        turns, count = await request.worker.session.history.last(limit)
    return json_response({"messages": [turn.as_json() for turn in turns], "total_count": count})


async def clear(request: ClientRequest) -> web.Response:
    """Forget everything."""
    with _told_as_problems():
        forgotten = await request.worker.session.history.clear()
    return json_response({"message": f"{forgotten} turns forgotten", "total_count": 0})


async def status(request: ClientRequest) -> web.Response:
    """Tell whether turns are kept, and how many are."""
    with _told_as_problems():
        _, count = await request.worker.session.history.last(0)
    return _status(request, count)


async def enable(request: ClientRequest) -> web.Response:
    """Keep turns from now on, also in the new export that is named."""
    session = request.worker.session
    conversation = session.history
    name = await _file_name(request)
    with _told_as_problems():
        await session.switches.enable_history(name)
        _, count = await conversation.last(0)
    return _status(request, count)


async def disable(request: ClientRequest) -> web.Response:
    """Keep no more turns."""
    session = request.worker.session
    conversation = session.history
    with _told_as_problems():
        await session.switches.disable_history()
        _, count = await conversation.last(0)
    return _status(request, count)


async def flush(request: ClientRequest) -> web.Response:
    """Have everything on disk before this answers."""
    with _told_as_problems():
        count = await request.worker.session.history.flush()
    return _status(request, count)


async def load(request: ClientRequest) -> web.Response:
    """Add what an export holds."""
    conversation = request.worker.session.history
    name = await _file_name(request)
    if not name:
        raise Problem("invalid_request_error", "file_path must name a file in exports/")
    with _told_as_problems():
        loaded = await conversation.load(name)
        _, count = await conversation.last(0)
    return json_response({"message": f"{loaded} turns loaded", "total_count": count})


async def go_on(request: ClientRequest) -> web.StreamResponse:
    """Ask the model with what was said before in front of the new messages."""
    fields = await json_of(request)
    new = fields.pop("message", None)
    if isinstance(new, str):
        fields["messages"] = [{"role": "user", "content": new}]
    if not isinstance(fields.get("messages"), list) or not fields["messages"]:
        raise Problem("invalid_request_error", "messages: at least one message is required")
    with _told_as_problems():
        turns, _ = await request.worker.session.history.last(MOST_TURNS)
    fields["messages"] = [*_as_messages(turns), *fields["messages"]]
    fields.setdefault("model", request.worker.tiers()["big"] or _last_model(turns))
    fields.setdefault("max_tokens", DEFAULT_MAX_TOKENS)
    body = msgspec.json.encode(fields)
    if request.record.keeps:
        request.record.asked = body
    return await messages.answer(request, body)


def _as_messages(turns: Sequence[Turn]) -> list[dict[str, str]]:
    """Make messages that alternate; an API conversation begins with the user."""
    result: list[dict[str, str]] = []
    for turn in turns:
        if result and result[-1]["role"] == turn.role:
            result[-1]["content"] += f"\n\n{turn.content}"
        elif result or turn.role == "user":
            result.append({"role": turn.role, "content": turn.content})
    return result


def _last_model(turns: Sequence[Turn]) -> str:
    if not turns:
        raise Problem("invalid_request_error", "model: Field required")
    return turns[-1].model


def _status(request: ClientRequest, count: int) -> web.Response:
    conversation = request.worker.session.history
    body = {
        "enabled": conversation.is_on,
        "file_path": conversation.file_name or None,
        "total_count": count,
    }
    return json_response(body)


# Reading what was asked...


def limit_of(request: ClientRequest, *, default: int) -> int:
    """
    Read how many entries are wanted.

    Raises:
        Problem: If that is not a number.

    """
    text = request.query.get("limit", str(default))
    if not text.isascii() or not text.isdigit() or len(text) > 9:
        raise Problem("invalid_request_error", "limit must be a whole number, zero or more")
    return min(int(text), MOST_TURNS)


async def json_of(request: ClientRequest) -> dict[str, Any]:
    """
    Read the body; an empty one is an empty object.

    Raises:
        Problem: If it is not a JSON object.

    """
    body = await request.body()
    try:
        return msgspec.json.decode(body or b"{}", type=dict[str, Any])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        text = f"the request body is not a JSON object: {error}"
        raise Problem("invalid_request_error", text) from error


async def _file_name(request: ClientRequest) -> str:
    """Read `file_path` from body or query; it is a name, whatever the ancestors called it."""
    fields: Mapping[str, Any] = await json_of(request)
    name = fields.get("file_path") or request.query.get("file_path") or ""
    if not isinstance(name, str):
        raise Problem("invalid_request_error", "file_path must be the name of a file in exports/")
    return name


@contextmanager
def _told_as_problems() -> Iterator[None]:
    """Turn what a store or a file says into an answer."""
    try:
        yield
    except Problem:
        raise
    except UsageError as error:
        raise Problem("invalid_request_error", str(error)) from error
    except FileExistsError as error:
        text = "there is such a file in exports/ already, and none is ever overwritten"
        raise Problem("conflict_error", text) from error
    except FileNotFoundError as error:
        raise Problem("not_found_error", "there is no such file in exports/") from error
    except (CcproxyError, OSError, sqlite3.Error) as error:
        raise Problem("api_error", f"the history cannot be used: {error}") from error

"""The /conversation routes: the history that `worker/admin/history_recorder.py` keeps."""

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
from ccproxy.worker.server.http import ClientRequest
from ccproxy.worker.server.json_response import MAX_LIMIT, json_of, json_response, limit_of

DEFAULT_MAX_TOKENS = 4096


async def show(request: ClientRequest) -> web.Response:
    """Return the last turns of the history."""
    limit = limit_of(request, default=MAX_LIMIT)
    with _as_problems():
        turns, count = await request.worker.session.history.last(limit)
    return json_response({"messages": [turn.as_json() for turn in turns], "total_count": count})


async def clear(request: ClientRequest) -> web.Response:
    """Delete the history."""
    with _as_problems():
        deleted = await request.worker.session.history.clear()
    return json_response({"message": f"{deleted} turns deleted", "total_count": 0})


async def status(request: ClientRequest) -> web.Response:
    """Return whether turns are recorded, and their number."""
    conversation = request.worker.session.history
    with _as_problems():
        _, count = await conversation.last(0)
    body = {
        "enabled": conversation.is_on,
        "file_path": conversation.file_name or None,
        "total_count": count,
    }
    return json_response(body)


async def enable(request: ClientRequest) -> web.Response:
    """Start recording turns, and also write them to a new export if the request names one."""
    name = await _file_name(request)
    with _as_problems():
        await request.worker.session.switches.enable_history(name)
    return await status(request)


async def disable(request: ClientRequest) -> web.Response:
    """Stop recording turns."""
    with _as_problems():
        await request.worker.session.switches.disable_history()
    return await status(request)


async def flush(request: ClientRequest) -> web.Response:
    """Write everything to disk before answering."""
    with _as_problems():
        await request.worker.session.history.flush()
    return await status(request)


async def load(request: ClientRequest) -> web.Response:
    """Add the turns of an export to the history."""
    conversation = request.worker.session.history
    name = await _file_name(request)
    if not name:
        raise Problem("invalid_request_error", "file_path must name a file in exports/")
    with _as_problems():
        loaded = await conversation.load(name)
        _, count = await conversation.last(0)
    return json_response({"message": f"{loaded} turns loaded", "total_count": count})


async def continue_conversation(request: ClientRequest) -> web.StreamResponse:
    """Send the history and the new messages to the model."""
    fields = await json_of(request)
    new = fields.pop("message", None)
    if isinstance(new, str):
        fields["messages"] = [{"role": "user", "content": new}]
    if not isinstance(fields.get("messages"), list) or not fields["messages"]:
        raise Problem("invalid_request_error", "messages: at least one message is required")
    with _as_problems():
        turns, _ = await request.worker.session.history.last(MAX_LIMIT)
    fields["messages"] = [*_as_messages(turns), *fields["messages"]]
    fields.setdefault("model", request.worker.chooser.tiers()["big"] or _last_model(turns))
    fields.setdefault("max_tokens", DEFAULT_MAX_TOKENS)
    body = msgspec.json.encode(fields)
    if request.record.bodies is not None:
        request.record.bodies.request = body
    return await messages.answer(request, body)


def _as_messages(turns: Sequence[Turn]) -> list[dict[str, str]]:
    """Return messages with alternating roles; a conversation in the API begins with the user."""
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


async def _file_name(request: ClientRequest) -> str:
    """Return `file_path` from the body or query: the name of a file in exports/, never a path."""
    fields: Mapping[str, Any] = await json_of(request)
    name = fields.get("file_path") or request.query.get("file_path") or ""
    if not isinstance(name, str):
        raise Problem("invalid_request_error", "file_path must be the name of a file in exports/")
    return name


@contextmanager
def _as_problems() -> Iterator[None]:
    """Turn database and file errors into error responses."""
    try:
        yield
    except Problem:
        raise
    except UsageError as error:
        raise Problem("invalid_request_error", str(error)) from error
    except FileExistsError as error:
        text = "a file with this name already exists in exports/"
        raise Problem("conflict_error", text) from error
    except FileNotFoundError as error:
        raise Problem("not_found_error", "exports/ has no file with this name") from error
    except (CcproxyError, OSError, sqlite3.Error) as error:
        raise Problem("api_error", f"the history cannot be used: {error}") from error

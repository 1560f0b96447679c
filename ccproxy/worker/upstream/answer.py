"""
The provider's answer: looked at before it is handed out, then passed on as it comes.

Before: the status, the whole body of a whole answer, the first event of a stream. Comments, pings
and blank lines are signs of life and nothing else. What is no answer after all (an error inside a
200, HTML, nothing) is raised as `Refused`, so that another key can still be asked.

After: bytes. A connection that breaks, or is silent for 900 s, raises a Problem.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

import aiohttp

from ccproxy.config.worker import WorkerConfig
from ccproxy.convert.errors.body import mask_keys
from ccproxy.convert.errors.classify import (
    ProviderError,
    classify_error,
    classify_event,
    is_error_body,
)
from ccproxy.convert.responses.answer import find_first_output
from ccproxy.errors import Problem
from ccproxy.keys.verdict import Verdict, judge
from ccproxy.protocol.chat import is_answer
from ccproxy.protocol.headers import answer_headers
from ccproxy.protocol.sse import LIMIT, Decoder, ServerEvent
from ccproxy.providers.quirks import PLAIN, Api
from ccproxy.worker.upstream.connections import explain
from ccproxy.worker.upstream.wire import Reply, Take

IDLE_SECONDS = 900.0
"""Silence in the middle of a stream; 713 s were seen of a provider that then went on."""
LONGEST_WHOLE = 64 * 1024 * 1024
LONGEST_ERROR = 1024 * 1024
ERROR_SECONDS = 5.0
"""How long the rest of an error's body is waited for."""
_LONGEST_LEAD = 64 * 1024

_MAX_TOKENS = re.compile(rb'"max_(?:completion_|output_)?tokens"\s*:\s*(\d+)')

Form = Literal["whole", "stream", "neither"]


class Refused(Exception):
    """The provider refused an attempt or could not be reached; what that means is judged."""

    def __init__(self, said: ProviderError, verdict: Verdict | None = None) -> None:
        super().__init__(said.problem.message)
        self.problem = said.problem
        self.verdict = judge(said) if verdict is None else verdict


@dataclass(frozen=True, slots=True)
class Reader:
    """Reads the errors of one attempt; nothing is prepared for that while all goes well."""

    config: WorkerConfig
    model: str
    body: bytes = field(repr=False)
    """What was sent."""
    secrets: tuple[str, ...] = field(repr=False)
    api: Api
    """The dialect of the request and its answer."""

    def refused(self, status: int, headers: Mapping[str, str], body: bytes) -> Refused:
        """Read an error answer."""
        asked = _MAX_TOKENS.search(self.body)
        said = classify_error(
            status,
            headers,
            body,
            quirks=self.config.target(self.model).quirks,
            max_tokens=int(asked[1]) if asked else None,
            now=time.time(),
            secrets=self.secrets,
        )
        if self.api == "messages":
            # Direct mode: the client gets the provider's own status and body.
            said.problem.body = self._masked(body)
            said.problem.headers = tuple(answer_headers(headers.items()))
            said.problem.status = status if status >= 400 else said.problem.status
        return Refused(said)

    def _masked(self, body: bytes) -> bytes:
        text = body.decode("utf-8", "surrogateescape")
        return mask_keys(text, self.secrets).encode("utf-8", "surrogateescape")


class Answer:
    """One answer of the provider's that is none of its errors."""

    def __init__(self, reply: Reply, first: bytes, *, is_stream: bool, complete: bool) -> None:
        self.status = reply.status
        self.headers = reply.headers
        self.is_stream = is_stream
        self.first = first
        """What was read before the answer was handed out: all of a whole answer."""
        self.key = ""
        """The key that was used, `…last4`."""
        self.attempts = 1
        self._reply = reply
        self._complete = complete
        if not complete:
            reply.allow(IDLE_SECONDS)

    async def chunks(self) -> AsyncIterator[bytes]:
        """
        Give the answer piece by piece, as it comes.

        Raises:
            Problem: If it breaks off or falls silent.

        """
        if self.first:
            yield self.first
        while data := await self._read():
            yield data

    async def read(self) -> bytes:
        """Return the whole answer; raises as `chunks` does."""
        if self._complete:
            return self.first
        return b"".join([data async for data in self.chunks()])

    async def pump(self, take: Take) -> bool:
        """
        Hand the answer to *take* piece by piece, as it comes; True when it has ended.

        False: *take* wants no more for now. Raises as `chunks` does, and what *take* raises.
        """
        first, self.first = self.first, b""
        if first and not take(first):
            return False
        if self._complete:
            return True
        try:
            return await self._reply.pump(take)
        except aiohttp.ClientConnectionResetError:
            raise  # said by `take`: it is the client that has left
        except aiohttp.ClientError as error:
            raise _broken(error) from error

    @property
    def is_over(self) -> bool:
        """Whether all of it was read."""
        return self._complete or self._reply.is_over

    def close(self) -> None:
        """Give up what is left of the answer; the connection is kept if nothing is."""
        self._reply.close()

    async def _read(self) -> bytes:
        if self._complete:
            return b""
        try:
            return await self._reply.read()
        except (aiohttp.ClientError, OSError) as error:
            raise _broken(error) from error


def _broken(error: Exception) -> Problem:
    if isinstance(error, TimeoutError):
        text = f"The provider sent nothing for {IDLE_SECONDS:.0f} s in the middle of its answer"
        return Problem("timeout_error", text)
    return Problem("api_error", f"The provider's answer broke off: {explain(error)}", status=502)


async def open_answer(reply: Reply, reader: Reader) -> Answer:
    """
    Look at the beginning of an answer; every sign of life renews the patience.

    Raises:
        Refused: If it is an error, or no answer at all.

    """
    body = _Body(reply)
    if reply.status >= 300:
        raise reader.refused(reply.status, reply.headers, await body.read_error())
    first = await reply.read()
    match _form(reply.content_type, first):
        case "stream":
            lead, ended = await _first_event(body, first, reader)
            return Answer(reply, lead, is_stream=True, complete=ended)
        case "whole":
            whole = first if reply.is_over else await body.read_whole(first)
            if is_error_body(whole) or not is_answer(whole):
                raise reader.refused(reply.status, reply.headers, whole)
            return Answer(reply, whole, is_stream=False, complete=True)
    raise reader.refused(reply.status, reply.headers, first)


class _Body:
    """The body of an answer, read in one of several ways."""

    def __init__(self, reply: Reply) -> None:
        self.headers = reply.headers
        self.read = reply.read

    async def read_whole(self, first: bytes) -> bytes:
        """Return all of the body, which begins with *first*."""
        parts, size = [first], len(first)
        while data := await self.read():
            parts.append(data)
            size += len(data)
            if size > LONGEST_WHOLE:
                raise aiohttp.ClientPayloadError("the answer is too large")
        return b"".join(parts)

    async def read_error(self) -> bytes:
        """Return as much of an error's body as comes; the status alone says enough."""
        parts, size = [], 0
        with contextlib.suppress(aiohttp.ClientError, TimeoutError):
            async with asyncio.timeout(ERROR_SECONDS):
                while size < LONGEST_ERROR and (data := await self.read()):
                    parts.append(data)
                    size += len(data)
        return b"".join(parts)


def _form(content_type: str, first: bytes) -> Form:
    """Tell what the body is: by its beginning, where that says nothing by its declared type."""
    start = first.lstrip(b"\xef\xbb\xbf \t\r\n")[:6]
    if start[:1] in (b"{", b"[") or (not start and "json" in content_type):
        return "whole"
    if content_type == "text/event-stream":
        return "stream"
    return "stream" if start.startswith((b"data:", b"event:", b":", b"id:")) else "neither"


async def _first_event(body: _Body, first: bytes, reader: Reader) -> tuple[bytes, bool]:
    """
    Read up to the first event that says something; return it with what of its lead was kept.

    Of signs of life no more is kept than the limit of one event, however long they go on.
    True beside it means that the stream has ended already.
    """
    decoder = Decoder()
    lead: list[bytes] = []
    data, size = first, 0
    while data:
        said = [event for event in decoder.feed(data) if event.event != b"ping"]
        lead.append(data)
        size += len(data)
        if _check_first(said, body, reader):
            return b"".join(lead), False
        if decoder.idle and size > _LONGEST_LEAD:
            lead, size = [], 0  # comments and pings only: nothing of it is needed
        elif size > LIMIT:
            raise reader.refused(200, body.headers, b"")  # signs of life, but never their end
        data = await body.read()
    if _check_first(decoder.close(), body, reader):
        return b"".join(lead), True
    raise reader.refused(200, body.headers, _body_of_empty_stream(b"".join(lead)))


def _check_first(events: list[ServerEvent], body: _Body, reader: Reader) -> bool:
    """Tell whether the first of *events* begins an answer."""
    if reader.api == "responses":
        has_begun, error = find_first_output(events)
        if error is not None:
            raise reader.refused(200, body.headers, error)
        return has_begun
    if not events or events[0].data == b"[DONE]":
        return False
    if classify_event(events[0].data, quirks=PLAIN) is not None:
        raise reader.refused(200, body.headers, events[0].data)
    return True


def _body_of_empty_stream(raw: bytes) -> bytes:
    """An error that was sent as JSON under the name of a stream, else nothing."""
    return raw if is_error_body(raw) else b""

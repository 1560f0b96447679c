"""
The provider's answer: checked before it is passed on, then passed on as it arrives.

The checks cover the status, the whole body of an answer that is not streamed, and the events of a
stream up to the first one with content. If they find an error (which may be inside a 200), an HTML
page or no data at all, `AttemptFailed` is raised, so that the request can be repeated. After the
checks, the answer is treated as plain bytes, and a connection that breaks or is silent for 900 s
causes a Problem.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import aiohttp

from ccproxy.config.worker_config import WorkerConfig
from ccproxy.convert.direct.error_relay import with_own_body
from ccproxy.convert.errors.body import mask_keys
from ccproxy.convert.errors.causes import Cause
from ccproxy.convert.errors.classify import (
    AttemptInfo,
    ProviderError,
    classify_error,
    classify_event,
    is_error_body,
)
from ccproxy.convert.responses.answer import find_first_output
from ccproxy.errors import BadAnswer, Problem
from ccproxy.keys.verdict import Verdict, judge
from ccproxy.protocol.chat import is_answer
from ccproxy.protocol.headers import answer_headers
from ccproxy.protocol.sse import LIMIT, Decoder, ServerEvent
from ccproxy.providers.quirks import PLAIN, Api
from ccproxy.worker.upstream.connections import ResponseTooLarge, explain
from ccproxy.worker.upstream.preamble import is_preamble
from ccproxy.worker.upstream.transport import ProviderReply, Take

IDLE_SECONDS = 900.0
"""Time limit for silence in a stream; one provider was observed to resume after 713 s."""
MAX_WHOLE = 64 * 1024 * 1024
MAX_ERROR = 1024 * 1024
ERROR_SECONDS = 5.0
"""Time limit for reading the body of an error."""
MAX_PREAMBLE = 64 * 1024
"""Maximum number of bytes to hold back before the first content of an answer."""

_MAX_TOKENS = re.compile(rb'"max_(?:completion_|output_)?tokens"\s*:\s*(\d{1,15})(?!\d)')

BodyKind = Literal["whole", "stream", "neither"]


class AttemptFailed(Exception):
    """The provider refused an attempt or could not be reached; a verdict sets the next step."""

    def __init__(self, cause: ProviderError, verdict: Verdict | None = None) -> None:
        super().__init__(cause.problem.message)
        self.problem = cause.problem
        self.verdict = judge(cause) if verdict is None else verdict


@dataclass(slots=True)
class ErrorReader:
    """Turns the error response to an attempt into an exception; does nothing if there is none."""

    config: WorkerConfig
    model: str
    body: bytes = field(repr=False)
    """The request body that was sent."""
    secrets: tuple[str, ...] = field(repr=False)
    api: Api
    """The dialect of the request and of its answer."""
    key: str
    """The key used for the attempt, masked."""

    def failure(self, status: int, headers: Mapping[str, str], body: bytes) -> AttemptFailed:
        """Return the exception for an error response."""
        max_tokens = _MAX_TOKENS.search(self.body)
        config = self.config
        error = classify_error(
            status,
            headers,
            body,
            quirks=config.target(self.model).quirks,
            max_tokens=int(max_tokens[1]) if max_tokens else None,
            now=time.time(),
            secrets=self.secrets,
            attempt=AttemptInfo(
                label=config.label,
                url=config.base_url,
                key=self.key,
                env_file=str(config.env_file or ""),
            ),
        )
        if self.api == "messages":
            own_headers = tuple(answer_headers(headers.items()))
            error = with_own_body(
                error, status=status, headers=own_headers, body=self._masked(body)
            )
        return AttemptFailed(error)

    def _masked(self, body: bytes) -> bytes:
        text = body.decode("utf-8", "surrogateescape")
        return mask_keys(text, self.secrets).encode("utf-8", "surrogateescape")


class ProviderAnswer:
    """A model's answer, as bytes."""

    def __init__(
        self, reply: ProviderReply, first: bytes, *, is_stream: bool, complete: bool
    ) -> None:
        self.status = reply.status
        self.headers = reply.headers
        self.is_stream = is_stream
        self.first = first
        """The part that was read to check the answer; the whole answer, unless it is a stream."""
        self._reply = reply
        self._complete = complete
        if not complete:
            reply.allow(IDLE_SECONDS)

    async def read(self) -> bytes:
        """
        Return the whole answer.

        Raises:
            Problem: If the answer is interrupted, stalls or is too large.
        """
        if self._complete:
            return self.first
        try:
            return await _read_whole(self._reply, self.first)
        except (aiohttp.ClientError, OSError) as error:
            raise _broken(error) from error

    async def pump(self, take: Take) -> bool:
        """
        Pass the answer to *take* piece by piece, as it arrives; return True when it has ended.

        Return False when *take* accepts no more data for now. Raise the same errors as `read` and
        *take*.
        """
        first, self.first = self.first, b""
        if first and not take(first):
            return False
        if self._complete:
            return True
        try:
            return await self._reply.pump(take)
        except aiohttp.ClientConnectionResetError:
            raise  # from `take`: the client has disconnected
        except aiohttp.ClientError as error:
            raise _broken(error) from error

    @property
    def is_over(self) -> bool:
        """Whether the whole answer has been read."""
        return self._complete or self._reply.is_over

    def close(self) -> None:
        """Drop the rest of the answer; keep the connection if the answer is complete."""
        self._reply.close()


def _broken(error: Exception) -> Problem:
    if isinstance(error, TimeoutError):
        text = f"The provider sent nothing for {IDLE_SECONDS:.0f} s in the middle of its answer"
        return Problem("timeout_error", text)
    return Problem("api_error", f"The provider's answer was cut off: {explain(error)}", status=502)


async def open_answer(reply: ProviderReply, errors: ErrorReader) -> ProviderAnswer:
    """
    Check the beginning of an answer; every event, even a ping, restarts the silence timer.

    Raises:
        AttemptFailed: If it is an error, or not a model's answer.
    """
    if reply.status >= 300:
        raise errors.failure(reply.status, reply.headers, await _read_error(reply))
    first = await reply.read()
    match _kind_of(reply.content_type, first):
        case "stream":
            lead, ended = await _read_preamble(reply, first, errors)
            return ProviderAnswer(reply, lead, is_stream=True, complete=ended)
        case "whole":
            whole = first if reply.is_over else await _read_whole(reply, first)
            if is_error_body(whole) or not is_answer(whole):
                raise errors.failure(reply.status, reply.headers, whole)
            return ProviderAnswer(reply, whole, is_stream=False, complete=True)
    raise errors.failure(reply.status, reply.headers, first)


async def _read_whole(reply: ProviderReply, first: bytes) -> bytes:
    whole = bytearray(first)  # not a list: a server might send one byte at a time
    while data := await reply.read():
        whole += data
        if len(whole) > MAX_WHOLE:
            raise ResponseTooLarge(f"its response is larger than {MAX_WHOLE >> 20} MiB")
    return bytes(whole)


async def _read_error(reply: ProviderReply) -> bytes:
    """Return the part of an error's body that arrives in time; the status alone is enough."""
    body = bytearray()
    with contextlib.suppress(aiohttp.ClientError, TimeoutError):
        async with asyncio.timeout(ERROR_SECONDS):
            while len(body) < MAX_ERROR and (data := await reply.read()):
                body += data
    return bytes(body)


def _kind_of(content_type: str, first: bytes) -> BodyKind:
    """Determine the kind of body by its first bytes, or if they are ambiguous, its content type."""
    start = first.lstrip(b"\xef\xbb\xbf \t\r\n")[:6]
    if start[:1] in (b"{", b"[") or (not start and "json" in content_type):
        return "whole"
    if content_type == "text/event-stream":
        return "stream"
    return "stream" if start.startswith((b"data:", b"event:", b":", b"id:")) else "neither"


async def _read_preamble(
    reply: ProviderReply, first: bytes, errors: ErrorReader
) -> tuple[bytes, bool]:
    """
    Read a stream up to its first content; return the data and whether the stream has ended.

    A long run of comments and pings is dropped; a long preamble is passed on.
    """
    decoder = Decoder()
    lead = bytearray()
    has_preamble = False
    data = first
    while data:
        events = [event for event in decoder.feed(data) if event.event != b"ping"]
        has_preamble = has_preamble or any(event.data != b"[DONE]" for event in events)
        lead += data
        if _has_content(events, reply, errors) or (has_preamble and len(lead) > MAX_PREAMBLE):
            return bytes(lead), False
        if decoder.idle and len(lead) > MAX_PREAMBLE:
            lead.clear()
        elif len(lead) > LIMIT:
            raise errors.failure(200, reply.headers, b"")  # an endless event
        data = await reply.read()
    if _has_content(decoder.close(), reply, errors):
        return bytes(lead), True
    if has_preamble:
        problem = BadAnswer("The provider's stream ended before its first content")
        raise AttemptFailed(ProviderError(cause=Cause.SERVER, problem=problem, status=502))
    raw = bytes(lead)
    # An error may be sent as JSON with the content type of a stream.
    raise errors.failure(200, reply.headers, raw if is_error_body(raw) else b"")


def _has_content(events: list[ServerEvent], reply: ProviderReply, errors: ErrorReader) -> bool:
    """
    Return True if one of *events* has content.

    Raises:
        AttemptFailed: If there is an error before the first content.
    """
    if errors.api == "responses":
        has_begun, error = find_first_output(events)
        if error is not None:
            raise errors.failure(200, reply.headers, error)
        return has_begun
    for event in events:
        if event.data == b"[DONE]":
            return False
        if classify_event(event.data, quirks=PLAIN) is not None:
            raise errors.failure(200, reply.headers, event.data)
        if not is_preamble(event.data):
            return True
    return False

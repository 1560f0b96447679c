"""One event or whole body of a provider: an answer, or an error after all."""

from __future__ import annotations

from ccproxy.convert.errors.classify import (
    ProviderError,
    classify_error,
    classify_event,
    is_error_body,
)
from ccproxy.errors import BadAnswer, Problem
from ccproxy.protocol import chat, sse
from ccproxy.providers.quirks import Quirks


def read_event(event: sse.ServerEvent, quirks: Quirks) -> chat.Chunk | ProviderError:
    """
    Read one event of a stream.

    Raises:
        Problem: api_error if it is neither.
    """
    data = event.data
    try:
        chunk = chat.decode(data)
    except Problem:
        if error := classify_event(data, quirks=quirks):
            return error
        raise
    if chunk.may_be_error and (error := classify_event(data, quirks=quirks)):
        return error
    if event.event == b"error":  # LM Studio
        said = data.decode("utf-8", "replace")
        raise BadAnswer(f"The provider broke off with an error: {said}")
    return chunk


def read_completion(body: bytes, quirks: Quirks) -> chat.Completion | ProviderError:
    """
    Read a whole answer that came with status 200.

    Raises:
        Problem: api_error if it is neither.
    """
    if is_error_body(body):
        return classify_error(200, {}, body, quirks=quirks)
    completion = chat.decode(body)
    if completion.may_be_error and (error := classify_event(body, quirks=quirks)):
        return error
    return completion

"""
Events and whole bodies of a Responses provider, and the errors among them.

Errors have four forms: an `error` event (nested as OpenAI sends it, or flat as its SDK describes
it), a `response.failed` event, a whole answer with the status failed, and the usual error body.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from ccproxy.convert.errors.classify import ProviderError, classify_error, is_error_body
from ccproxy.errors import BadAnswer
from ccproxy.protocol import sse
from ccproxy.protocol.responses import (
    DONE,
    PREAMBLE_EVENTS,
    Response,
    StreamEvent,
    decode_event,
    decode_response,
)
from ccproxy.providers.quirks import Quirks

_FAILURE = (
    b'{"error":{"message":"The provider reports that the response failed, without a reason"}}'
)


def read_event(event: sse.ServerEvent, quirks: Quirks) -> StreamEvent | ProviderError:
    """
    Read one event of a stream.

    Raises:
        BadAnswer: If it is not JSON.
    """
    found = decode_event(event.data)
    found.type = found.type or event.event.decode("ascii", "replace")
    error = _error_in(found, event.data)
    return found if error is None else classify_error(200, {}, error, quirks=quirks)


def read_response(body: bytes, quirks: Quirks) -> Response | ProviderError:
    """
    Read a whole answer that came with status 200.

    Raises:
        BadAnswer: If it is no answer.
    """
    if is_error_body(body):
        return classify_error(200, {}, body, quirks=quirks)
    response = decode_response(body)
    if response.status == "failed":
        return classify_error(200, {}, _FAILURE, quirks=quirks)
    if response.output is None and response.status is None:
        raise BadAnswer("The provider's answer is not a response: it has neither output nor status")
    return response


def find_first_output(events: Sequence[sse.ServerEvent]) -> tuple[bool, bytes | None]:
    """
    Look for the first event that is more than the announcement of an answer.

    Return whether there is one, and the body of the error if it is one.

    Raises:
        BadAnswer: If an event is not JSON.
    """
    for event in events:
        if event.data.strip() == DONE:
            continue
        found = decode_event(event.data)
        found.type = found.type or event.event.decode("ascii", "replace")
        if found.type not in PREAMBLE_EVENTS:
            return True, _error_in(found, event.data)
    return False, None


def _error_in(event: StreamEvent, data: bytes) -> bytes | None:
    """Return the body of the error that *event* is, None if it is none."""
    if event.type == "response.failed":
        error = event.response.error if event.response is not None else None
        return msgspec.json.encode({"error": error}) if error else _FAILURE
    if event.type == "error":
        return data
    return data if not event.type and is_error_body(data) else None

"""Headers of the provider request that depend on the content of the Messages request."""

from __future__ import annotations

import re
from collections.abc import Callable

from ccproxy.convert.common.classifier import is_classifier
from ccproxy.convert.common.conversion import session_key
from ccproxy.protocol.messages import MessagesRequest, read_request
from ccproxy.providers.quirks import Quirks

_TOOL_RESULT = b'"tool_result"'
_IMAGE_BLOCK = re.compile(rb'"type"\s*:\s*"image"')


def content_headers(
    request: MessagesRequest, quirks: Quirks, *, has_images: Callable[[], bool]
) -> dict[str, str]:
    """
    Return the headers for *request*; *has_images* returns True if images are sent.

    *has_images* searches the whole body, so it is called only for providers with a vision header.
    """
    headers: dict[str, str] = {}
    if quirks.vision_header and has_images():
        headers[quirks.vision_header] = "true"
    if quirks.initiator_header:
        headers[quirks.initiator_header] = "agent" if _continues_turn(request) else "user"
    if quirks.session_header and request.metadata and request.metadata.user_id:
        headers[quirks.session_header] = session_key(request.metadata.user_id)
    return headers


def direct_headers(body: bytes, quirks: Quirks) -> dict[str, str]:
    """
    Return the headers for the *body* of a Messages request that is sent unchanged.

    Raises:
        Problem: If the body is not a request.
    """
    if not (quirks.vision_header or quirks.initiator_header or quirks.session_header):
        return {}  # the usual case: the body is not parsed
    return content_headers(
        read_request(body), quirks, has_images=lambda: _IMAGE_BLOCK.search(body) is not None
    )


def _continues_turn(request: MessagesRequest) -> bool:
    """Return True if the last message, ignoring system messages, is not the user's own text."""
    turns = (each for each in reversed(request.messages) if each.role in ("user", "assistant"))
    last = next(turns, None)
    if last is None or is_classifier(request):
        return True
    return last.role == "assistant" or _TOOL_RESULT in bytes(last.content)

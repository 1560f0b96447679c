"""
Validation of a user's request body: it must name exactly one model.

In direct mode and for OpenAI clients, the provider receives the client's own bytes. They could
contain two `model` fields, of which ccproxy reads one and the provider the other, or a list of
models for a router. The request could then be answered by a model that the user is not permitted to
use, and counted at the price of another model.
"""

from __future__ import annotations

import msgspec

from ccproxy.errors import Problem
from ccproxy.protocol.json_splice import fields_of

OTHER_MODELS = (
    *("models", "fallbacks", "fallback_models", "route", "preset", "user_config"),
    *("context_window_fallbacks", "content_policy_fallbacks"),
)
"""Fields that make routers such as OpenRouter and LiteLLM choose another model."""


def body_of_user(body: bytes) -> bytes:
    """
    Return *body* with each field only once, with the value that ccproxy reads.

    Raises:
        Problem: If it is not a JSON object, or names other models.
    """
    fields = fields_of(body)
    if fields is None:
        raise Problem("invalid_request_error", "the request is not a JSON object")
    for name in OTHER_MODELS:
        if name in fields:
            text = f"users of this gateway may name only one model: leave out the field {name}"
            raise Problem("invalid_request_error", text, should_retry=False)
    members = (b"%b:%b" % (msgspec.json.encode(name), value) for name, value in fields.items())
    return b"{%b}" % b",".join(members)

"""
Validation of a user's request body: it must name exactly one model.

In direct mode and for OpenAI clients, the provider receives the client's own bytes. They could
contain two `model` fields, of which ccproxy reads one and the provider the other, or a list of
models for a router. A model that the user may not use could then answer, at another model's price.
"""

from __future__ import annotations

import msgspec

from ccproxy.errors import Problem
from ccproxy.protocol.json_splice import fields_of

OTHER_MODELS = (
    *("models", "fallbacks", "fallback_models", "route", "preset", "user_config"),
    *("context_window_fallbacks", "content_policy_fallbacks"),
)
"""Fields with which routers such as OpenRouter and LiteLLM choose another model."""


def body_of_user(body: bytes) -> bytes:
    """
    Return *body* with each field once, with the value that ccproxy reads.

    Raises:
        Problem: If it is not a JSON object, or names other models.
    """
    fields = fields_of(body)
    if fields is None:
        raise Problem("invalid_request_error", "the request is not a JSON object")
    for name in OTHER_MODELS:
        if name in fields:
            text = f"users of this gateway choose one model: leave out the field {name}"
            raise Problem("invalid_request_error", text, should_retry=False)
    members = (b"%b:%b" % (msgspec.json.encode(name), value) for name, value in fields.items())
    return b"{%b}" % b",".join(members)

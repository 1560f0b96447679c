"""
The body of a user's request for a model: it names one model, in one way.

In direct mode and for OpenAI clients the provider gets the client's own bytes. A body with two
fields `model`, of which ccproxy reads one and the provider the other, or with a list of models for
a router, would be answered by a model that the user may not use, at the price of another one.
"""

from __future__ import annotations

import msgspec

from ccproxy.errors import Problem
from ccproxy.protocol.json_splice import fields_of

OTHER_MODELS = (
    *("models", "fallbacks", "fallback_models", "route", "preset", "user_config"),
    *("context_window_fallbacks", "content_policy_fallbacks"),
)
"""Fields by which routers such as OpenRouter and LiteLLM choose another model."""


def body_of_user(body: bytes) -> bytes:
    """
    Return *body* with each field once, in the meaning that ccproxy reads.

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

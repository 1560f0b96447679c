"""The causes of provider errors, distinguished by their effect on the request and the key."""

from __future__ import annotations

import enum


class Cause(enum.Enum):
    """Why a provider refused a request. The values are stored with the state of the keys."""

    OVERFLOW = "overflow"
    """The conversation is longer than the model's context window."""
    OUT_OF_CREDIT = "out_of_credit"
    QUOTA = "quota"
    """A plan's allowance (per day, per five hours) is used up; adding credit does not help."""
    BAD_KEY = "bad_key"
    OVERLOAD = "overload"
    RATE_LIMIT = "rate_limit"
    PERMISSION = "permission"
    NOT_FOUND = "not_found"
    TOO_LARGE = "too_large"
    TIMEOUT = "timeout"
    GATEWAY_TIMEOUT = "gateway_timeout"
    """A gateway's own time limit expired; another attempt would take just as long."""
    CONFLICT = "conflict"
    CONTENT = "content"
    """A content filter."""
    IMAGE = "image"
    """The model does not accept images."""
    DOCUMENT = "document"
    """The model does not accept PDF files."""
    BAD_REQUEST = "bad_request"
    SERVER = "server"
    WRONG_URL = "wrong_url"
    """A web page, a redirect, a proxy's refusal or a missing path instead of the API."""

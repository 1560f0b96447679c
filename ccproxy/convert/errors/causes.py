"""The causes of a provider's error, by what they mean for the request and for the key."""

from __future__ import annotations

import enum


class Cause(enum.Enum):
    """Why a provider refused a request. The values are stored with the state of the keys."""

    OVERFLOW = "overflow"
    """The conversation is longer than the model's context window."""
    OUT_OF_CREDIT = "out_of_credit"
    QUOTA = "quota"
    """A plan's allowance (per day, per five hours) is used up; paying more does not help."""
    BAD_KEY = "bad_key"
    OVERLOAD = "overload"
    RATE_LIMIT = "rate_limit"
    PERMISSION = "permission"
    NOT_FOUND = "not_found"
    TOO_LARGE = "too_large"
    TIMEOUT = "timeout"
    GATEWAY_TIMEOUT = "gateway_timeout"
    """A gateway gave up after its own time limit; another attempt would wait as long."""
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
    """A page, a redirect, a proxy's refusal, a missing path: what answers is not the API."""

"""
The texts of provider errors: for each cause the error type and the explanation that clients see.

The provider's own text always follows the explanation. The texts of context overflows are in
`overflow.py`, because Claude Code reads them.
"""

from __future__ import annotations

from collections.abc import Mapping

from ccproxy.convert.errors.causes import Cause

KINDS: Mapping[Cause, str] = {
    Cause.OVERFLOW: "invalid_request_error",
    Cause.OUT_OF_CREDIT: "billing_error",
    Cause.QUOTA: "rate_limit_error",
    Cause.BAD_KEY: "authentication_error",
    Cause.OVERLOAD: "overloaded_error",
    Cause.RATE_LIMIT: "rate_limit_error",
    Cause.PERMISSION: "permission_error",
    Cause.NOT_FOUND: "not_found_error",
    Cause.TOO_LARGE: "request_too_large",
    Cause.TIMEOUT: "timeout_error",
    Cause.CONFLICT: "conflict_error",
    Cause.CONTENT: "invalid_request_error",
    Cause.BAD_REQUEST: "invalid_request_error",
    Cause.SERVER: "api_error",
    Cause.WRONG_URL: "api_error",
}
"""Cause -> error type of the Messages API."""

EXPLANATIONS: Mapping[Cause, str] = {
    Cause.OUT_OF_CREDIT: "Out of credit: the account behind this key has no balance or plan for "
    "this request. Top it up, or use another key",
    Cause.QUOTA: "The usage limit of the plan behind this key is reached",
    Cause.BAD_KEY: "The provider rejected the API key. Check PROVIDER_API_KEY, and that the key "
    "belongs to this base URL",
    Cause.OVERLOAD: "The provider is overloaded. Try again later",
    Cause.RATE_LIMIT: "The provider's rate limit is reached. Wait, or add keys to PROVIDER_API_KEY",
    Cause.PERMISSION: "The provider does not permit this request with this key",
    Cause.NOT_FOUND: "The provider does not have this model or path. Check BIG_MODEL, "
    "MIDDLE_MODEL, SMALL_MODEL and PROVIDER_BASE_URL",
    Cause.TOO_LARGE: "The request is larger than the provider accepts",
    Cause.TIMEOUT: "The provider took too long",
    Cause.CONFLICT: "The provider reports a conflict with this request",
    Cause.CONTENT: "The provider's content filter refused the request",
    Cause.BAD_REQUEST: "The provider refused the request",
    Cause.SERVER: "The provider failed",
    Cause.WRONG_URL: "The provider did not answer with JSON. Check PROVIDER_BASE_URL and any proxy "
    "in between",
}

REGION = "The provider does not serve this country or region"
REDIRECT = (
    "The provider redirects to another URL; redirects are not followed. Check PROVIDER_BASE_URL"
)

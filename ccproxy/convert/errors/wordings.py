"""
The wording of provider errors: for each cause, the error type and the explanation that clients see.

The provider's own text always follows the explanation. Messages about context overflows are in
`overflow_wording.py`, because Claude Code parses them.
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
    Cause.GATEWAY_TIMEOUT: "timeout_error",
    Cause.CONFLICT: "conflict_error",
    Cause.CONTENT: "invalid_request_error",
    Cause.IMAGE: "invalid_request_error",
    Cause.DOCUMENT: "invalid_request_error",
    Cause.BAD_REQUEST: "invalid_request_error",
    Cause.SERVER: "api_error",
    Cause.WRONG_URL: "api_error",
}
"""Cause -> error type of the Messages API."""


def bad_key(label: str, key: str, env_file: str) -> str:
    """Return the explanation of a rejected key; arguments are empty if unknown."""
    name = " ".join(filter(None, ("the API key", key, f"of {label}" if label else "")))
    location = f" in {env_file}" if env_file else ""
    return (
        f"The provider rejected {name}. Check PROVIDER_API_KEY{location}, and "
        "that the key belongs to this base URL"
    )


def out_of_credit(label: str, key: str) -> str:
    """Return the explanation of a missing balance; arguments are empty if unknown."""
    reset = f", then run: ccproxy keys {label} reset. Or use another key" if label else ""
    return (
        f"Out of credit: the account of {f'key {key}' if key else 'this key'} has no balance "
        f"or plan for this request. Top it up{reset or ', or use another key'}"
    )


def wrong_path(url: str) -> str:
    """Return the explanation of a 404 that concerns the path instead of the model."""
    return (
        f"The provider has no such path{f': {url}' if url else ''}. Check PROVIDER_BASE_URL; most "
        "base URLs end in /v1 or a similar path"
    )


EXPLANATIONS: Mapping[Cause, str] = {
    Cause.QUOTA: "This key's plan has reached its usage limit",
    Cause.OVERLOAD: "The provider is overloaded. Try again later",
    Cause.RATE_LIMIT: "The provider's rate limit was hit. Wait, or add keys to PROVIDER_API_KEY",
    Cause.PERMISSION: "The provider does not permit this request with this key",
    Cause.NOT_FOUND: "The provider does not have this model or path. Check BIG_MODEL, "
    "MIDDLE_MODEL, SMALL_MODEL and PROVIDER_BASE_URL",
    Cause.TOO_LARGE: "The request is larger than the provider accepts",
    Cause.TIMEOUT: "The provider took too long to respond",
    Cause.GATEWAY_TIMEOUT: "A gateway in front of the provider timed out. Raise its timeout",
    Cause.CONFLICT: "The provider reports a conflict with this request",
    Cause.CONTENT: "The provider's content filter refused the request",
    # Claude Code recognizes the token and repeats the request with a note instead of the block.
    Cause.IMAGE: "capability_rejected: image_block. This model does not accept images",
    Cause.DOCUMENT: "capability_rejected: document_block. This model does not accept PDF files",
    Cause.BAD_REQUEST: "The provider refused the request",
    Cause.SERVER: "The provider had an internal error",
    Cause.WRONG_URL: "The provider did not answer with JSON. Check PROVIDER_BASE_URL and any proxy "
    "in between",
}

PROXY_LOGIN = (
    "The outbound proxy requires authentication. Add the user name and password to the URL in "
    "UPSTREAM_PROXY or HTTPS_PROXY"
)
BAD_TOOL_CALL = "The model wrote a tool call that the provider could not parse"
REGION = "The provider does not serve this country or region"
REDIRECT = (
    "The provider redirects to another URL; redirects are not followed. Check PROVIDER_BASE_URL"
)

"""
A provider's error -> an Anthropic error.

Providers say the same few things in a dozen body forms and with contradicting statuses: a bad key
is a 400 at one, no money a 429 at another, and some put the error into a 200. So the words and
codes decide before the status does, in this order:

1. too long -> 400 with the wording on which Claude Code compacts the conversation,
2. no money -> 402, 3. a bad key -> 401, both never to be retried,
4. overload -> 529, 5. rate limit -> 429 with the time to wait,
6. the status.

The message begins with what it means for the user; the provider's own text always follows.
"""

from __future__ import annotations

import enum
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from ccproxy.convert.errors import wordings
from ccproxy.convert.errors.body import ErrorBody, decode, mask_keys, parse_error_body
from ccproxy.convert.errors.overflow import overflow_message
from ccproxy.convert.errors.retry_after import wait_in_body, wait_in_headers, wait_until_reset
from ccproxy.errors import Problem
from ccproxy.providers.quirks import Quirks

LONGEST_CLIENT_WAIT = 60
"""Claude Code and the SDKs give up at once on a longer retry-after (seconds, measured)."""


class Cause(enum.Enum):
    """What the provider means."""

    OVERFLOW = "overflow"
    OUT_OF_CREDIT = "out_of_credit"
    QUOTA = "quota"
    """A plan's allowance (per day, per five hours) is used up; money is not the point."""
    BAD_KEY = "bad_key"
    OVERLOAD = "overload"
    RATE_LIMIT = "rate_limit"
    PERMISSION = "permission"
    NOT_FOUND = "not_found"
    TOO_LARGE = "too_large"
    TIMEOUT = "timeout"
    CONFLICT = "conflict"
    CONTENT = "content"
    BAD_REQUEST = "bad_request"
    SERVER = "server"
    WRONG_URL = "wrong_url"
    """A page, or the way to another address: what answers there is no provider."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderError:
    """An error of the provider's: what it means, and what the client is told."""

    cause: Cause
    problem: Problem
    status: int
    """The provider's HTTP status; inside a 200 the one that the error itself names, else 502."""
    retry_after: float | None = None
    """Seconds until the provider may be asked again, exact, None where it does not say."""
    has_limit_headers: bool = False
    """True: headers speak of limits, so that the refusal is about this key and not the address."""


def classify_error(
    status: int,
    headers: Mapping[str, str],
    body: bytes,
    *,
    quirks: Quirks,
    max_tokens: int | None = None,
    now: float | None = None,
    secrets: Sequence[str] = (),
) -> ProviderError:
    """
    Read the error *body* that came with *status*.

    A status below 400 means an error inside an answer that began well. *now* is the wall clock
    (seconds since 1970), without it dates in headers are not understood. *secrets* never appear in
    the message, whatever the provider echoes. Never raises.
    """
    said = parse_error_body(body)
    said.text = mask_keys(said.text, secrets)
    if status < 400:
        status = said.status or (status if status >= 300 else 0)
    lower = {name.lower(): value for name, value in headers.items()}
    cause = _cause(status, said, quirks)
    wait = _wait(cause, said, lower, now)
    if cause is Cause.OVERFLOW:
        problem = Problem("invalid_request_error", overflow_message(said, max_tokens))
    else:
        problem = _problem(cause, status, said, wait)
    return ProviderError(
        cause=cause,
        problem=problem,
        status=status or problem.status,
        retry_after=wait,
        has_limit_headers=any("ratelimit-" in name for name in lower),
    )


def is_error_body(body: bytes) -> bool:
    """
    Tell whether a whole 200 answer is an error after all.

    Cheap for good answers: their content is never decoded.
    """
    if b'"error"' not in body and b"base_resp" not in body and b'"choices"' in body:
        return False
    try:
        outline = _OUTLINE.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _is_error_list(body)
    if _says_error(outline):
        return True
    has_answer = any(part != _NOTHING for part in (outline.choices, outline.content))
    return not has_answer and bool(outline.detail or outline.errors or outline.message)


def classify_event(
    data: bytes,
    *,
    quirks: Quirks,
    max_tokens: int | None = None,
    now: float | None = None,
    secrets: Sequence[str] = (),
) -> ProviderError | None:
    """Read one event of a stream; None unless it is an error."""
    if b'"error"' not in data and b"base_resp" not in data:
        return None
    try:
        outline = _OUTLINE.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        if not _is_error_list(data):
            return None
    else:
        if not _says_error(outline):
            data = _choice_error(outline)
            if not data:
                return None
    return classify_error(
        200, {}, data, quirks=quirks, max_tokens=max_tokens, now=now, secrets=secrets
    )


# Is it an error?


_NOTHING = msgspec.Raw(b"null")


class _BaseResp(msgspec.Struct):
    status_code: int = 0


class _Outline(msgspec.Struct):
    """As little of an answer as tells whether it is one."""

    error: Any = None
    base_resp: _BaseResp | None = None
    object: Any = None
    type: Any = None
    choices: msgspec.Raw = _NOTHING
    content: msgspec.Raw = _NOTHING
    detail: Any = None
    errors: Any = None
    message: Any = None


_OUTLINE = msgspec.json.Decoder(_Outline)


def _says_error(outline: _Outline) -> bool:
    if outline.base_resp is not None and outline.base_resp.status_code != 0:
        return True
    return bool(outline.error) or "error" in (outline.object, outline.type)


def _is_error_list(body: bytes) -> bool:
    """Gemini puts its errors into an array."""
    found = decode(body) if body.lstrip()[:1] == b"[" else None
    return (
        isinstance(found, list)
        and bool(found)
        and isinstance(found[0], dict)
        and (bool(found[0].get("error")))
    )


def _choice_error(outline: _Outline) -> bytes:
    """An error inside the first choice (OpenRouter's upstreams), as a body, else b""."""
    choices = decode(bytes(outline.choices))
    first = choices[0] if isinstance(choices, list) and choices else None
    error = first.get("error") if isinstance(first, dict) else None
    return msgspec.json.encode({"error": error}) if error else b""


# What does it mean?

_CAUSE_OF_STATUS = {
    401: Cause.BAD_KEY,
    402: Cause.OUT_OF_CREDIT,
    403: Cause.PERMISSION,
    404: Cause.NOT_FOUND,
    408: Cause.TIMEOUT,
    409: Cause.CONFLICT,
    413: Cause.TOO_LARGE,
    429: Cause.RATE_LIMIT,
    451: Cause.PERMISSION,
    498: Cause.OVERLOAD,  # Groq
    503: Cause.OVERLOAD,
    504: Cause.TIMEOUT,
    524: Cause.TIMEOUT,  # Cloudflare
    529: Cause.OVERLOAD,
}


def _cause(status: int, said: ErrorBody, quirks: Quirks) -> Cause:
    """Decide, in the order of the module's docstring; *status* 0: none is known."""
    if _is_overflow(status, said):
        return Cause.OVERFLOW
    for cause in (_money(status, said, quirks), _key(status, said), _load(status, said)):
        if cause is not None:
            return cause
    if said.codes & wordings.CONTENT_CODES or any(map(wordings.CONTENT.search, said.codes)):
        return Cause.CONTENT
    if status in (0, 400) and _matches(said, wordings.NOT_FOUND_CODES, wordings.NOT_FOUND):
        return Cause.NOT_FOUND
    if not status and said.codes & wordings.BAD_REQUEST_CODES:
        return Cause.BAD_REQUEST
    if said.is_html and status == 503:
        return Cause.SERVER
    if 300 <= status < 400 or (said.is_html and not status):
        return Cause.WRONG_URL
    if cause := _CAUSE_OF_STATUS.get(status):
        return cause
    return Cause.BAD_REQUEST if 400 <= status < 500 else Cause.SERVER


def _matches(said: ErrorBody, codes: frozenset[str], words: re.Pattern[str]) -> bool:
    return bool(said.codes & codes) or words.search(said.text) is not None


def _is_overflow(status: int, said: ErrorBody) -> bool:
    if said.codes & wordings.OVERFLOW_CODES:
        return True
    telling = status in (0, 400, 413, 422, 429) or status >= 500
    return telling and wordings.OVERFLOW.search(said.text) is not None


def _money(status: int, said: ErrorBody, quirks: Quirks) -> Cause | None:
    if quirks.quota_means_rate and status == 429 and wordings.SOFT_QUOTA.search(said.text):
        return Cause.RATE_LIMIT
    if _matches(said, wordings.MONEY_CODES, wordings.MONEY) and status != 404:
        rate_only = quirks.quota_means_rate and said.codes & {"insufficient_quota"}
        return Cause.RATE_LIMIT if rate_only else Cause.OUT_OF_CREDIT
    if status == 402:
        return Cause.OUT_OF_CREDIT
    if wordings.SOFT_QUOTA.search(said.text):
        return Cause.RATE_LIMIT if _says_when(said) else Cause.OUT_OF_CREDIT
    in_doubt = status in (0, 403, 429)
    if in_doubt and _matches(said, wordings.QUOTA_CODES, wordings.QUOTA):
        return Cause.QUOTA
    return None


def _says_when(said: ErrorBody) -> bool:
    return bool(said.delays) or wait_in_body(said.text, ()) is not None


def _key(status: int, said: ErrorBody) -> Cause | None:
    if status == 401:
        return Cause.BAD_KEY
    telling = status in (0, 400, 403)
    if telling and _matches(said, wordings.BAD_KEY_CODES, wordings.BAD_KEY):
        return Cause.BAD_KEY
    return None


def _load(status: int, said: ErrorBody) -> Cause | None:
    """Overload before rate limit: the first is not the key's fault."""
    if status not in (0, 403, 408, 413, 429, 498, 499) and status < 500:
        return None
    if _matches(said, wordings.OVERLOAD_CODES, wordings.OVERLOAD):
        return Cause.OVERLOAD
    telling = status in (0, 403, 429) or (status >= 500 and status != 503)
    if telling and _matches(said, wordings.RATE_CODES, wordings.RATE):
        return Cause.RATE_LIMIT
    return None


_WAITING = {Cause.RATE_LIMIT, Cause.OVERLOAD, Cause.QUOTA, Cause.OUT_OF_CREDIT, Cause.SERVER}
_LIMITED = {Cause.RATE_LIMIT, Cause.QUOTA}
"""Only here do the reset headers matter: providers send them with every answer."""


def _wait(
    cause: Cause, said: ErrorBody, headers: Mapping[str, str], now: float | None
) -> float | None:
    """The seconds until the provider may be asked again, None where it does not say."""
    if cause not in _WAITING:
        return None
    wait = wait_in_headers(headers, now)
    if wait is None:
        wait = wait_in_body(said.text, said.delays)
    if wait is None and cause in _LIMITED:
        wait = wait_until_reset(headers, now)
    return wait


# What is the client told?

_KIND = {
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

_ODD_HINT = "The provider did not answer with JSON. Check PROVIDER_BASE_URL and any proxy between"
_HINT = {
    Cause.OUT_OF_CREDIT: "Out of credit: the account behind this key has no balance or plan for "
    "this request. Top it up, or use another key",
    Cause.QUOTA: "The usage limit of the plan behind this key is reached for now",
    Cause.BAD_KEY: "The provider refused the API key. Check PROVIDER_API_KEY and that it "
    "belongs to this base URL",
    Cause.OVERLOAD: "The provider is overloaded. Try again in a while",
    Cause.RATE_LIMIT: "The provider's rate limit is reached. Wait, or add keys to PROVIDER_API_KEY",
    Cause.PERMISSION: "The provider does not permit this request to this key",
    Cause.NOT_FOUND: "The provider does not know this model or address. Check BIG_MODEL, "
    "MIDDLE_MODEL, SMALL_MODEL and PROVIDER_BASE_URL",
    Cause.TOO_LARGE: "The request is larger than the provider takes",
    Cause.TIMEOUT: "The provider took too long",
    Cause.CONFLICT: "The provider has a conflict with this request",
    Cause.CONTENT: "The provider's content filter refused the request",
    Cause.BAD_REQUEST: "The provider refused the request",
    Cause.SERVER: "The provider failed",
    Cause.WRONG_URL: _ODD_HINT,
}
_REGION_HINT = "The provider does not serve this country or region"
_REDIRECT_HINT = "The provider redirects elsewhere, which is not followed. Check PROVIDER_BASE_URL"


def _problem(cause: Cause, status: int, said: ErrorBody, wait: float | None) -> Problem:
    kept = None
    if cause in (Cause.SERVER, Cause.WRONG_URL):
        kept = status if 500 <= status < 520 else 502
    told = None if wait is None or cause is Cause.OUT_OF_CREDIT else math.ceil(wait)
    return Problem(
        _KIND[cause],
        _message(_hint(cause, status, said), status, said.text),
        status=kept,
        retry_after=told,
        should_retry=_should_retry(cause, told),
    )


def _should_retry(cause: Cause, wait: int | None) -> bool | None:
    if cause in (Cause.OUT_OF_CREDIT, Cause.BAD_KEY, Cause.QUOTA, Cause.WRONG_URL):
        return False
    return False if wait is not None and wait > LONGEST_CLIENT_WAIT else None


def _hint(cause: Cause, status: int, said: ErrorBody) -> str:
    if 300 <= status < 400:
        return _REDIRECT_HINT
    about_address = cause in (Cause.SERVER, Cause.NOT_FOUND, Cause.BAD_REQUEST)
    # Words beside a status explain it; instead of an answer they are some other server's.
    is_odd = said.is_html or not said.text or not (status or said.has_object)
    if about_address and is_odd:
        return _ODD_HINT
    asks_for_region = cause in (Cause.PERMISSION, Cause.BAD_REQUEST)
    if asks_for_region and any(map(wordings.REGION.search, (said.text, *said.codes))):
        return _REGION_HINT
    return _HINT[cause]


def _message(hint: str, status: int, text: str) -> str:
    shown = f" ({status})" if status else ""
    return f"{hint}{shown}: {text or 'no text came with it'}"

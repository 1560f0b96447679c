"""
Classification of provider errors, and their translation into errors of the Messages API.

Providers report the same few causes in a dozen body formats and with contradictory statuses: one
answers a bad key with 400, another a missing balance with 429, and some put the error into a 200.
Phrases and codes are therefore checked before the status. `_RULES` makes the whole decision: the
first rule that matches determines the cause.

The message begins with an explanation for the user; the provider's own text always follows.
"""

from __future__ import annotations

import math
import re
from codecs import BOM_UTF8
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import msgspec

from ccproxy.convert.errors import phrases, wordings
from ccproxy.convert.errors.body import ErrorBody, decode, mask_keys, parse_error_body
from ccproxy.convert.errors.causes import Cause
from ccproxy.convert.errors.overflow_wording import overflow_message
from ccproxy.convert.errors.retry_after import wait_in_body, wait_in_headers, wait_until_reset
from ccproxy.errors import Problem, ProviderRefusal
from ccproxy.protocol.json_splice import NOT_JSON
from ccproxy.protocol.lenient_json import has_too_many_objects, objects
from ccproxy.protocol.literals import ABSENT, is_present
from ccproxy.providers.quirks import Quirks

LONGEST_CLIENT_WAIT = 60
"""Seconds. Claude Code and the SDKs do not retry after a longer retry-after (measured)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptInfo:
    """The details of a failed attempt that messages mention; empty fields are left out."""

    label: str = ""
    url: str = ""
    key: str = ""
    """Masked: `…last4`."""
    env_file: str = ""


_UNKNOWN_ATTEMPT = AttemptInfo()


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderError:
    """A provider's error: its cause, and the error that the client receives."""

    cause: Cause
    problem: Problem
    status: int
    """The provider's HTTP status; for an error in a 200, the error's own status or the client's."""
    retry_after: float | None = None
    """Exact seconds until the next attempt may succeed; None if the provider reports none."""
    has_limit_headers: bool = False
    """True: the response has rate-limit headers, so the limit is per key, not per IP address."""


def classify_error(
    status: int,
    headers: Mapping[str, str],
    body: bytes,
    *,
    quirks: Quirks,
    max_tokens: int | None = None,
    now: float | None = None,
    secrets: Sequence[str] = (),
    attempt: AttemptInfo = _UNKNOWN_ATTEMPT,
) -> ProviderError:
    """
    Classify the error *body* of a response with *status*; never raises.

    A status below 400 means an error inside an apparently successful answer. *max_tokens* is the
    value in the request. *now* is the wall clock (seconds since 1970), needed for dates in headers.
    *secrets* are masked in the message.
    """
    error = parse_error_body(body)
    error = replace(error, text=mask_keys(error.text, secrets))
    if status < 400:
        status = error.status or (status if status >= 300 else 0)
    lower = {name.lower(): value for name, value in headers.items()}
    cause = _cause(status, error, quirks)
    wait = _wait(cause, error, lower, now)
    if cause is Cause.OVERFLOW:
        problem = Problem(wordings.KINDS[cause], overflow_message(error, max_tokens))
    else:
        problem = _problem(cause, status, error, wait=wait, attempt=attempt)
    return ProviderError(
        cause=cause,
        problem=problem,
        status=status or problem.status,
        retry_after=wait,
        has_limit_headers=any("ratelimit-" in name for name in lower),
    )


def classify_event(data: bytes, *, quirks: Quirks) -> ProviderError | None:
    """Classify one event of a stream; return None if it is not an error."""
    if b'"error"' not in data and b"base_resp" not in data:
        is_error = b'"choices"' not in data and _is_flat_error(data)
        return classify_error(200, {}, data, quirks=quirks) if is_error else None
    outline = _outline_of(data)
    if outline is None:
        if not _is_error_list(data):
            return None
    elif not _has_error(outline):
        data = _choice_error(outline)
        if not data:
            return None
    return classify_error(200, {}, data, quirks=quirks)


# Detection of errors in a 200


def is_error_body(body: bytes) -> bool:
    """
    Return True if the whole body of a 200 is an error.

    Cheap for successful answers: their content is never decoded.
    """
    if b'"error"' not in body and b"base_resp" not in body and b'"choices"' in body:
        return False
    outline = _outline_of(body)
    if outline is None:
        return _is_error_list(body)
    if _has_error(outline):
        return True
    # An envelope around an answer has a message, too ("ok").
    is_envelope = outline.choices is ABSENT and b'"choices"' in body
    if is_envelope or is_present(outline.choices) or is_present(outline.content):
        return False
    texts = (outline.detail, outline.errors, outline.message, outline.msg)
    return any((*texts, outline.error_message, outline.error_msg))


class _BaseResp(msgspec.Struct):
    status_code: int = 0


class _Outline(msgspec.Struct):
    """The fields that distinguish an answer from an error."""

    error: Any = None
    base_resp: _BaseResp | None = None
    object: Any = None
    type: Any = None
    choices: msgspec.Raw = ABSENT
    content: msgspec.Raw = ABSENT
    detail: Any = None
    errors: Any = None
    message: Any = None
    msg: Any = None
    """Z.ai: `{"code": 500, "msg": "…", "success": false}`."""
    error_message: Any = None
    error_msg: Any = None


_OUTLINE = msgspec.json.Decoder(_Outline)


def _outline_of(body: bytes) -> _Outline | None:
    """Return the outline of an object, or None for anything else."""
    if has_too_many_objects(body):
        return None
    try:
        return _OUTLINE.decode(body.removeprefix(BOM_UTF8))
    except NOT_JSON:
        return None


def _has_error(outline: _Outline) -> bool:
    if outline.base_resp is not None and outline.base_resp.status_code != 0:
        return True
    return bool(outline.error) or "error" in (outline.object, outline.type)


def _is_error_list(body: bytes) -> bool:
    """Return True for Gemini's format: an array of errors."""
    items = decode(body) if body.lstrip()[:1] == b"[" else None
    first = items[0] if isinstance(items, list) and items else None
    return isinstance(first, dict) and bool(first.get("error"))


def _is_flat_error(event: bytes) -> bool:
    """
    Return True for an error without an `error` field, such as `{"code": 429, "msg": "…"}`.

    It must have an error status, because events about a queue have a message as well.
    """
    return is_error_body(event) and parse_error_body(event).status is not None


def _choice_error(outline: _Outline) -> bytes:
    """Return the error inside a choice (OpenRouter's upstreams) as a body, or b""."""
    choices = objects(decode(bytes(outline.choices)))
    error = next((choice["error"] for choice in choices if choice.get("error")), None)
    return msgspec.json.encode({"error": error}) if error else b""


# The cause

_UNKNOWN = 0
"""The status used for an error inside a 200 that contains no status."""
_ALL = range(1000)
_SERVER_ERRORS = range(500, 1000)


@dataclass(frozen=True, slots=True)
class _Rule:
    """
    Assigns *cause* to an error with one of *statuses* if a code or the text also matches.

    A rule without codes and patterns depends on the status alone.
    """

    cause: Cause
    statuses: Container[int] = _ALL
    codes: frozenset[str] = frozenset()
    text: re.Pattern[str] | None = None
    code_pattern: re.Pattern[str] | None = None
    condition: Callable[[ErrorBody, Quirks], bool] = lambda _error, _quirks: True

    def matches(self, status: int, error: ErrorBody, quirks: Quirks) -> bool:
        if status not in self.statuses or not self.condition(error, quirks):
            return False
        if not self.codes and self.text is None and self.code_pattern is None:
            return True
        if error.codes & self.codes or (self.text is not None and self.text.search(error.text)):
            return True
        return self.code_pattern is not None and any(map(self.code_pattern.search, error.codes))


def _statuses(*parts: int | range) -> frozenset[int]:
    return frozenset(
        status for part in parts for status in (part if isinstance(part, range) else (part,))
    )


def _names_a_time(error: ErrorBody, _quirks: Quirks) -> bool:
    return bool(error.delays) or wait_in_body(error.text, ()) is not None


def _names_no_model(error: ErrorBody, _quirks: Quirks) -> bool:
    names = phrases.NAMES_MODEL.search
    return not (names(error.text) or any(map(names, error.codes)))


_CONTENT_STATUSES = _statuses(_UNKNOWN, 400, 404, 415, 422, 500, 501)
_NOT_404 = _statuses(_UNKNOWN, range(1, 404), range(405, 1000))

_RULES: tuple[_Rule, ...] = (
    # Too long: Claude Code compacts the conversation.
    _Rule(Cause.OVERFLOW, codes=phrases.OVERFLOW_CODES),
    _Rule(
        Cause.OVERFLOW,
        _statuses(_UNKNOWN, 400, 413, 422, 429, _SERVER_ERRORS),
        text=phrases.OVERFLOW,
    ),
    # A refused content type, or a request that always fails: not the key's or provider's fault.
    _Rule(Cause.IMAGE, _CONTENT_STATUSES, text=phrases.IMAGE),
    _Rule(Cause.DOCUMENT, _CONTENT_STATUSES, text=phrases.DOCUMENT),
    _Rule(Cause.BAD_REQUEST, _SERVER_ERRORS, text=phrases.FAULTY_REQUEST),
    # No credit, or a plan's allowance used up: neither is retried.
    _Rule(
        Cause.RATE_LIMIT,
        _statuses(429),
        text=phrases.SOFT_QUOTA,
        condition=lambda _error, quirks: quirks.quota_means_rate,
    ),
    _Rule(
        Cause.RATE_LIMIT,
        _NOT_404,
        codes=frozenset({"insufficient_quota"}),
        condition=lambda _error, quirks: quirks.quota_means_rate,
    ),
    _Rule(
        Cause.OUT_OF_CREDIT,
        _NOT_404,
        codes=phrases.CREDIT_CODES,
        text=phrases.CREDIT,
        code_pattern=phrases.SPEND_LIMIT_CODE,
    ),
    _Rule(Cause.OUT_OF_CREDIT, _statuses(402)),
    _Rule(Cause.RATE_LIMIT, text=phrases.SOFT_QUOTA, condition=_names_a_time),
    _Rule(Cause.OUT_OF_CREDIT, text=phrases.SOFT_QUOTA),
    _Rule(
        Cause.QUOTA, _statuses(_UNKNOWN, 403, 429), codes=phrases.QUOTA_CODES, text=phrases.QUOTA
    ),
    # A bad key.
    _Rule(Cause.BAD_KEY, _statuses(401)),
    _Rule(
        Cause.BAD_KEY,
        _statuses(_UNKNOWN, 400, 403),
        codes=phrases.BAD_KEY_CODES,
        text=phrases.BAD_KEY,
    ),
    # Overload is checked before rate limits, because it does not concern the key.
    _Rule(
        Cause.OVERLOAD,
        _statuses(_UNKNOWN, 403, 408, 413, 429, 498, 499, _SERVER_ERRORS),
        codes=phrases.OVERLOAD_CODES,
        text=phrases.OVERLOAD,
    ),
    _Rule(
        Cause.RATE_LIMIT,
        _statuses(_UNKNOWN, 403, 429, range(500, 503), range(504, 1000)),
        codes=phrases.RATE_CODES,
        text=phrases.RATE,
    ),
    # The request.
    _Rule(Cause.SERVER, _statuses(_UNKNOWN, 400), codes=phrases.CHANCE_CODES),
    _Rule(Cause.CONTENT, codes=phrases.CONTENT_CODES, code_pattern=phrases.CONTENT),
    _Rule(
        Cause.NOT_FOUND,
        _statuses(_UNKNOWN, 400),
        codes=phrases.NOT_FOUND_CODES,
        text=phrases.NOT_FOUND,
    ),
    _Rule(Cause.BAD_REQUEST, _statuses(_UNKNOWN), codes=phrases.BAD_REQUEST_CODES),
    # The status.
    _Rule(Cause.SERVER, _statuses(503), condition=lambda error, _: error.is_html),
    _Rule(Cause.WRONG_URL, range(300, 400)),
    _Rule(Cause.WRONG_URL, _statuses(_UNKNOWN), condition=lambda error, _: error.is_html),
    _Rule(Cause.PERMISSION, _statuses(403, 451)),
    _Rule(Cause.WRONG_URL, _statuses(404), condition=_names_no_model),
    _Rule(Cause.NOT_FOUND, _statuses(404)),
    _Rule(Cause.WRONG_URL, _statuses(407)),
    _Rule(Cause.GATEWAY_TIMEOUT, _statuses(504, 524)),  # 524: Cloudflare
    _Rule(Cause.TIMEOUT, _statuses(408)),
    _Rule(Cause.CONFLICT, _statuses(409)),
    _Rule(Cause.TOO_LARGE, _statuses(413)),
    _Rule(Cause.RATE_LIMIT, _statuses(429)),
    _Rule(Cause.OVERLOAD, _statuses(498, 503, 529)),  # 498: Groq
    _Rule(Cause.BAD_REQUEST, range(400, 500)),
    _Rule(Cause.SERVER),
)


def _cause(status: int, error: ErrorBody, quirks: Quirks) -> Cause:
    return next(rule.cause for rule in _RULES if rule.matches(status, error, quirks))


# The time to wait

_WAITING = {
    Cause.RATE_LIMIT,
    Cause.OVERLOAD,
    Cause.QUOTA,
    Cause.OUT_OF_CREDIT,
    Cause.SERVER,
}
_LIMITED = {Cause.RATE_LIMIT, Cause.QUOTA}
"""Reset headers matter only for these causes: providers send them with every answer."""


def _wait(
    cause: Cause, error: ErrorBody, headers: Mapping[str, str], now: float | None
) -> float | None:
    """
    Return the seconds until the next attempt, or None if the provider reports none.

    A time that has passed (`Retry-After: 0`, a clock that is behind) does not count: the provider
    has just refused a request.
    """
    if cause not in _WAITING:
        return None
    wait = wait_in_headers(headers, now) or wait_in_body(error.text, error.delays)
    if not wait and cause in _LIMITED:
        wait = wait_until_reset(headers, now)
    return wait or None


# The client's error

_NEVER_RETRIED = {Cause.OUT_OF_CREDIT, Cause.BAD_KEY, Cause.QUOTA, Cause.WRONG_URL}


def _problem(
    cause: Cause, status: int, error: ErrorBody, *, wait: float | None, attempt: AttemptInfo
) -> Problem:
    own_status = None
    if cause in (Cause.SERVER, Cause.WRONG_URL):
        own_status = status if 500 <= status < 520 else 502
    retry_after = None if wait is None or cause is Cause.OUT_OF_CREDIT else math.ceil(wait)
    is_pointless = cause in _NEVER_RETRIED or (retry_after or 0) > LONGEST_CLIENT_WAIT
    return Problem(
        wordings.KINDS[cause],
        _message(_explanation(cause, status, error, attempt), status, error.text),
        status=own_status,
        retry_after=retry_after,
        should_retry=False if is_pointless else None,
        refusal=ProviderRefusal(
            status=status, text=error.text, codes=error.codes, parameter=error.parameter
        ),
    )


def _explanation(cause: Cause, status: int, error: ErrorBody, attempt: AttemptInfo) -> str:
    if 300 <= status < 400:
        return wordings.REDIRECT
    if status == 407:
        return wordings.PROXY_LOGIN
    if status == 404 and cause is Cause.WRONG_URL:
        return wordings.wrong_path(attempt.url)
    if error.codes & phrases.CHANCE_CODES and cause is Cause.SERVER:
        return wordings.BAD_TOOL_CALL
    if cause is Cause.BAD_KEY:
        return wordings.bad_key(attempt.label, attempt.key, attempt.env_file)
    if cause is Cause.OUT_OF_CREDIT:
        return wordings.out_of_credit(attempt.label, attempt.key)
    # Plain text explains an error status; without such a status, another server sent it.
    is_no_api = error.is_html or not error.text or not (status or error.has_object)
    if is_no_api and cause in (Cause.SERVER, Cause.NOT_FOUND, Cause.BAD_REQUEST):
        return wordings.EXPLANATIONS[Cause.WRONG_URL]
    if cause in (Cause.PERMISSION, Cause.BAD_REQUEST) and any(
        map(phrases.REGION.search, (error.text, *error.codes))
    ):
        return wordings.REGION
    return wordings.EXPLANATIONS[cause]


def _message(explanation: str, status: int, text: str) -> str:
    suffix = f" ({status})" if status else ""
    text = phrases.LOGIN.sub("API key", text)
    return f"{explanation}{suffix}: {text or '(empty body)'}"

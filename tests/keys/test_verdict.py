"""What each refusal means for key, provider and request: the table of the module, row by row."""

from __future__ import annotations

import pytest

from ccproxy.convert.errors.causes import Cause
from ccproxy.convert.errors.classify import ProviderError
from ccproxy.errors import Problem
from ccproxy.keys.verdict import GOOD, Effect, Next, judge


def said(cause, **more):
    fields = {"status": 418, "problem": Problem("api_error", "x"), **more}
    return ProviderError(cause=cause, **fields)


@pytest.mark.parametrize(
    ("cause", "effect", "following", "failed", "per_model"),
    [
        (Cause.RATE_LIMIT, Effect.REST, Next.OTHER_KEY, False, True),
        (Cause.QUOTA, Effect.OUT, Next.OTHER_KEY, False, True),
        (Cause.OUT_OF_CREDIT, Effect.OUT, Next.OTHER_KEY, False, False),
        (Cause.BAD_KEY, Effect.SUSPECT, Next.OTHER_KEY, False, False),
        (Cause.PERMISSION, Effect.NONE, Next.ONE_OTHER_KEY, False, False),
        (Cause.OVERLOAD, Effect.NONE, Next.REPEAT, True, False),
        (Cause.TIMEOUT, Effect.NONE, Next.REPEAT, True, False),
        (Cause.CONFLICT, Effect.NONE, Next.REPEAT, True, False),
        (Cause.SERVER, Effect.NONE, Next.REPEAT, True, False),
        (Cause.OVERFLOW, Effect.NONE, Next.END, False, False),
        (Cause.NOT_FOUND, Effect.NONE, Next.END, False, False),
        (Cause.TOO_LARGE, Effect.NONE, Next.END, False, False),
        (Cause.CONTENT, Effect.NONE, Next.END, False, False),
        (Cause.BAD_REQUEST, Effect.NONE, Next.END, False, False),
        (Cause.WRONG_URL, Effect.NONE, Next.END, False, False),
    ],
)
def test_consequences(cause, effect, following, failed, per_model):
    verdict = judge(said(cause))
    assert (verdict.effect, verdict.next) == (effect, following)
    assert (verdict.provider_failed, verdict.per_model) == (failed, per_model)
    assert (verdict.cause, verdict.status, verdict.said) == (cause, 418, "x")


def test_every_cause_has_a_row():
    assert {judge(said(cause)).cause for cause in Cause} == set(Cause)


def test_the_time_that_was_told_is_kept():
    assert judge(said(Cause.RATE_LIMIT, retry_after=7.66)).seconds == 7.66
    assert judge(said(Cause.RATE_LIMIT)).seconds is None


@pytest.mark.parametrize(
    ("cause", "has_limit_headers", "shared"),
    [
        (Cause.RATE_LIMIT, False, True),
        (Cause.RATE_LIMIT, True, False),
        (Cause.QUOTA, False, False),
        (Cause.OVERLOAD, False, False),
    ],
)
def test_only_a_limit_without_a_keys_numbers_may_be_the_addresss(cause, has_limit_headers, shared):
    assert judge(said(cause, has_limit_headers=has_limit_headers)).maybe_shared is shared


def test_an_answer_is_good():
    assert (GOOD.effect, GOOD.next, GOOD.provider_failed) == (Effect.GOOD, Next.END, False)

"""The consequences of each refusal, row by row like the module's table."""

from __future__ import annotations

import pytest

from ccproxy.convert.errors.causes import Cause
from ccproxy.convert.errors.classify import ProviderError
from ccproxy.errors import Problem
from ccproxy.keys.verdict import WORKS, Effect, Next, judge


def error(cause, **more):
    fields = {"status": 418, "problem": Problem("api_error", "x"), **more}
    return ProviderError(cause=cause, **fields)


@pytest.mark.parametrize(
    ("cause", "effect", "following", "failed", "per_model"),
    [
        (Cause.RATE_LIMIT, Effect.COOLDOWN, Next.OTHER_KEY, False, True),
        (Cause.QUOTA, Effect.OUT, Next.OTHER_KEY, False, True),
        (Cause.OUT_OF_CREDIT, Effect.OUT, Next.OTHER_KEY, False, False),
        (Cause.BAD_KEY, Effect.REJECTED, Next.OTHER_KEY, False, False),
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
    verdict = judge(error(cause))
    assert (verdict.effect, verdict.next) == (effect, following)
    assert (verdict.provider_failed, verdict.is_per_model) == (failed, per_model)
    assert (verdict.cause, verdict.status, verdict.error_text) == (cause, 418, "x")


def test_every_cause_has_a_row():
    assert {judge(error(cause)).cause for cause in Cause} == set(Cause)


def test_a_stated_time_is_exact():
    assert judge(error(Cause.RATE_LIMIT, retry_after=7.66)).seconds == 7.66
    assert judge(error(Cause.RATE_LIMIT)).seconds is None


@pytest.mark.parametrize(
    ("cause", "has_limit_headers", "may_be"),
    [
        (Cause.RATE_LIMIT, False, True),
        (Cause.RATE_LIMIT, True, False),
        (Cause.QUOTA, False, False),
        (Cause.OVERLOAD, False, False),
    ],
)
def test_a_limit_without_rate_limit_headers_may_be_the_accounts(cause, has_limit_headers, may_be):
    assert judge(error(cause, has_limit_headers=has_limit_headers)).may_be_account_wide is may_be


@pytest.mark.parametrize(
    ("text", "may_be"),
    [
        ("Too many requests", True),
        ("Rate limit exceeded, please slow down", True),
        ("You are modelling too fast", True),
        ("Rate limit reached for model `big`", False),
        ("The models of this tier are limited", False),
        ("You exceeded your current quota, please check your plan", False),
        ("该模型当前访问量过大", False),
    ],
)
def test_a_text_that_names_a_model_or_a_quota_is_not_about_the_account(text, may_be):
    problem = Problem("rate_limit_error", text)
    assert judge(error(Cause.RATE_LIMIT, problem=problem)).may_be_account_wide is may_be


def test_an_answer_means_that_the_key_works():
    assert (WORKS.effect, WORKS.next, WORKS.provider_failed) == (Effect.WORKS, Next.END, False)

"""Tests of usage, from every field in which providers report it."""

from __future__ import annotations

import pytest

from ccproxy.convert.common.usage import is_usage, to_usage
from ccproxy.providers.quirks import PLAIN, Quirks


def numbers(usage, quirks=PLAIN, chars=0):
    result = to_usage(usage, quirks, input_estimate=99, chars=chars)
    return tuple(
        result[name]
        for name in (
            "input_tokens",
            "cache_read_input_tokens",
            "cache_creation_input_tokens",
            "output_tokens",
        )
    )


def usage(prompt, completion, **more):
    return {"prompt_tokens": prompt, "completion_tokens": completion, **more}


@pytest.mark.parametrize(
    ("reported", "expected"),
    [
        pytest.param(usage(20, 5), (20, 0, 0, 5), id="plain"),
        pytest.param(
            usage(1000, 10, prompt_tokens_details={"cached_tokens": 800}),
            (200, 800, 0, 10),
            id="cached tokens are no input",
        ),
        pytest.param(
            usage(
                1000, 10, prompt_tokens_details={"cached_tokens": 800, "cache_write_tokens": 150}
            ),
            (50, 800, 150, 10),
            id="written tokens are not input either",
        ),
        pytest.param(
            usage(339, 8, prompt_cache_hit_tokens=320, prompt_cache_miss_tokens=19),
            (19, 320, 0, 8),
            id="DeepSeek",
        ),
        pytest.param(usage(19, 2, cached_tokens=10), (9, 10, 0, 2), id="Kimi"),
        pytest.param(
            usage(20, 5, prompt_tokens_details={"cached_tokens": 3}, cached_tokens=9),
            (17, 3, 0, 5),
            id="the first path counts",
        ),
        pytest.param(
            usage(20, 5, prompt_tokens_details={"cached_tokens": None}, cached_tokens=9),
            (11, 9, 0, 5),
            id="null does not count",
        ),
        pytest.param(usage(20, 5, prompt_tokens_details=None), (20, 0, 0, 5), id="null details"),
        pytest.param(
            usage(900, 5, prompt_tokens_details={"cached_tokens": 900}),
            (1, 899, 0, 5),
            id="all of it cached: one counts as new, a zero would leave the estimate standing",
        ),
        pytest.param(
            usage(900, 5, prompt_tokens_details={"cached_tokens": 800, "cache_write_tokens": 100}),
            (1, 799, 100, 5),
            id="all of it read from or written into the cache",
        ),
        pytest.param(usage(0, 5, cached_tokens=0), (0, 0, 0, 5), id="an empty prompt"),
        pytest.param(usage(5, 1, cached_tokens=9), (0, 9, 0, 1), id="never below zero"),
        pytest.param(usage(20.0, 5.0), (20, 0, 0, 5), id="floats"),
        pytest.param(usage("20", True), (99, 0, 0, 0), id="text and booleans are no numbers"),
        pytest.param(usage(-1, 1e300), (99, 0, 0, 0), id="impossible numbers are none"),
        pytest.param({"prompt_tokens": 4}, (4, 0, 0, 0), id="a missing half"),
        pytest.param(None, (99, 0, 0, 0), id="no usage"),
    ],
)
def test_numbers(reported, expected):
    assert numbers(reported) == expected


@pytest.mark.parametrize(("chars", "tokens"), [(0, 0), (1, 1), (4, 1), (5, 2), (4000, 1000)])
def test_output_is_estimated_from_its_length(chars, tokens):
    assert numbers(None, chars=chars) == (99, 0, 0, tokens)


def test_a_reported_number_beats_the_estimate():
    assert numbers(usage(20, 5), chars=4000)[-1] == 5


@pytest.mark.parametrize(
    ("reported", "output"),
    [
        pytest.param({"total_tokens": 513}, 222, id="extra, according to the total"),
        pytest.param({}, 222, id="no total"),
        pytest.param({"total_tokens": 317}, 26, id="included, according to the total"),
    ],
)
def test_reasoning_that_is_not_counted_is_added(reported, output):
    reported = usage(291, 26, completion_tokens_details={"reasoning_tokens": 196}, **reported)
    assert numbers(reported, Quirks(usage_without_reasoning=True))[-1] == output
    assert numbers(reported)[-1] == 26


def test_reasoning_tokens_are_reported():
    reported = usage(1, 9, completion_tokens_details={"reasoning_tokens": 4})
    result = to_usage(reported, PLAIN, input_estimate=0, chars=0)
    assert result["output_tokens_details"] == {"thinking_tokens": 4}
    plain = to_usage(usage(1, 9), PLAIN, input_estimate=0, chars=0)
    assert "output_tokens_details" not in plain


@pytest.mark.parametrize(
    ("result", "expected"),
    [
        pytest.param(usage(1, 0), True, id="input"),
        pytest.param(usage(0, 1), True, id="output"),
        pytest.param(usage(0, 0), False, id="zeros"),
        pytest.param({}, False, id="empty"),
        pytest.param(None, False, id="null"),
        pytest.param([1], False, id="a list"),
        pytest.param({"prompt_tokens": "a"}, False, id="text"),
    ],
)
def test_usage_is_recognized(result, expected):
    assert is_usage(result) is expected

"""Tests of prices and the cost of usage."""

from __future__ import annotations

import pytest

from ccproxy.providers.pricing import Price


@pytest.mark.parametrize(
    ("numbers", "price"),
    [
        ((1.0, 2.0), Price(input=1.0, output=2.0)),
        ((1.0, 2.0, 0.1), Price(input=1.0, output=2.0, cache_read=0.1)),
        ((1.0, 2.0, 0.1, 3.0), Price(input=1.0, output=2.0, cache_read=0.1, cache_write=3.0)),
    ],
)
def test_a_price_in_the_order_of_the_settings(numbers, price):
    assert Price.of(numbers) == price


def test_cache_prices_are_optional():
    assert Price(input=1.0, output=2.0).cache_read is None


PRICED = Price(input=1.0, output=10.0, cache_read=0.1)
USED = {"input_tokens": 1000, "output_tokens": 100, "cache_read_input_tokens": 10_000}


@pytest.mark.parametrize(
    ("price", "usage", "expected"),
    [
        pytest.param(PRICED, USED, 0.003, id="each kind at its price, per million"),
        pytest.param(PRICED, {}, 0.0, id="nothing costs nothing"),
        pytest.param(PRICED, {"input_tokens": None}, 0.0, id="null is nothing"),
        pytest.param(
            PRICED, {**USED, "cache_creation_input_tokens": 1}, None, id="unknown: no guess"
        ),
        pytest.param(
            Price(input=1.0, output=1.0, cache_write=2.0),
            {"cache_creation_input_tokens": 1_000_000},
            2.0,
            id="cache writes",
        ),
        pytest.param(Price(input=1.0, output=1.0), USED, None, id="no price of the cache"),
    ],
)
def test_costs(price, usage, expected):
    cost = price.cost(usage)
    assert cost == (expected if expected is None else pytest.approx(expected))

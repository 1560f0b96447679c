"""Tests of the prices that a user writes in PRICES."""

from __future__ import annotations

import pytest

from ccproxy.providers.price_text import parse_price
from ccproxy.providers.pricing import Hours, OffPeak, Price, PriceTier

NIGHT = (Hours(start="16:30", end="24:00"), Hours(start="00:00", end="00:30"))
TO_MORNING = (
    Hours(start="22:00", end="24:00", days=(5, 6)),
    Hours(start="00:00", end="6:00", days=(6, 7)),
)
WEEKEND = Hours(start="00:00", end="24:00", days=(1, 6, 7))


@pytest.mark.parametrize(
    ("text", "pattern", "price"),
    [
        ("a=1/2", "a", Price(input=1, output=2)),
        ("a=1/2/.5", "a", Price(input=1, output=2, cache_read=0.5)),
        ("a=1/2/.5/3", "a", Price(input=1, output=2, cache_read=0.5, cache_write=3)),
        (
            "a = 1/2/.5/3/4",
            "a",
            Price(input=1, output=2, cache_read=0.5, cache_write=3, cache_write_1h=4),
        ),
        ("x/y:free=0/0", "x/y:free", Price(input=0, output=0)),
        (
            "*=1/2; above 200k=2/4/.4; above 1M = 3/6",
            "*",
            Price(
                input=1,
                output=2,
                tiers=(
                    PriceTier(input=2, output=4, cache_read=0.4, above=200_000),
                    PriceTier(input=3, output=6, above=1_000_000),
                ),
            ),
        ),
        (
            "a=1/2;off-peak 16:30-00:30=.5/1/.1",
            "a",
            Price(
                input=1,
                output=2,
                off_peak=OffPeak(input=0.5, output=1, cache_read=0.1, hours=NIGHT),
            ),
        ),
        (
            "a=1/2; off-peak Fri-Sat 22:00-6:00=.5/1; above 272000=2/4",
            "a",
            Price(
                input=1,
                output=2,
                off_peak=OffPeak(input=0.5, output=1, hours=TO_MORNING),
                tiers=(PriceTier(input=2, output=4, above=272_000),),
            ),
        ),
        (
            "a=1/2; off-peak sat-mon 00:00-24:00 and tue 20:00-00:00=.5/1",
            "a",
            Price(
                input=1,
                output=2,
                off_peak=OffPeak(
                    input=0.5,
                    output=1,
                    hours=(WEEKEND, Hours(start="20:00", end="24:00", days=(2,))),
                ),
            ),
        ),
    ],
)
def test_a_price(text, pattern, price):
    assert parse_price(text) == (pattern, price)


@pytest.mark.parametrize(
    "text",
    [
        *("a", "a=1", "=1/2", "a=1/2/3/4/5/6", "a=x/2", "a=-1/2", "a=inf/2", "a=nan/2", "a=1/"),
        *("a=1/2;", "a=1/2; over 200k=2/4", "a=1/2; above 200k", "a=1/2; above many=2/4"),
        *("a=1/2; off-peak night=1/2", "a=1/2; off-peak day 1:00-2:00=1/2"),
        *("a=1/2; off-peak mon-day 1:00-2:00=1/2",),
        "a=1/2; off-peak 1:00-2:00=1/2; off-peak 3:00-4:00=1/2",
    ],
)
def test_invalid_prices(text):
    with pytest.raises(ValueError, match="must be like model=input/output"):
        parse_price(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "a=1/2; above 2k=2/4; above 1k=3/6",
            r"the thresholds .* must be in ascending order.*, got \"a=1/2",
        ),
        ("a=1/2; off-peak 1:99-2:00=1/2", 'a time must be HH:MM, got "1:99", got'),
        ("a=1/2; off-peak 20:00-25:00=1/2", "must be two times of one day"),
    ],
)
def test_a_mistake_is_named(text, message):
    with pytest.raises(ValueError, match=message):
        parse_price(text)

"""Tests of prices and the cost of usage."""

from __future__ import annotations

import msgspec
import pytest

from ccproxy.providers.pricing import Hours, OffPeak, Price, PriceTier, Rates


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


# Exceptions from the base rates.

WEEKDAY_NIGHT = Hours(start="22:00", end="24:00", days=(1, 2, 3, 4, 5))
MORNING = Hours(start="00:00", end="06:30")
OFF_PEAK = OffPeak(input=0.5, output=5.0, hours=(WEEKDAY_NIGHT, MORNING))


@pytest.mark.parametrize(
    ("day", "time", "applies"),
    [
        pytest.param(1, (22, 0), True, id="the first minute"),
        pytest.param(1, (21, 59), False, id="the minute before"),
        pytest.param(5, (23, 59), True, id="the last minute of a day"),
        pytest.param(6, (22, 0), False, id="another day"),
        pytest.param(7, (6, 29), True, id="the last minute"),
        pytest.param(7, (6, 30), False, id="the end is not included"),
    ],
)
def test_off_peak_hours(day, time, applies):
    assert OFF_PEAK.applies(day=day, minute=time[0] * 60 + time[1]) is applies


@pytest.mark.parametrize(
    ("hours", "message"),
    [
        ({"start": "6", "end": "07:00"}, 'HH:MM, got "6"'),
        ({"start": "06:60", "end": "07:00"}, 'HH:MM, got "06:60"'),
        ({"start": "six:00", "end": "07:00"}, "HH:MM"),
        ({"start": "22:00", "end": "06:00"}, "in ascending order"),
        ({"start": "22:00", "end": "25:00"}, "two times of one day"),
        ({"start": "22:00", "end": "23:00", "days": []}, "days must be numbers"),
        ({"start": "22:00", "end": "23:00", "days": [0]}, "days must be numbers"),
    ],
)
def test_hours_that_do_not_exist_are_refused(hours, message):
    with pytest.raises(msgspec.ValidationError, match=message):
        msgspec.convert(hours, Hours)


def test_a_price_with_all_its_exceptions():
    price = msgspec.convert(
        {
            "input": 2,
            "output": 10,
            "cache_write_1h": 4,
            "tiers": [{"above": 200_000, "input": 4, "output": 15}],
            "off_peak": {"input": 1, "output": 5, "hours": [{"start": "00:00", "end": "06:30"}]},
            "batch": {"input": 1, "output": 5},
        },
        Price,
    )
    assert price.tiers == (PriceTier(above=200_000, input=4, output=15),)
    assert price.off_peak == OffPeak(input=1, output=5, hours=(MORNING,))
    assert (price.batch, price.currency) == (Rates(input=1, output=5), "USD")
    assert msgspec.convert(price.as_fields(), Price) == price
    assert Price(input=1, output=2).as_fields() == {"input": 1.0, "output": 2.0}


def test_thresholds_must_rise():
    tiers = [{"above": 2, "input": 1, "output": 1}, {"above": 1, "input": 1, "output": 1}]
    with pytest.raises(msgspec.ValidationError, match="must be in ascending order"):
        msgspec.convert({"input": 1, "output": 1, "tiers": tiers}, Price)


# Which rates apply.

TIERED = Price(
    input=1.0,
    output=10.0,
    cache_read=0.1,
    tiers=(
        PriceTier(above=100, input=2.0, output=20.0),
        PriceTier(above=200, input=3.0, output=30.0),
    ),
    off_peak=OffPeak(input=0.5, output=5.0, hours=(MORNING,)),
)
AFTERNOON = 12 * 3600.0


@pytest.mark.parametrize(
    ("prompt", "at", "rates"),
    [
        pytest.param(100, AFTERNOON, (1.0, 10.0, 0.1), id="not above the threshold"),
        pytest.param(101, AFTERNOON, (2.0, 20.0, 0.1), id="a rate that the tier lacks"),
        pytest.param(201, AFTERNOON, (3.0, 30.0, 0.1), id="the last threshold"),
        pytest.param(1, 0.0, (0.5, 5.0, None), id="off-peak"),
        pytest.param(101, 0.0, (2.0, 20.0, None), id="both: the tier"),
    ],
)
def test_rates(prompt, at, rates):
    result = TIERED.rates(prompt, at=at)
    assert (result.input, result.output, result.cache_read) == rates


@pytest.mark.parametrize(
    ("tiers", "cliff"),
    [
        ((), None),
        ((PriceTier(above=5, input=1.0, output=10.0),), None),
        (TIERED.tiers, 100),
        (
            (
                PriceTier(above=5, input=1.0, output=10.0),
                PriceTier(above=9, input=2.0, output=10.0),
            ),
            9,
        ),
    ],
    ids=["no tiers", "a tier that costs no more", "the first", "the first that costs more"],
)
def test_the_cliff(tiers, cliff):
    assert msgspec.structs.replace(TIERED, tiers=tiers).cliff == cliff


def test_the_extra_cost_is_unknown_with_the_cost():
    usage = {"input_tokens": 300, "cache_creation_input_tokens": 1}
    assert TIERED.cost(usage, at=AFTERNOON) is None
    assert TIERED.extra_cost(usage, at=AFTERNOON) is None

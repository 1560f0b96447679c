"""`ccproxy usage`: sums as a table and as JSON."""

from __future__ import annotations

import json
import re
import time
from datetime import datetime, timedelta

import pytest

from ccproxy.store.usage_totals import Used, usage_writer
from tests.cli.conftest import write_env

NOW = time.time()
DAY = 86400.0
A_WEEK_AGO = NOW - 7 * DAY


def used(label="Kimi-K2", model="kimi-k3", key="…1111", *, at=NOW, cost=1.5, failed=False):
    tokens = (0, 0, 0, 0, 0) if failed else (1200, 340, 50_000, 0, 100)
    cost = None if failed else cost
    return Used(at, label, model, key, failed, *tokens, None if failed else 0.5, cost)


@pytest.fixture
def filled(home):
    writer = usage_writer(home / "state", warn=pytest.fail)
    for one in (
        used(),
        used(failed=True),
        used(model="kimi-k2", key="…2222", cost=None),
        used("GLM-4.6", "glm-4.6", at=NOW - 2 * DAY, cost=0.0123),
        used("GLM-4.6", "glm-4.6", at=NOW - 20 * DAY, cost=0.1),
        used("Gone", "old", at=NOW - 40 * DAY),
    ):
        writer.put(one)
    writer.close()
    return home


TABLE = """\
LABEL    MODEL    REQUESTS  ERRORS  INPUT   CACHED  HIT  OUTPUT  REASONING  FIRST BYTE     COST  TOKENS
GLM-4.6  glm-4.6         1       0  1,200   50,000  98%     340        100      0.50 s  $0.0123  ████████████
Kimi-K2  kimi-k2         1       0  1,200   50,000  98%     340        100      0.50 s        –  ████████████
Kimi-K2  kimi-k3         2       1  1,200   50,000  98%     340        100      0.50 s    $1.50  ████████████
total                    4       1  3,600  150,000  98%   1,020        300      0.50 s   $1.51+
"""  # noqa: E501 - the table as it is printed


def rows(done):
    """Return the rows of the table, without the period above it."""
    lines = done.stdout.splitlines()[2:]
    return [line.split() for line in lines if not line.startswith("(terminal too narrow")]


def test_usage_of_each_model(filled, ccproxy, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    done = ccproxy("usage")
    assert done.exit_code == 0
    period, empty, *lines = done.stdout.splitlines()
    assert re.fullmatch(r"Usage from [\d-]{10} 00:00 to [\d-]{10} \d\d:\d\d", period)
    assert (empty, lines) == ("", TABLE.splitlines())


@pytest.mark.parametrize(
    ("words", "groups"),
    [
        (["--by", "key"], [["…1111"], ["…2222"], ["total"]]),
        (["--by", "label", "--since", "60d"], [["GLM-4.6"], ["Gone"], ["Kimi-K2"], ["total"]]),
        (["kimi*", "--by", "label"], [["Kimi-K2"]]),
        (["gone", "--by", "label", "--since", "60d"], [["Gone"]]),
        (["glm-4.6", "--by", "label", "--by", "model"], [["GLM-4.6", "glm-4.6"]]),
    ],
)
def test_groups(filled, ccproxy, words, groups):
    result = rows(ccproxy("usage", *words))[1:]
    assert [row[: len(group)] for row, group in zip(result, groups, strict=True)] == groups


def test_days(filled, ccproxy):
    result = rows(ccproxy("usage", "--by", "day", "--since", "90d"))
    assert len(result) == 1 + 4 + 1
    assert result[1][0] < result[2][0] < result[3][0]


def test_as_json(filled, ccproxy):
    content = json.loads(ccproxy("usage", "glm-4.6", "--json").stdout)
    row = {
        "requests": 1,
        "errors": 0,
        "input_tokens": 1200,
        "cache_read_tokens": 50_000,
        "cache_creation_tokens": 0,
        "cache_hit_rate": 0.9766,
        "output_tokens": 340,
        "reasoning_tokens": 100,
        "mean_ttfb_seconds": 0.5,
        "cost_usd": 0.0123,
        "unpriced_requests": 0,
        "requests_above_threshold": 0,
        "extra_cost_usd": 0.0,
    }
    begin = datetime.fromisoformat(content.pop("since"))
    assert begin.timestamp() <= A_WEEK_AGO
    assert content == {
        "schema": 1,
        "usage": [{"label": "GLM-4.6", "model": "glm-4.6", **row}],
        "total": row,
        "proxies": [],
    }


@pytest.mark.parametrize("group", ["day", "model", "key", "session"])
def test_the_cost_of_each_day_model_key_and_session(group, home, ccproxy):
    writer = usage_writer(home / "state", warn=pytest.fail)
    yesterday = NOW - DAY
    for number, (cost, at) in enumerate([(1.5, NOW), (0.25, yesterday), (0.25, yesterday)]):
        one = used(model=f"m{min(number, 1)}", key=f"…000{min(number, 1)}", at=at, cost=cost)
        writer.put(one._replace(session=f"s{min(number, 1)}"))
    writer.close()
    content = json.loads(ccproxy("usage", "--by", group, "--json").stdout)
    assert sorted(row["cost_usd"] for row in content["usage"]) == [0.5, 1.5]
    assert [row["cache_hit_rate"] for row in content["usage"]] == [0.9766] * 2
    head, *lines = ccproxy("usage", "--by", group, "--csv").stdout.splitlines()
    column = head.split(",").index("cost_usd")
    assert sorted(line.split(",")[column] for line in lines) == ["0.5", "1.5"]
    assert {group} < set(head.split(","))


def test_an_unknown_price_is_null(filled, ccproxy):
    content = json.loads(ccproxy("usage", "--by", "key", "--json").stdout)
    assert [row["cost_usd"] for row in content["usage"]] == [1.5123, None]


def test_a_narrow_terminal_shows_less(filled, ccproxy, monkeypatch):
    monkeypatch.setenv("COLUMNS", "64")
    lines = ccproxy("usage").stdout.splitlines()
    assert max(map(len, lines)) <= 64
    assert "COST" in lines[2]
    assert lines[-1] == "(terminal too narrow for: CACHED, REASONING, FIRST BYTE, TOKENS)"


def test_a_bar_compares_the_tokens_of_the_rows(home, ccproxy, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    writer = usage_writer(home / "state", warn=pytest.fail)
    for tokens, key in ((1200, "…1111"), (600, "…2222"), (1, "…3333"), (0, "…4444")):
        writer.put(Used(NOW, "Kimi-K2", "kimi-k3", key, False, tokens, 0, 0, 0, 0, 0.5, 1.0))
    writer.close()
    bars = [line.rpartition("  ")[2] for line in ccproxy("usage", "--by", "key").stdout.split("\n")]
    assert [bar for bar in bars if "█" in bar] == ["█" * 12, "█" * 6, "█"]


@pytest.mark.parametrize(
    ("since", "expected"),
    [
        pytest.param("1h", ["now"], id="hours"),
        pytest.param("today", ["now", "today"], id="today"),
        pytest.param("yesterday", ["now", "today", "yesterday"], id="yesterday"),
        pytest.param("2d", ["now", "today", "yesterday", "before"], id="days are whole"),
    ],
)
def test_since_accepts_hours_days_and_names(since, expected, home, ccproxy, monkeypatch):
    now = datetime(2026, 11, 25, 15, 30)
    monkeypatch.setattr("ccproxy.cli.commands.inspect.usage.datetime", clock_at(now))
    writer = usage_writer(home / "state", warn=pytest.fail)
    for hours, model in ((0, "now"), (3, "today"), (24, "yesterday"), (54, "before"), (70, "old")):
        writer.put(used(model=model, at=(now - timedelta(hours=hours)).timestamp()))
    writer.close()
    done = ccproxy("usage", "--by", "model", "--since", since, "--json")
    assert {row["model"] for row in json.loads(done.stdout)["usage"]} == set(expected)


def clock_at(moment):
    """Return the class datetime with another now()."""
    return type("Clock", (datetime,), {"now": classmethod(lambda _cls: moment)})


def test_days_are_those_of_the_local_clock(home, ccproxy, monkeypatch):
    now = datetime(2026, 11, 25, 0, 30)
    monkeypatch.setattr("ccproxy.cli.commands.inspect.usage.datetime", clock_at(now))
    writer = usage_writer(home / "state", warn=pytest.fail)
    for minutes in (10, 40, 60 * 24):
        writer.put(used(model=f"m{minutes}", at=(now - timedelta(minutes=minutes)).timestamp()))
    writer.close()
    for days, expected in (("1", {"m10"}), ("2", {"m10", "m40", "m1440"})):
        done = ccproxy("usage", "--by", "model", "--days", days, "--json")
        assert {row["model"] for row in json.loads(done.stdout)["usage"]} == expected
    assert ccproxy("usage", "--days", "0").exit_code == 2


def test_sessions_and_requests_above_a_threshold(home, ccproxy, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    writer = usage_writer(home / "state", warn=pytest.fail)
    first = "0c6f1de8-5d3d-4a51-9f7c-000000000001"
    writer.put(used()._replace(session=first, extra=0.25))
    writer.put(used()._replace(session=first))
    writer.put(used(model="a-model-with-a-name-that-is-much-too-long-for-a-table"))
    writer.close()
    lines = ccproxy("usage", "--by", "session").stdout.splitlines()
    assert max(map(len, lines)) <= 80
    assert [line.split()[:2] for line in lines[3:6]] == [
        ["–", "1"],
        ["0c6f1de8", "2"],
        ["total", "3"],
    ]
    note = "1 request above a price threshold cost $0.25 more than at the rates below it"
    assert any(line.startswith(note) for line in lines)
    lines = ccproxy("usage", "--by", "model", "--by", "label").stdout.splitlines()
    assert max(map(len, lines)) <= 80
    assert "a-model-with-a-name-tha" in "".join(lines)
    row = json.loads(ccproxy("usage", "--by", "session", "--json").stdout)["usage"][1]
    assert (row["session"], row["requests_above_threshold"]) == (first, 1)
    assert row["extra_cost_usd"] == 0.25


def test_csv(filled, ccproxy):
    lines = ccproxy("usage", "--csv", "--by", "label").stdout.splitlines()
    assert lines[0].startswith("label,requests,errors,input_tokens,cache_read_tokens")
    assert lines[1].startswith("GLM-4.6,1,0,1200,50000,0,0.9766,340,100,0.5,0.0123,0")
    assert len(lines) == 3
    both = ccproxy("usage", "--csv", "--json")
    assert (both.exit_code, "cannot be combined" in both.stderr) == (2, True)


def test_a_formula_in_csv_is_text(home, ccproxy):
    writer = usage_writer(home / "state", warn=pytest.fail)
    writer.put(used(model="=HYPERLINK(1)"))
    writer.close()
    assert "\n'=HYPERLINK(1),1," in ccproxy("usage", "--csv", "--by", "model").stdout


def test_an_invalid_period_is_refused(home, ccproxy):
    done = ccproxy("usage", "--since", "last week")
    assert done.exit_code == 2
    assert 'must be a duration such as 15s, 10m, 12h or 3d, got "last week"' in done.stderr


def test_nothing_was_used(home, ccproxy):
    done = ccproxy("usage")
    assert (done.exit_code, done.stdout) == (0, "")
    assert re.match(r"No requests from [\d-]{10} 00:00 to ", done.stderr)
    assert json.loads(ccproxy("usage", "--json").stdout)["usage"] == []


def test_an_unknown_label_is_reported(filled, ccproxy):
    done = ccproxy("usage", "kimmi")
    assert done.exit_code == 2
    assert 'did you mean "Kimi-K2"' in done.stderr


def test_budgets_of_running_proxies_follow(demo, process):
    write_env(demo, "demo", "PROVIDER=demo\nBUDGET=1M tokens/day\n")
    assert process("start", "demo").returncode == 0
    (proxy,) = json.loads(process("usage", "--json").stdout)["proxies"]
    (budget,) = proxy["budgets"]
    assert (proxy["label"], proxy["accounts"], budget["limit"]) == ("Demo", [], 1_000_000)

"""`ccproxy usage`: sums as a table and as JSON."""

from __future__ import annotations

import json
import time

import pytest

from ccproxy.store.usage_totals import Used, usage_writer

NOW = time.time()
DAY = 86400.0


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
LABEL    MODEL    REQUESTS  ERRORS  INPUT   CACHED  OUTPUT  REASONING  FIRST BYTE     COST
GLM-4.6  glm-4.6         1       0  1,200   50,000     340        100      0.50 s  $0.0123
Kimi-K2  kimi-k2         1       0  1,200   50,000     340        100      0.50 s        –
Kimi-K2  kimi-k3         2       1  1,200   50,000     340        100      0.50 s    $1.50
total                    4       1  3,600  150,000   1,020        300      0.50 s   $1.51+
"""


def rows(done):
    return [line.split() for line in done.stdout.splitlines()]


def test_what_each_model_used(filled, ccproxy):
    done = ccproxy("usage")
    assert done.exit_code == 0
    assert done.stdout == TABLE


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
    found = rows(ccproxy("usage", *words))[1:]
    assert [row[: len(group)] for row, group in zip(found, groups, strict=True)] == groups


def test_days(filled, ccproxy):
    found = rows(ccproxy("usage", "--by", "day", "--since", "90d"))
    assert len(found) == 1 + 4 + 1
    assert found[1][0] < found[2][0] < found[3][0]


def test_as_json(filled, ccproxy):
    content = json.loads(ccproxy("usage", "glm-4.6", "--json").stdout)
    row = {
        "requests": 1,
        "errors": 0,
        "input_tokens": 1200,
        "cache_read_tokens": 50_000,
        "cache_creation_tokens": 0,
        "output_tokens": 340,
        "reasoning_tokens": 100,
        "mean_ttfb_seconds": 0.5,
        "cost_usd": 0.0123,
        "unpriced_requests": 0,
    }
    assert content == {
        "schema": 1,
        "usage": [{"label": "GLM-4.6", "model": "glm-4.6", **row}],
        "total": row,
    }


def test_an_unknown_price_is_null(filled, ccproxy):
    content = json.loads(ccproxy("usage", "--by", "key", "--json").stdout)
    assert [row["cost_usd"] for row in content["usage"]] == [1.5123, None]


def test_a_narrow_terminal_shows_less(filled, ccproxy, monkeypatch):
    monkeypatch.setenv("COLUMNS", "64")
    lines = ccproxy("usage").stdout.splitlines()
    assert max(map(len, lines)) <= 64
    assert "COST" in lines[0]


def test_nothing_was_used(home, ccproxy):
    done = ccproxy("usage")
    assert (done.exit_code, done.stdout) == (0, "")
    assert "Nothing was used in the last 7d" in done.stderr
    assert json.loads(ccproxy("usage", "--json").stdout)["usage"] == []


def test_an_unknown_label_is_told(filled, ccproxy):
    done = ccproxy("usage", "kimmi")
    assert done.exit_code == 2
    assert 'did you mean "Kimi-K2"' in done.stderr

"""Usage, summed by day, label, model and key."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from datetime import datetime, timedelta

import pytest

from ccproxy.store.usage_totals import FILE_NAME, Totals, Used, add, hour_of, summed, usage_writer

NOON = datetime(2026, 11, 21, 12, 0).timestamp()
DAY = timedelta(days=1).total_seconds()


def used(at=NOON, *, label="kimi", model="k2", key="…1111", cost=0.5, failed=False, **more):
    tokens = {"input": 10, "output": 20, "cached": 3, "written": 4, "reasoning": 5, **more}
    ttfb = None if failed else 0.25
    return Used(at, label, model, key, failed, ttfb=ttfb, cost=cost, **tokens)


def failed(**more):
    tokens = dict.fromkeys(("input", "output", "cached", "written", "reasoning"), 0)
    return used(failed=True, cost=None, **{**tokens, **more})


def stored(state, *items):
    writer = usage_writer(state, warn=pytest.fail)
    for item in items:
        writer.put(item)
    writer.close()


@pytest.mark.parametrize(
    ("items", "expected"),
    [
        pytest.param([], Totals(), id="nothing"),
        pytest.param(
            [used(), used(cost=0.25)],
            Totals(
                requests=2, input=20, output=40, cached=6, written=8, reasoning=10,
                ttfb=0.5, answers=2, cost=0.75,
            ),
            id="everything is added",
        ),
        pytest.param(
            [failed()], Totals(requests=1, errors=1), id="a failure has no waiting and no price"
        ),
        pytest.param(
            [used(cost=None)],
            Totals(
                requests=1, input=10, output=20, cached=3, written=4, reasoning=5,
                ttfb=0.25, answers=1, unpriced=1,
            ),
            id="no known price: counted, not guessed",
        ),
    ],
)  # fmt: skip
def test_sums(items, expected):
    totals = Totals()
    for item in items:
        totals.add(item)
    assert totals == expected


@pytest.mark.parametrize(
    ("items", "cost"),
    [
        ([used(cost=0.5)], 0.5),
        ([used(cost=None)], None),
        ([used(cost=0.5), used(cost=None)], 0.5),
        ([used(cost=0.0)], 0.0),
        ([], 0.0),
    ],
)
def test_a_cost_is_shown_only_if_a_price_is_known(items, cost):
    totals = Totals()
    for item in items:
        totals.add(item)
    assert totals.known_cost == cost


def test_the_mean_wait_is_that_of_answers():
    totals = Totals()
    assert totals.mean_ttfb is None
    totals.add(used())
    totals.add(failed())
    assert totals.mean_ttfb == 0.25


@pytest.mark.parametrize(
    ("by", "expected"),
    [
        (["label"], {("glm",): 1, ("kimi",): 4}),
        (["model"], {("k2",): 4, ("k3",): 1}),
        (["key"], {("…1111",): 4, ("…2222",): 1}),
        (["day"], {("2026-11-20",): 1, ("2026-11-21",): 4}),
        (["model", "label"], {("glm", "k2"): 1, ("kimi", "k2"): 3, ("kimi", "k3"): 1}),
    ],
)
def test_groups(tmp_path, by, expected):
    stored(
        tmp_path,
        used(),
        used(NOON - DAY),
        used(model="k3"),
        used(key="…2222"),
        used(label="glm"),
    )
    lines = summed(tmp_path, by=by)
    assert {line.group: line.totals.requests for line in lines} == expected
    assert sum(line.totals.input for line in lines) == 50


def test_only_the_requested_rows_are_summed(tmp_path):
    stored(tmp_path, used(), used(NOON - 5 * DAY), used(label="glm"))
    (line,) = summed(tmp_path, by=["label"], since=NOON - DAY, labels=["kimi"])
    assert (line.group, line.totals.requests) == (("kimi",), 1)
    assert summed(tmp_path, by=["label"], labels=[]) == []


def test_several_processes_add_to_the_same_sums(tmp_path):
    stored(tmp_path, used())
    stored(tmp_path, used(), used())
    (line,) = summed(tmp_path, by=["key"])
    assert line.totals.requests == 3
    assert line.totals.cost == 1.5


def test_without_a_file_nothing_was_used(tmp_path):
    assert summed(tmp_path, by=["label"]) == []


def test_a_batch_that_fails_leaves_nothing_behind(tmp_path):
    def look(connection):
        with pytest.raises(OverflowError):
            add(connection, [used(), used(label="glm", input=2**70)])
        return connection.execute("SELECT COUNT(*) FROM used").fetchone()[0]

    writer = usage_writer(tmp_path, warn=pytest.fail)
    assert writer.ask(look).result(10) == 0
    writer.close()


def test_hours_are_those_of_the_users_clock():
    assert hour_of(NOON) == "2026-11-21T12"


def test_a_period_begins_at_its_hour_and_days_are_summed(tmp_path):
    writer = usage_writer(tmp_path, warn=pytest.fail)
    for hours in (0, 1, 2, 14):
        writer.put(used(at=NOON - hours * 3600))
    writer.close()
    assert _requests(summed(tmp_path, by=["label"], since=NOON - 3600)) == [2]
    assert _requests(summed(tmp_path, by=["day"], since=NOON - 12 * 3600)) == [3]
    assert _requests(summed(tmp_path, by=["day"])) == [1, 3]


def test_sums_of_whole_days_that_an_earlier_version_wrote_are_read(tmp_path):
    writer = usage_writer(tmp_path, warn=pytest.fail)
    writer.put(used())
    writer.ask(lambda db: db.execute("UPDATE used SET day = '2026-11-21'").rowcount).result(10)
    writer.put(used())
    writer.close()
    midnight = NOON - 12 * 3600
    assert _requests(summed(tmp_path, by=["day"], since=midnight)) == [2]
    assert _requests(summed(tmp_path, by=["day"], since=midnight + 86400)) == []


def _requests(rows):
    return [row.totals.requests for row in rows]


# Files of the first version.

VERSION_1 = """
    CREATE TABLE used (day TEXT NOT NULL, label TEXT NOT NULL, model TEXT NOT NULL,
        key TEXT NOT NULL, requests INTEGER NOT NULL, errors INTEGER NOT NULL,
        input INTEGER NOT NULL, output INTEGER NOT NULL, cached INTEGER NOT NULL,
        written INTEGER NOT NULL, reasoning INTEGER NOT NULL, ttfb REAL NOT NULL,
        answers INTEGER NOT NULL, cost REAL NOT NULL, unpriced INTEGER NOT NULL,
        PRIMARY KEY (day, label, model, key)) WITHOUT ROWID;
    INSERT INTO used VALUES ('2026-11-21T12', 'kimi', 'k2', '…1111', 2, 0, 20, 40, 6, 8, 10, 0.5, 2,
        0.75, 0);
    PRAGMA user_version=1
"""


VERSION_2 = """
    CREATE TABLE used (day TEXT NOT NULL, label TEXT NOT NULL, model TEXT NOT NULL,
        key TEXT NOT NULL, session TEXT NOT NULL DEFAULT '', requests INTEGER NOT NULL,
        errors INTEGER NOT NULL, input INTEGER NOT NULL, output INTEGER NOT NULL,
        cached INTEGER NOT NULL, written INTEGER NOT NULL, reasoning INTEGER NOT NULL,
        ttfb REAL NOT NULL, answers INTEGER NOT NULL, cost REAL NOT NULL,
        unpriced INTEGER NOT NULL, above INTEGER NOT NULL DEFAULT 0,
        extra REAL NOT NULL DEFAULT 0,
        PRIMARY KEY (day, label, model, key, session)) WITHOUT ROWID;
    INSERT INTO used VALUES ('2026-11-21T12', 'kimi', 'k2', '…1111', 's-1', 2, 0, 20, 40, 6, 8, 10,
        0.5, 2, 0.75, 0, 1, 0.25);
    PRAGMA user_version=2
"""


def test_a_file_of_the_second_version_is_read_and_upgraded(tmp_path):
    with closing(sqlite3.connect(tmp_path / FILE_NAME)) as connection:
        connection.executescript(VERSION_2)
    (row,) = summed(tmp_path, by=["session", "user"])
    assert (row.group, row.totals.requests) == (("s-1", ""), 2)
    stored(tmp_path, used()._replace(session="s-1", user="anna"))
    rows = summed(tmp_path, by=["session", "user"])
    assert [(row.group, row.totals.requests, row.totals.extra) for row in rows] == [
        (("s-1", ""), 2, 0.25),
        (("s-1", "anna"), 1, 0.0),
    ]


def test_a_file_of_the_first_version_is_read_and_upgraded(tmp_path):
    with closing(sqlite3.connect(tmp_path / FILE_NAME)) as connection:
        connection.executescript(VERSION_1)
    (row,) = summed(tmp_path, by=["label", "session"])
    assert (row.group, row.totals.requests, row.totals.above) == (("kimi", ""), 2, 0)
    stored(tmp_path, used()._replace(session="s-1", extra=0.1))
    rows = summed(tmp_path, by=["label", "session"])
    assert [(row.group, row.totals.requests) for row in rows] == [
        (("kimi", ""), 2),
        (("kimi", "s-1"), 1),
    ]
    assert [(row.totals.above, row.totals.extra) for row in rows] == [(0, 0.0), (1, 0.1)]

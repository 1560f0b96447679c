"""The table of sessions is bounded, shared as bytes, saved and restored."""

from __future__ import annotations

import itertools

import pytest

from ccproxy.keys.sessions import (
    MAX_SESSIONS,
    SESSION_IDLE,
    SessionRef,
    SessionRow,
    SessionTable,
)


def ref(name="s", **fields):
    return SessionRef(id=name, name=name, **fields)


def row(key="k1", *, used=0.0, tokens=0, **fields):
    return SessionRow(key=key, name="s", used=used, tokens=tokens, **fields)


def table_of(**rows):
    table = SessionTable()
    for name, one in rows.items():
        table.put(name, one)
    return table


def test_a_session_expires_when_it_is_idle():
    table = table_of(s=row(used=10.0))
    assert table.get("s", 10.0 + SESSION_IDLE - 1) is not None
    assert table.get("s", 10.0 + SESSION_IDLE) is None
    assert table.count_by_key(10.0 + SESSION_IDLE) == {}


def test_the_session_that_has_been_idle_longest_is_dropped():
    table = SessionTable()
    for number in range(MAX_SESSIONS):
        table.put(str(number), row(used=float(number)))
    table.put("0", row(used=5000.0))
    table.put("new", row(used=5000.0))
    assert len(table) == MAX_SESSIONS
    assert table.get("0", 5000.0) is not None
    assert table.get("1", 1.0) is None


def test_subagents_are_not_counted_as_sessions():
    table = table_of(a=row(), b=row("k2"), c=row("k2", is_agent=True))
    assert table.count_by_key(0.0) == {"k1": 1, "k2": 1}


@pytest.mark.parametrize(
    ("before", "now", "is_new"),
    [
        pytest.param(row(tokens=9000), ref(tokens=9100), False, id="the next turn"),
        pytest.param(row(tokens=9000), ref(tokens=4000), True, id="half of it is gone"),
        pytest.param(row(tokens=9000), ref(tokens=500), False, id="a short side request"),
        pytest.param(
            row(tokens=9000),
            ref(tokens=4000, is_compaction=True),
            False,
            id="the compaction itself uses the cache",
        ),
        pytest.param(
            row(tokens=9000, is_compacted=True), ref(tokens=9000), True, id="after a compaction"
        ),
    ],
)
def test_a_prompt_has_a_new_prefix(before, now, is_new):
    assert before.begins_prefix(now) is is_new


@pytest.mark.parametrize(
    ("before", "now", "tokens"),
    [
        pytest.param(row(tokens=9000), ref(tokens=9500), 9000, id="sent earlier"),
        pytest.param(row(tokens=9000), ref(tokens=6000), 6000, id="a shorter prompt"),
        pytest.param(row(tokens=1000), ref(tokens=9000), 0, id="too short to be cached"),
        pytest.param(row(tokens=9000), ref(tokens=2000), 0, id="a new prefix"),
    ],
)
def test_the_cached_tokens_are_estimated(before, now, tokens):
    assert before.cached_tokens(now) == tokens


def test_a_use_is_recorded_late_unless_a_decision_depends_on_it():
    table = table_of(s=row(tokens=8000))
    (_, one) = next(iter(table))
    versions = [table.version]
    for now, tokens, compaction in [
        (10.0, 8100, False),
        (40.0, 8200, False),
        (41.0, 12000, False),
        (42.0, 12000, True),
        (43.0, 100, True),
    ]:
        table.note_use(ref(tokens=tokens, is_compaction=compaction), one, now)
        versions.append(table.version)
    changes = [after - before for before, after in itertools.pairwise(versions)]
    assert changes == [0, 1, 1, 1, 0]
    assert (one.used, one.tokens) == (42.0, 12000)


# Moves.


def test_a_move_counts_when_it_is_confirmed():
    table = table_of(s=row(tokens=5000))
    (_, one) = next(iter(table))
    table.move(ref(tokens=6000), one, "k2", "rate_limit")
    assert table.moves == []
    assert table.confirm("s", "k1", 7.0) is None, "an earlier request of the session"
    move = table.confirm("s", "k2", 8.0)
    assert move is not None
    assert (move.source, move.target, move.tokens, move.at) == ("k1", "k2", 5000, 8.0)
    assert table.moves == [move]
    assert table.confirm("s", "k2", 9.0) is None
    assert table.confirm("unknown", "k2", 9.0) is None


def test_a_move_that_is_refused_is_undone():
    table = table_of(s=row())
    (_, one) = next(iter(table))
    table.move(ref(), one, "k2", "rate_limit")
    table.undo("s", "k3")
    assert one.key == "k2"
    table.undo("s", "k2")
    assert one.key == "k1"
    table.undo("s", "k1")
    table.undo("unknown", "k1")
    assert one.key == "k1"


def test_a_chain_of_attempts_is_one_move_and_a_loop_is_not_a_move():
    table = table_of(s=row())
    (_, one) = next(iter(table))
    table.move(ref(), one, "k2", "rate_limit")
    table.move(ref(), one, "k3", "rate_limit")
    move = table.confirm("s", "k3", 1.0)
    assert move is not None
    assert move.source == "k1"
    table.move(ref(), one, "k1", "rate_limit")
    table.move(ref(), one, "k3", "rate_limit")
    assert table.confirm("s", "k3", 2.0) is None


def test_only_the_last_moves_are_kept():
    table = table_of(s=row())
    (_, one) = next(iter(table))
    for number in range(30):
        table.move(ref(), one, f"k{number % 2 + 2}", "rate_limit")
        table.confirm("s", one.key, float(number))
    assert [move.at for move in table.moves] == [float(number) for number in range(10, 30)]


# Sharing.


def test_the_content_is_the_same_after_sharing():
    table = table_of(a=row(), b=row("k2", tokens=7))
    data = table.encoded()
    assert table.encoded() is data, "encoded once"
    copy = SessionTable(data)
    assert dict(copy) == dict(table)
    assert copy.moves == table.moves


def test_equal_content_is_not_decoded_again():
    table = table_of(a=row())
    copy = SessionTable(table.encoded())
    copy.adopt(table)
    assert dict(copy)["a"] is dict(table)["a"]
    assert copy.version == table.version
    other = SessionTable(table_of(b=row()).encoded())
    other.adopt(table)
    assert [name for name, _ in other] == ["b"]
    assert other.version > table.version


def test_sessions_of_a_detached_process_are_added():
    table = table_of(a=row("k1"))
    table.add_missing(table_of(a=row("k2"), b=row("k2")))
    assert {name: one.key for name, one in table} == {"a": "k1", "b": "k2"}


def test_sessions_survive_a_restart_with_their_age_and_known_keys():
    table = table_of(a=row("k1", used=90.0, tokens=9), b=row("gone"), c=row("k2", is_agent=True))
    saved = table.export({"k1": "one", "k2": "two"}, now=100.0, wall=1000.0)
    again = SessionTable()
    again.restore(saved, {"one": "x"}, now=5.0, wall=1010.0)
    assert dict(again) == {"a": row("x", used=-15.0, tokens=9)}
    again.restore(saved, {"one": "y"}, now=5.0, wall=1010.0)
    assert dict(again)["a"].key == "x", "a session that is in the table stays"


def test_a_table_of_another_program_is_treated_as_empty():
    table = SessionTable(b"rubbish")
    assert len(table) == 0
    table.put("s", row())
    assert [*SessionTable(table.encoded())] == [("s", row())]

"""The state of the keys on disk survives a restart and a kill -9, and never costs a request."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
import structlog
from structlog.testing import capture_logs

from ccproxy.convert.common.refused_features import LearnedRefusals
from ccproxy.convert.common.token_estimate import Calibration
from ccproxy.convert.direct.learning import Lessons
from ccproxy.convert.errors.causes import Cause
from ccproxy.errors import Problem
from ccproxy.keys.pool import KeyPool
from ccproxy.keys.sessions import SessionRef
from ccproxy.keys.verdict import WORKS, Effect, Next, Verdict
from ccproxy.store.key_database import SESSIONS, KeyStore, keys_path
from ccproxy.worker import key_store
from ccproxy.worker.key_store import (
    LESSONS_MAX_AGE,
    KeyStateKeeper,
    PersistentState,
    open_keeper,
)

KEYS = ("sk-first-key-aaaa", "sk-second-key-bbbb", "sk-third-key-cccc")
LOG = structlog.get_logger()
REJECTED = Verdict(effect=Effect.REJECTED, next=Next.OTHER_KEY, cause=Cause.BAD_KEY, status=401)
LIMITED = Verdict(
    effect=Effect.COOLDOWN,
    next=Next.OTHER_KEY,
    cause=Cause.RATE_LIMIT,
    status=429,
    seconds=100.0,
    is_per_model=True,
)


class Time:
    """The clocks of a machine; a restart resets the monotonic clock, but not `wall`."""

    def __init__(self, wall=1_700_000_000.0, now=50.0):
        self.wall_now, self.now = wall, now


def pool_at(time, keys=KEYS):
    return KeyPool(
        keys,
        provider="Test",
        clock=lambda: time.now,
        wall=lambda: time.wall_now,
        jitter=lambda: 0.5,
    )


def refuse(pool, key_id, verdict):
    lease = pool.take("big", skip={key.id for key in pool.snapshot()} - {key_id})
    pool.settle(lease, verdict)
    pool.release(lease)


def keeper_of(path, pool, calibration=None, learned=None, *, save_after=0.0, **state):
    calibration, learned = calibration or Calibration(), learned or LearnedRefusals()
    persistent = PersistentState(pool, calibration, learned, **state)
    keeper = KeyStateKeeper(persistent, KeyStore(path), log=LOG, save_after=save_after)
    keeper.restore()
    return keeper


@pytest.fixture
def path(tmp_path):
    return tmp_path / "kimi.keys.sqlite"


async def test_a_restart_preserves_the_state(path):
    before = pool_at(Time())
    calibration = Calibration()
    keeper = keeper_of(path, before, calibration)
    refuse(before, "k1", LIMITED)
    refuse(before, "k2", REJECTED)
    before.disable("k3")
    calibration.learn("big", estimated=1000, reported=1200)
    await keeper.close()

    after, learnt = pool_at(Time(wall=1_700_000_040.0, now=3.0)), Calibration()
    await keeper_of(path, after, learnt).close()
    first, second, third = after.snapshot()
    assert first.cooldowns[0].seconds == pytest.approx(60.0)
    assert (second.state, second.cooldowns[0].seconds) == ("rejected", pytest.approx(20.0))
    assert third.state == "disabled"
    assert [key.used_today for key in after.snapshot()] == [1, 1, 0]
    assert learnt.factor("big") == 1.2


async def test_sessions_survive_a_restart(path):
    before, ref = pool_at(Time()), SessionRef(id="a", name="a")
    keeper = keeper_of(path, before)
    before.take("big", skip={"k1"}, session=ref)
    await keeper.close()

    after = pool_at(Time(wall=1_700_000_040.0, now=3.0))
    await keeper_of(path, after).close()
    assert after.take("big", session=ref).id == "k2"


async def test_saved_sessions_that_are_damaged_are_left_out(path):
    store = KeyStore(path)
    store.save_value(SESSIONS, [["a", "b"]])
    store.close()
    pool = pool_at(Time())
    with capture_logs() as lines:
        await keeper_of(path, pool).close()
    assert [line["row"] for line in lines] == [SESSIONS]
    assert [key.sessions for key in pool.snapshot()] == [0, 0, 0]


async def test_changes_are_saved_automatically(path):
    pool = pool_at(Time())
    keeper = keeper_of(path, pool)
    refuse(pool, "k2", REJECTED)
    reader = KeyStore(path)
    async with asyncio.timeout(30):
        while not any(row["cooldowns"] for row in reader.load().values()):
            await asyncio.sleep(0.01)
    reader.close()
    refuse(pool, "k1", WORKS)
    await keeper.close()
    again = pool_at(Time())
    await keeper_of(path, again).close()
    assert [key.state for key in again.snapshot()] == ["ready", "rejected", "ready"]


KILLED = """
import asyncio, sys
from pathlib import Path
from tests.worker.test_key_store import *
async def main():
    pool = pool_at(Time())
    keeper = keeper_of(Path(sys.argv[1]), pool)
    refuse(pool, "k2", REJECTED)
    reader = KeyStore(Path(sys.argv[1]))
    while not any(row["cooldowns"] for row in reader.load().values()):
        await asyncio.sleep(0.01)
    print("saved", flush=True)
    await asyncio.Event().wait()
asyncio.run(main())
"""


def test_a_kill_preserves_the_state(path):
    command = [sys.executable, "-c", KILLED, str(path)]
    root = Path(__file__).parent.parent.parent
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=root) as process:
        assert process.stdout.readline() == "saved\n"
        process.send_signal(signal.SIGKILL)
    store = KeyStore(path)
    states = [row["cooldowns"][0]["cause"] for row in store.load().values() if row["cooldowns"]]
    store.close()
    assert states == ["bad_key"]


def test_only_the_owner_may_read_the_file(path):
    previous = os.umask(0)
    try:
        store = KeyStore(path)
        store.merge({"a": {}}, {})
    finally:
        os.umask(previous)
    files = list(path.parent.iterdir())
    store.close()
    assert path in files
    assert {stat.S_IMODE(file.stat().st_mode) for file in [path]} == {0o600}


async def test_no_key_is_in_the_file(path):
    pool = pool_at(Time())
    keeper = keeper_of(path, pool)
    refuse(pool, "k1", REJECTED)
    await keeper.close()
    for file in path.parent.iterdir():
        data = file.read_bytes()
        assert not any(key.encode()[3:] in data for key in KEYS)


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(
            lambda path: path.write_bytes(b"no database at all" * 100), id="not a database"
        ),
        pytest.param(lambda path: path.write_bytes(path.read_bytes()[:5000]), id="cut"),
    ],
)
async def test_damaged_files_are_set_aside_with_a_warning(path, damage):
    pool = pool_at(Time())
    keeper = keeper_of(path, pool)
    refuse(pool, "k1", REJECTED)
    await keeper.close()
    damage(path)
    with capture_logs() as lines:
        again = pool_at(Time())
        keeper = open_keeper(
            path, PersistentState(again, Calibration(), LearnedRefusals()), log=LOG
        )
        refuse(again, "k2", REJECTED)
        await keeper.close()
    assert [line["event"] for line in lines] == ["store.set_aside"]
    assert [key.state for key in again.snapshot()] == ["ready", "rejected", "ready"]
    assert len(list(path.parent.glob("*.damaged.*"))) >= 1
    after = pool_at(Time())
    await keeper_of(path, after).close()
    assert [key.state for key in after.snapshot()] == ["ready", "rejected", "ready"]


@pytest.mark.parametrize(
    ("statement", "warnings"),
    [
        pytest.param("INSERT INTO keys VALUES ('x', '{')", 0, id="unknown key, no JSON"),
        pytest.param("INSERT INTO keys VALUES ('x', '5')", 0, id="unknown key, no object"),
        pytest.param("UPDATE keys SET state = '{}'", 1, id="not our object"),
        pytest.param(
            "INSERT OR REPLACE INTO meta VALUES ('token factors', x'5b315d')",
            1,
            id="not our factors",
        ),
        pytest.param(
            "INSERT OR REPLACE INTO meta VALUES ('refusals', x'5b315d')", 1, id="not our lessons"
        ),
    ],
)
async def test_unreadable_rows_do_not_affect_others(path, statement, warnings):
    pool = pool_at(Time())
    keeper = keeper_of(path, pool)
    refuse(pool, "k1", REJECTED)
    await keeper.close()
    sql(path, statement)
    with capture_logs() as lines:
        again = pool_at(Time())
        keeper = keeper_of(path, again)
        refuse(again, "k2", REJECTED)
        await keeper.close()
    assert [line["event"] for line in lines] == ["store.row_unreadable"] * warnings
    assert again.snapshot()[1].state == "rejected"


async def test_unreadable_factors_do_not_affect_refusals(path):
    learned = LearnedRefusals()
    keeper = keeper_of(path, pool_at(Time()), learned=learned)
    learned.add("chat", "m", ["images"])
    await keeper.close()
    sql(path, "INSERT OR REPLACE INTO meta VALUES ('token factors', x'5b315d')")
    again = LearnedRefusals()
    with capture_logs() as lines:
        await keeper_of(path, pool_at(Time()), learned=again).close()
    assert [(line["event"], line["row"]) for line in lines] == [
        ("store.row_unreadable", "token factors")
    ]
    assert again.features("chat", "m") == {"images"}


def sql(path, statement):
    with sqlite3.connect(path) as db:
        db.execute(statement)
    db.close()


@pytest.mark.parametrize(
    "prepare",
    [
        pytest.param(lambda path: path.mkdir(), id="a directory"),
        pytest.param(lambda path: path.symlink_to("/dev/null"), id="a link"),
    ],
)
async def test_without_a_usable_file_the_worker_still_serves(path, prepare):
    prepare(path)
    pool = pool_at(Time())
    with capture_logs() as lines:
        assert (
            open_keeper(path, PersistentState(pool, Calibration(), LearnedRefusals()), log=LOG)
            is None
        )
        refuse(pool, "k1", REJECTED)
    assert [line["event"] for line in lines] == ["store.unusable"]


async def test_a_failing_disk_causes_only_a_warning(path):
    pool = pool_at(Time())
    keeper = keeper_of(path, pool)
    other = sqlite3.connect(path)
    other.execute("DROP TABLE keys")
    other.commit()
    other.close()
    with capture_logs() as lines:
        refuse(pool, "k1", REJECTED)
        await asyncio.sleep(0)
        refuse(pool, "k2", REJECTED)
        await keeper.close()
    assert {line["event"] for line in lines} == {"store.unwritable"}
    assert [key.state for key in pool.snapshot()] == ["rejected", "rejected", "ready"]


async def test_a_requested_save_reports_its_success(path):
    pool = pool_at(Time())
    keeper = keeper_of(path, pool)
    pool.disable("k1")
    assert await keeper.save_now() == ""
    stored = sqlite3.connect(path)
    stored.execute("ALTER TABLE keys RENAME TO elsewhere")
    pool.disable("k2")
    assert await keeper.save_now() == "no such table: keys"
    assert await keeper.save_now() == "no such table: keys", "nor is it now"
    stored.execute("ALTER TABLE elsewhere RENAME TO keys")
    stored.close()
    assert await keeper.save_now() == ""
    await keeper.close()
    again = pool_at(Time())
    await keeper_of(path, again).close()
    assert [key.state for key in again.snapshot()] == ["disabled", "disabled", "ready"]


async def test_a_locked_file_delays_the_save_but_not_the_command(path):
    pool = pool_at(Time())
    keeper = keeper_of(path, pool)
    pool.disable("k1")
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    assert "another program has locked it" in await keeper.save_now(limit=0.05)
    other.close()
    assert await keeper.save_now() == ""
    await keeper.close()
    again = pool_at(Time())
    await keeper_of(path, again).close()
    assert again.snapshot()[0].state == "disabled"


async def test_the_state_of_a_removed_key_is_restored_when_it_returns(path):
    pool = pool_at(Time())
    keeper = keeper_of(path, pool)
    refuse(pool, "k1", REJECTED)
    await keeper.close()
    await keeper_of(path, pool_at(Time(), keys=KEYS[1:])).close()
    again = pool_at(Time())
    await keeper_of(path, again).close()
    assert again.snapshot()[0].state == "rejected"


def test_values_besides_the_keys(path):
    store = KeyStore(path)
    assert store.load_value("x") is None
    store.save_value("x", {"a": [1]})
    salt = store.salt
    store.close()
    store = KeyStore(path)
    assert store.load_value("x") == {"a": [1]}
    assert store.salt == salt
    assert len(salt) == 16
    store.close()


async def test_refusals_are_stored_for_a_week(path, monkeypatch):
    body = b'{"model":"m","messages":[],"context_management":{}}'
    learned = LearnedRefusals()
    keeper = keeper_of(path, pool_at(Time()), learned=learned)
    problem = Problem("invalid_request_error", "context_management: not permitted", status=400)
    Lessons(learned).learn(problem, body, "m")
    learned.add("chat", "m", ["images"])
    await keeper.close()
    after = LearnedRefusals()
    await keeper_of(path, pool_at(Time()), learned=after).close()
    assert b"context_management" not in Lessons(after).apply(body, "m")
    assert after.features("chat", "m") == {"images"}
    later = time.time() + LESSONS_MAX_AGE
    monkeypatch.setattr("ccproxy.worker.key_store.time.time", lambda: later)
    expired = LearnedRefusals()
    await keeper_of(path, pool_at(Time()), learned=expired).close()
    assert Lessons(expired).apply(body, "m") == body


@pytest.mark.parametrize(
    "later",
    [
        pytest.param({"server": "https://other.example/v1"}, id="the base URL was changed"),
        pytest.param({"keeps_refusals": False}, id="a proxy without a table"),
    ],
)
async def test_refusals_of_another_server_are_not_restored(path, later):
    learned = LearnedRefusals()
    learned.add("chat", "m", ["images"])
    await keeper_of(path, pool_at(Time()), learned=learned).close()
    after = LearnedRefusals()
    await keeper_of(path, pool_at(Time()), learned=after, **later).close()
    assert not after.features("chat", "m")


async def test_two_processes_of_a_reload_merge_their_counts_and_cooldowns(path):
    time_of_both = Time()
    old = pool_at(time_of_both)
    keeper_of_old = keeper_of(path, old, save_after=60.0)
    refuse(old, "k1", WORKS)
    await keeper_of_old._save()
    new = pool_at(time_of_both)
    keeper_of_new = keeper_of(path, new, save_after=60.0)
    refuse(new, "k2", LIMITED)
    refuse(new, "k1", WORKS)
    await keeper_of_new._save()
    refuse(old, "k1", WORKS)
    time_of_both.wall_now += 0.01  # the clocks are never read at exactly the same moment
    await keeper_of_old.close()
    await keeper_of_new.close()
    after = pool_at(time_of_both)
    await keeper_of(path, after).close()
    assert [key.used_today for key in after.snapshot()] == [3, 1, 0]
    assert [key.state for key in after.snapshot()] == ["ready", "cooldown", "ready"]


def test_labels_that_differ_by_case_share_a_file(tmp_path):
    assert keys_path(tmp_path, "Kimi") == keys_path(tmp_path, "kimi")


@pytest.mark.parametrize("removed", ["file", "folder"])
async def test_a_removed_file_is_written_again_even_without_changes(path, monkeypatch, removed):
    """After `rm -rf state` while the fleet runs, a disabled key stays disabled after a restart."""
    monkeypatch.setattr(key_store, "CHECK_SECONDS", 0.05)
    pool = pool_at(Time())
    keeper = keeper_of(path, pool)
    refuse(pool, "k1", REJECTED)
    assert await keeper.save_now() == ""
    if removed == "folder":
        shutil.rmtree(path.parent)
    else:
        path.unlink()
    async with asyncio.timeout(30):
        while not path.exists():
            await asyncio.sleep(0.01)
    await keeper.close()
    restarted = pool_at(Time())
    await keeper_of(path, restarted).close()
    assert restarted.snapshot()[0].state == pool.snapshot()[0].state
    assert restarted.snapshot()[0].cooldowns

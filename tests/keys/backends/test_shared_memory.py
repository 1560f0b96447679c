"""A pool that several processes share: turns, cooldowns, counts and leases."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from ccproxy.convert.errors.causes import Cause
from ccproxy.errors import Problem
from ccproxy.keys.backends import shared_memory
from ccproxy.keys.backends.backend import AccountLimit, PoolState
from ccproxy.keys.backends.partition import KeyBaseline, merge
from ccproxy.keys.backends.shared_memory import SharedMemoryBackend
from ccproxy.keys.cooldown import Cooldown
from ccproxy.keys.key_state import KeyLimits, KeyState
from ccproxy.keys.pool import KeyPool
from ccproxy.keys.sessions import MIN_CACHED, SessionRef
from ccproxy.keys.verdict import WORKS, Effect, Next, Verdict
from ccproxy.worker.upstream.key_queue import KeyQueue
from tests.descriptors import exhausted

KEYS = ("sk-first-key-aaaa", "sk-second-key-bbbb", "sk-third-key-cccc")
ROOT = Path(__file__).parents[3]
LIMITED = Verdict(
    effect=Effect.COOLDOWN,
    next=Next.OTHER_KEY,
    cause=Cause.RATE_LIMIT,
    status=429,
    seconds=100.0,
    is_per_model=True,
)


class Machine:
    """The clocks and the folder that the processes of one machine share."""

    def __init__(self, folder):
        self.folder = folder
        self.now = 500.0
        self.pools = []
        self.warnings = []

    def process(self, keys=KEYS, limits=None):
        pool = KeyPool(
            keys,
            backend=SharedMemoryBackend(self.folder, warn=self.warnings.append),
            provider="Test",
            clock=lambda: self.now,
            wall=lambda: 1_700_000_000.0 + self.now,
            jitter=lambda: 0.5,
            limits=limits or KeyLimits(),
        )
        self.pools.append(pool)
        return pool

    def end(self, pool):
        """Simulate the end of a process: the system closes its files."""
        self.pools.remove(pool)
        pool.backend.close()


@pytest.fixture
def machine(tmp_path):
    machine = Machine(tmp_path / "kimi.pool")
    yield machine
    for pool in machine.pools:
        pool.backend.close()


def ask(pool, verdict=WORKS):
    lease = pool.take("big")
    pool.settle(lease, verdict)
    pool.release(lease)
    return lease.id


def test_turns_are_taken_across_processes(machine):
    one, two = machine.process(), machine.process()
    assert [ask(pool) for pool in (one, one, two, one, two, two)] == ["k1", "k2", "k3"] * 2


def test_a_lease_counts_in_all_processes(machine):
    one, two = machine.process(), machine.process()
    held = one.take("big")
    assert {ask(two) for _ in range(4)} == {"k2", "k3"}
    assert [key.in_flight for key in two.snapshot()] == [1, 0, 0]
    one.release(held)
    assert [key.in_flight for key in two.snapshot()] == [0, 0, 0]


def test_a_cooldown_applies_to_all_processes_and_is_probed_by_one(machine):
    one, two = machine.process(), machine.process()
    ask(one, LIMITED)
    assert [key.state for key in two.snapshot()] == ["cooldown", "ready", "ready"]
    assert {ask(two) for _ in range(4)} == {"k2", "k3"}
    machine.now += 101
    probe = two.take("big")
    assert probe.id == "k1"
    assert {ask(one) for _ in range(4)} == {"k2", "k3"}
    two.settle(probe, WORKS)
    two.release(probe)
    assert [key.cooldowns for key in one.snapshot()] == [(), (), ()]


def test_actions_of_the_user_apply_to_all_processes(machine):
    one, two = machine.process(), machine.process()
    one.disable("k2")
    assert [key.state for key in two.snapshot()] == ["ready", "disabled", "ready"]
    two.enable("k2")
    ask(one, LIMITED)
    two.reset()
    assert one.counts() == (3, 3)


def test_limits_count_the_uses_of_all_processes(machine):
    limits = KeyLimits(per_day=4, per_minute=4)
    one, two = machine.process(KEYS[:1], limits), machine.process(KEYS[:1], limits)
    for pool in (one, two, two, one):
        ask(pool)
    assert [pool.snapshot()[0].used_today for pool in (one, two)] == [4, 4]
    for pool in (one, two):
        with pytest.raises(Problem, match="per day"):
            pool.take("big")


def test_a_limit_of_the_account_applies_to_all_processes(machine):
    shared = Verdict(
        effect=Effect.COOLDOWN,
        next=Next.OTHER_KEY,
        cause=Cause.RATE_LIMIT,
        status=429,
        is_per_model=True,
        may_be_account_wide=True,
    )
    one, two = machine.process(), machine.process()
    for pool in (one, two, one):
        ask(pool, shared)
    assert two.account_limits()
    with pytest.raises(Problem, match="this address or account"):
        two.take("big")


async def test_a_lease_returned_in_another_process_wakes_a_waiting_request(machine):
    limits = KeyLimits(in_flight=1)
    one, two = machine.process(KEYS[:1], limits), machine.process(KEYS[:1], limits)
    two.backend.watch()
    held = one.take("big")
    waiting = asyncio.ensure_future(KeyQueue(two).take("big"))
    await asyncio.sleep(0)
    one.release(held)
    async with asyncio.timeout(30):
        assert (await waiting).id == "k1"


def test_the_probe_of_an_account_by_a_dead_process_is_released():
    limit = AccountLimit(until=1.0, probe=(3, 1))
    state = PoolState(account_limits={"big": limit}).without_processes({4})
    assert (state.processes(), limit.probe) == ({3}, (3, 1))
    state.without_processes({3})
    assert (state.processes(), limit.probe) == (set(), None)


async def test_the_leases_of_a_dead_process_are_released(machine):
    one, two = machine.process(), machine.process()
    ask(one, LIMITED)
    machine.now += 101
    assert one.take("big").id == "k2"
    assert one.take("big").id == "k3"
    assert one.take("big").id == "k1"  # a probe
    machine.end(one)
    assert [key.in_flight for key in two.snapshot()] == [1, 1, 1]
    two.backend.watch()
    async with asyncio.timeout(30):
        while any(key.in_flight for key in two.snapshot()):
            await asyncio.sleep(0.01)
    assert {ask(two) for _ in range(3)} == {"k1", "k2", "k3"}


def test_a_process_does_not_inherit_the_leases_of_its_slot(machine):
    one, _two = machine.process(), machine.process()
    one.take("big")
    machine.end(one)
    assert [key.in_flight for key in machine.process().snapshot()] == [0, 0, 0]


def test_the_first_process_restores_and_the_lowest_slot_saves(machine):
    one = machine.process()
    ask(one, LIMITED)
    stored = one.export(b"salt")
    two = machine.process()
    assert (one.is_writer, two.is_writer) == (True, False)
    one.reset()
    two.restore(stored, b"salt")  # the second process: the live state is newer than the saved one
    assert [key.state for key in two.snapshot()] == ["ready"] * 3
    machine.end(one)
    assert two.is_writer
    machine.end(two)
    three = machine.process()
    assert [key.used_today for key in three.snapshot()] == [0, 0, 0]
    three.restore(stored, b"salt")
    assert [key.state for key in three.snapshot()] == ["cooldown", "ready", "ready"]
    assert [key.state for key in machine.process().snapshot()] == ["cooldown", "ready", "ready"]


def test_a_reload_with_other_keys_does_not_change_the_old_ones(machine):
    old = machine.process()
    ask(old, LIMITED)
    new = machine.process(("sk-another-key-dddd", *KEYS[1:]))
    assert [key.state for key in new.snapshot()] == ["ready"] * 3
    held = new.take("big")
    assert held.id == "k1"
    assert [key.state for key in old.snapshot()] == ["cooldown", "ready", "ready"]
    assert [key.in_flight for key in old.snapshot()] == [0, 0, 0]


def test_an_unfinished_write_is_not_visible(machine):
    one, two = machine.process(), machine.process()
    ask(one)
    backend = one.backend
    invalid = backend._area(backend._version + 1)
    backend._map[invalid : invalid + 100] = b"\xff" * 100  # killed before the version was increased
    assert [key.used_today for key in two.snapshot()] == [1, 0, 0]


def test_the_files_are_private_and_contain_no_key(machine):
    machine.process()
    modes = {path.stat().st_mode & 0o777 for path in machine.folder.iterdir()}
    assert (machine.folder.stat().st_mode & 0o777, modes) == (0o700, {0o600})
    assert KEYS[0].encode() not in (machine.folder / "table").read_bytes()


HAMMER = """
import json, sys
from pathlib import Path
from collections import Counter
from tests.keys.backends.test_shared_memory import *
pool = KeyPool(KEYS, backend=SharedMemoryBackend(Path(sys.argv[1])), provider="Test",
               clock=lambda: 500.0, wall=lambda: 1_700_000_500.0, jitter=lambda: 0.5)
print("there", flush=True)
sys.stdin.readline()
print(json.dumps(Counter(ask(pool) for _ in range(int(sys.argv[2])))), flush=True)
pool.take("big")
sys.stdin.readline()
"""


def test_concurrent_processes_lose_no_count(machine):
    pool = machine.process()
    command = [sys.executable, "-c", HAMMER, str(machine.folder), "400"]
    processes = [
        subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
        )
        for _ in range(3)
    ]
    for process in processes:
        assert process.stdout.readline() == "there\n"
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    counted = Counter()
    for process in processes:
        counted.update(json.loads(process.stdout.readline()))
    for process in processes:
        process.send_signal(signal.SIGKILL)
        process.communicate()
    assert sum(counted.values()) == 1200
    # The last lease of each process, just before the kill, may be counted too.
    used = {key.id: key.used_today for key in pool.snapshot()}
    assert 1200 <= sum(used.values()) <= 1203
    assert all(0 <= used[key_id] - count <= 3 for key_id, count in counted.items())
    pool.backend._reap_dead()
    assert [key.in_flight for key in pool.snapshot()] == [0, 0, 0]


# A suspended process that holds the lock.

STOPPED = """
import os, signal, sys
from pathlib import Path
from tests.keys.backends.test_shared_memory import *
pool = KeyPool(KEYS, backend=SharedMemoryBackend(Path(sys.argv[1])), provider="Test",
               clock=lambda: 500.0, wall=lambda: 1_700_000_500.0, jitter=lambda: 0.5)
def stop(state):
    print("locked", flush=True)
    os.kill(os.getpid(), signal.SIGSTOP)
pool.backend.run(stop)
print("continued", flush=True)
sys.stdin.readline()
"""


@pytest.fixture
def stopped(machine):
    """Return a suspended process that holds the lock of the shared pool."""
    process = subprocess.Popen(
        [sys.executable, "-c", STOPPED, str(machine.folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    assert process.stdout.readline() == "locked\n"
    yield process
    process.kill()
    process.communicate()


def test_a_stopped_process_does_not_stop_the_others(machine, monkeypatch, request):
    monkeypatch.setattr(shared_memory, "LOCK_TIMEOUT", 0.05)
    pool = machine.process()
    ask(pool)
    stopped = request.getfixturevalue("stopped")
    assert [ask(pool) for _ in range(6)] == ["k2", "k3", "k1"] * 2
    ask(pool, LIMITED)
    pool.disable("k3")
    assert pool.backend.is_detached
    [warning] = machine.warnings
    assert "is stuck" in warning

    stopped.send_signal(signal.SIGCONT)
    assert stopped.stdout.readline() == "continued\n"
    pool.backend._detached_until = 0.0  # the time limit has expired
    held = pool.take("big")
    other = machine.process()
    assert [key.state for key in other.snapshot()] == ["ready", "cooldown", "disabled"]
    assert sum(key.used_today for key in other.snapshot()) == 9
    assert sum(key.in_flight for key in other.snapshot()) == 1
    pool.release(held)
    assert sum(key.in_flight for key in other.snapshot()) == 0


# The return of a detached process.


def cooling(until):
    return Cooldown(cause=Cause.RATE_LIMIT, status=429, until=until, failures=1, since=0.0)


@pytest.mark.parametrize(
    ("own", "shared", "expected"),
    [
        pytest.param({"turn": 7}, {"turn": 9}, {"turn": 9}, id="the later turn"),
        pytest.param({"disabled": True}, {}, {"disabled": True}, id="disabled by either"),
        pytest.param({}, {"disabled": True}, {"disabled": True}, id="and by the other"),
        pytest.param(
            {"flights": {}}, {"flights": {1: 2, 5: 1}}, {"flights": {5: 1}}, id="leases that ended"
        ),
        pytest.param(
            {"flights": {1: 3}}, {"flights": {5: 1}}, {"flights": {1: 3, 5: 1}}, id="own leases"
        ),
        pytest.param(
            {"cooldowns": {"m": cooling(9.0)}},
            {"cooldowns": {"m": cooling(5.0)}},
            {"cooldowns": {"m": cooling(9.0)}},
            id="the longer cooldown",
        ),
        pytest.param(
            {"cooldowns": {"m": cooling(5.0)}},
            {"cooldowns": {"m": cooling(9.0)}},
            {"cooldowns": {"m": cooling(9.0)}},
            id="of either",
        ),
        pytest.param(
            {"day": 3, "used_today": 7},
            {"day": 3, "used_today": 9},
            {"day": 3, "used_today": 11},
            id="uses since it was detached are added",
        ),
        pytest.param(
            {"day": 4, "used_today": 2}, {"day": 3, "used_today": 9}, {"used_today": 2}, id="a day"
        ),
        pytest.param(
            {"day": 2, "used_today": 6},
            {"day": 3, "used_today": 1},
            {"used_today": 1},
            id="old",
        ),
    ],
)
def test_two_states_of_a_key_are_merged(own, shared, expected):
    into = PoolState(keys={"a": KeyState(**shared)})
    baseline = {"a": KeyBaseline(day=3, uses=5)}
    merge(PoolState(keys={"a": KeyState(**own)}), into, 1, baseline)
    assert {name: getattr(into.keys["a"], name) for name in expected} == expected


def test_a_key_that_only_one_process_has_is_kept():
    mine = KeyState(turn=4, flights={1: 1})
    into = PoolState(keys={"b": KeyState()})
    merge(PoolState(keys={"a": mine}), into, 1, {})
    assert into.keys["a"] == mine
    assert into.keys["a"].flights == {1: 1}


async def test_a_poll_reports_the_changes_of_others_only_while_attached(machine):
    one, two = machine.process(), machine.process()
    reported = []
    two.backend.on_remote_change = lambda: reported.append("changed")
    two.backend._reap_dead()
    assert reported == []
    ask(one, LIMITED)
    two.backend._detached_until = float("inf")
    two.backend._poll()
    assert reported == []
    two.backend._detached_until = 0.0
    two.backend._poll()
    assert reported == ["changed"]
    assert two.snapshot()[0].state == "cooldown"


@pytest.mark.parametrize("polls_per_reaping", [1, 1000])
async def test_a_change_that_was_already_read_is_reported(machine, monkeypatch, polls_per_reaping):
    """A request that waits for a key of another process learns of it only by this report."""
    monkeypatch.setattr(shared_memory, "POLLS_PER_REAPING", polls_per_reaping)
    one, two = machine.process(), machine.process()
    reported: list[str] = []
    two.backend.on_remote_change = lambda: reported.append("changed")
    ask(one)
    if polls_per_reaping > 1:
        two.snapshot()
    two.backend._poll()
    two.backend._poll()
    assert reported == ["changed"]


async def test_polling_continues_when_no_descriptor_is_free(machine, monkeypatch):
    """Otherwise requests would never learn that a key of another process is free again."""
    monkeypatch.setattr(shared_memory, "POLLS_PER_REAPING", 1)
    one, two = machine.process(), machine.process()
    reported = asyncio.Event()
    two.backend.on_remote_change = reported.set
    with exhausted():
        two.backend._poll()
    ask(one)
    await asyncio.wait_for(reported.wait(), 30)


def test_long_names_of_models_do_not_fill_the_memory(machine):
    pool = machine.process()
    for number in range(200):
        session = SessionRef(id=f"s{number}", name="s", tokens=MIN_CACHED)
        pool.release(pool.take("m" * 50_000 + str(number), session=session))
    assert ask(pool) == "k3"


def test_long_names_of_models_are_distinguished(machine):
    pool = machine.process(keys=KEYS[:2])
    names = ["m" * 50_000 + end for end in "ab"]
    lease = pool.take(names[0])
    pool.settle(lease, LIMITED)
    pool.release(lease)
    for name, count in zip(names, (1, 2), strict=True):
        leases = [pool.take(name) for _ in range(4)]
        assert len({one.id for one in leases}) == count
        for one in leases:
            pool.release(one)


def test_changes_of_a_process_are_preserved_while_the_lock_is_stuck(machine, monkeypatch, request):
    monkeypatch.setattr(shared_memory, "LOCK_TIMEOUT", 0.02)
    pool = machine.process()
    request.getfixturevalue("stopped")
    pool.disable("k3")
    pool.backend._detached_until = 0.0
    pool.disable("k2")
    assert [key.state for key in pool.snapshot()] == ["ready", "disabled", "disabled"]
    assert len(machine.warnings) == 2

"""One pool for several processes: turns, rests, counts and permits hold across them."""

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
from ccproxy.keys.shared_memory import SharedPool, Table
from ccproxy.keys.state import KeyLimits
from ccproxy.keys.verdict import GOOD, Effect, Next, Verdict
from ccproxy.worker.upstream.key_queue import Turns

KEYS = ("sk-first-key-aaaa", "sk-second-key-bbbb", "sk-third-key-cccc")
ROOT = Path(__file__).parent.parent.parent
LIMITED = Verdict(
    effect=Effect.REST,
    next=Next.OTHER_KEY,
    cause=Cause.RATE_LIMIT,
    status=429,
    seconds=100.0,
    per_model=True,
)


class Machine:
    """What processes on one machine have in common: the clocks and a folder."""

    def __init__(self, folder):
        self.folder = folder
        self.now = 500.0
        self.pools = []

    def process(self, keys=KEYS, limits=None):
        pool = SharedPool(
            keys,
            table=Table(self.folder),
            provider="Test",
            clock=lambda: self.now,
            wall=lambda: 1_700_000_000.0 + self.now,
            jitter=lambda: 0.5,
            limits=limits or KeyLimits(),
        )
        self.pools.append(pool)
        return pool

    def leaves(self, pool):
        """The end of a process, however it ends: the system closes its files."""
        self.pools.remove(pool)
        pool.close()


@pytest.fixture
def machine(tmp_path):
    machine = Machine(tmp_path / "kimi.pool")
    yield machine
    for pool in machine.pools:
        pool.close()


def ask(pool, verdict=GOOD):
    lease = pool.take("big")
    pool.settle(lease, verdict)
    pool.release(lease)
    return lease.id


def test_turns_are_taken_across_processes(machine):
    one, two = machine.process(), machine.process()
    assert [ask(pool) for pool in (one, one, two, one, two, two)] == ["k1", "k2", "k3"] * 2


def test_a_permit_that_is_out_counts_for_all(machine):
    one, two = machine.process(), machine.process()
    held = one.take("big")
    assert {ask(two) for _ in range(4)} == {"k2", "k3"}
    assert [key.in_flight for key in two.snapshot()] == [1, 0, 0]
    one.release(held)
    assert [key.in_flight for key in two.snapshot()] == [0, 0, 0]


def test_a_rest_is_seen_by_all_at_once_and_its_end_is_probed_by_one(machine):
    one, two = machine.process(), machine.process()
    ask(one, LIMITED)
    assert [key.state for key in two.snapshot()] == ["resting", "ready", "ready"]
    assert {ask(two) for _ in range(4)} == {"k2", "k3"}
    machine.now += 101
    probe = two.take("big")
    assert probe.id == "k1"
    assert {ask(one) for _ in range(4)} == {"k2", "k3"}
    two.settle(probe, GOOD)
    two.release(probe)
    assert [key.rests for key in one.snapshot()] == [(), (), ()]


def test_what_the_user_does_holds_for_all(machine):
    one, two = machine.process(), machine.process()
    one.disable("k2")
    assert [key.state for key in two.snapshot()] == ["ready", "disabled", "ready"]
    two.enable("k2")
    ask(one, LIMITED)
    two.reset()
    assert one.counts() == (3, 3)


def test_limits_count_what_all_use(machine):
    limits = KeyLimits(per_day=4, per_minute=4)
    one, two = machine.process(KEYS[:1], limits), machine.process(KEYS[:1], limits)
    for pool in (one, two, two, one):
        ask(pool)
    assert [pool.snapshot()[0].used_today for pool in (one, two)] == [4, 4]
    for pool in (one, two):
        with pytest.raises(Problem, match="per day"):
            pool.take("big")


def test_an_address_that_is_limited_is_so_for_all(machine):
    shared = Verdict(
        effect=Effect.REST,
        next=Next.OTHER_KEY,
        cause=Cause.RATE_LIMIT,
        status=429,
        per_model=True,
        maybe_shared=True,
    )
    one, two = machine.process(), machine.process()
    for pool in (one, two, one):
        ask(pool, shared)
    assert two.provider_rests_for is not None
    with pytest.raises(Problem, match="this address or account"):
        two.take("big")


async def test_a_permit_that_comes_back_elsewhere_wakes_who_waits(machine):
    limits = KeyLimits(in_flight=1)
    one, two = machine.process(KEYS[:1], limits), machine.process(KEYS[:1], limits)
    two.watch()
    held = one.take("big")
    waiting = asyncio.ensure_future(Turns(two).take("big"))
    await asyncio.sleep(0)
    one.release(held)
    async with asyncio.timeout(5):
        assert (await waiting).id == "k1"


async def test_who_is_gone_holds_nothing(machine):
    one, two = machine.process(), machine.process()
    ask(one, LIMITED)
    machine.now += 101
    assert one.take("big").id == "k2"
    assert one.take("big").id == "k3"
    assert one.take("big").id == "k1"  # a probe
    machine.leaves(one)
    assert [key.in_flight for key in two.snapshot()] == [1, 1, 1]
    two.watch()
    async with asyncio.timeout(5):
        while any(key.in_flight for key in two.snapshot()):
            await asyncio.sleep(0.01)
    assert {ask(two) for _ in range(3)} == {"k1", "k2", "k3"}


def test_who_takes_the_place_of_a_dead_one_inherits_nothing(machine):
    one, _two = machine.process(), machine.process()
    one.take("big")
    machine.leaves(one)
    assert [key.in_flight for key in machine.process().snapshot()] == [0, 0, 0]


def test_the_first_one_restores_and_the_lowest_place_keeps(machine):
    one = machine.process()
    ask(one, LIMITED)
    kept = one.export(b"salt")
    two = machine.process()
    assert (one.is_kept_here, two.is_kept_here) == (True, False)
    one.reset()
    two.restore(kept, b"salt")  # the second: what lives is truer than what was kept
    assert [key.state for key in two.snapshot()] == ["ready"] * 3
    machine.leaves(one)
    assert two.is_kept_here
    machine.leaves(two)
    three = machine.process()
    assert [key.used_today for key in three.snapshot()] == [0, 0, 0]
    three.restore(kept, b"salt")
    assert [key.state for key in three.snapshot()] == ["resting", "ready", "ready"]
    assert [key.state for key in machine.process().snapshot()] == ["resting", "ready", "ready"]


def test_a_reload_with_other_keys_leaves_the_old_ones_alone(machine):
    old = machine.process()
    ask(old, LIMITED)
    new = machine.process(("sk-another-key-dddd", *KEYS[1:]))
    assert [key.state for key in new.snapshot()] == ["ready"] * 3
    held = new.take("big")
    assert held.id == "k1"
    assert [key.state for key in old.snapshot()] == ["resting", "ready", "ready"]
    assert [key.in_flight for key in old.snapshot()] == [0, 0, 0]


def test_a_write_that_was_cut_short_is_not_there(machine):
    one, two = machine.process(), machine.process()
    ask(one)
    table = one._table
    spoilt = table._area(table.version + 1)
    table._map[spoilt : spoilt + 100] = b"\xff" * 100  # killed before the version was counted up
    assert [key.used_today for key in two.snapshot()] == [1, 0, 0]


def test_only_the_owner_may_read_it(machine):
    machine.process()
    modes = {path.stat().st_mode & 0o777 for path in machine.folder.iterdir()}
    assert (machine.folder.stat().st_mode & 0o777, modes) == (0o700, {0o600})
    assert KEYS[0].encode() not in (machine.folder / "table").read_bytes()


HAMMER = """
import json, sys
from pathlib import Path
from collections import Counter
from tests.keys.test_shared_memory import *
pool = SharedPool(KEYS, table=Table(Path(sys.argv[1])), provider="Test", clock=lambda: 500.0,
                  wall=lambda: 1_700_000_500.0, jitter=lambda: 0.5)
print("there", flush=True)
sys.stdin.readline()
print(json.dumps(Counter(ask(pool) for _ in range(int(sys.argv[2])))), flush=True)
pool.take("big")
sys.stdin.readline()
"""


def test_real_processes_at_once_lose_no_count(machine):
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
    # The permit that each takes last, just before it is killed, may be counted as well.
    used = {key.id: key.used_today for key in pool.snapshot()}
    assert 1200 <= sum(used.values()) <= 1203
    assert all(0 <= used[key_id] - count <= 3 for key_id, count in counted.items())
    pool._call_the_roll()
    assert [key.in_flight for key in pool.snapshot()] == [0, 0, 0]

"""Requests of several processes that wait for the same keys are served in order of arrival."""

from __future__ import annotations

from itertools import count

import pytest

from ccproxy.errors import Problem
from ccproxy.keys.backends.backend import PLACE_SECONDS, LocalBackend
from ccproxy.keys.key_state import KeyLimits
from ccproxy.keys.pool import KeyPool

KEYS = ("sk-first-key-aaaa", "sk-second-key-bbbb")
_NUMBERS = count(1)


class Process:
    """One process with a pool; all processes share the clock and the state."""

    now = 500.0

    def __init__(self, other=None, *, limit=1, keys=KEYS[:1]):
        self.backend = LocalBackend()
        self.backend.process = next(_NUMBERS)
        if other is not None:
            self.backend._state = other.backend._state
        self.pool = KeyPool(
            keys,
            provider="Kimi",
            clock=lambda: Process.now,
            wall=lambda: Process.now,
            jitter=lambda: 0.5,
            limits=KeyLimits(in_flight=limit),
            backend=self.backend,
        )

    def ask(self, *skip):
        Process.now += 0.001
        take = self.pool.take_in_line
        return self.backend.run(lambda state: take(state, "m", skip, None))


@pytest.fixture
def two():
    first = Process()
    return first, Process(first)


def test_without_a_limit_no_request_waits():
    assert all(Process(limit=None).ask() for _ in range(3))


def test_the_process_that_has_waited_longest_gets_the_key(two):
    busy, quiet = two
    lease = busy.ask()
    assert quiet.ask() is None
    busy.pool.release(lease)
    assert busy.ask() is None
    assert quiet.ask() is not None


def test_a_process_goes_to_the_end_of_the_line_with_each_lease(two):
    busy, quiet = two
    lease = busy.ask()
    assert (quiet.ask(), busy.ask()) == (None, None)
    busy.pool.release(lease)
    served = quiet.ask()
    assert quiet.ask() is None
    quiet.pool.release(served)
    assert quiet.ask() is None
    assert busy.ask() is not None


def test_with_enough_free_keys_newcomers_pass(two):
    first = Process(limit=2)
    second = Process(first, limit=2)
    leases = [first.ask(), first.ask()]
    assert second.ask() is None
    for lease in leases:
        first.pool.release(lease)
    assert first.ask() is not None


def test_a_process_that_stops_polling_loses_its_place(two):
    busy, quiet = two
    lease = busy.ask()
    assert quiet.ask() is None
    busy.pool.release(lease)
    Process.now += PLACE_SECONDS
    assert busy.ask() is not None


def test_a_place_applies_only_to_the_requested_keys():
    first = Process(keys=KEYS)
    second = Process(first, keys=KEYS)
    leases = [first.ask(), first.ask()]
    assert second.ask("k1") is None
    first.pool.release(leases[0])
    assert first.ask("k2") is not None


def test_a_refusal_ends_the_wait(two):
    busy, quiet = two
    busy.ask()
    assert quiet.ask() is None
    quiet.pool.disable("k1")
    with pytest.raises(Problem):
        quiet.ask()
    assert quiet.backend.process not in quiet.backend._state.line


def test_an_exited_process_loses_its_place(two):
    busy, quiet = two
    busy.ask()
    quiet.ask()
    state = busy.backend._state
    assert state.processes() == {busy.backend.process, quiet.backend.process}
    assert state.without_processes({quiet.backend.process}).line == {}


def test_a_process_without_a_share_of_the_minute_must_wait():
    process = Process(limit=None)
    pool = process.pool
    assert pool.has_one_key
    pool._limits = KeyLimits(per_minute=1)
    name = pool._keys[0].name
    process.backend._state.shares = {name: KeyLimits(per_minute=0)}
    with pytest.raises(Problem, match="per minute"):
        pool.take("m")

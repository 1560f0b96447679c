"""
The state of a key pool, and the back end that keeps it.

A pool holds no state of its own: each of its methods is one operation on a `PoolState` that a back
end provides. `LocalBackend` keeps it in the process, `shared_memory.SharedMemoryBackend` in memory
that several processes share, and the worker's `RedisBackend` in a Redis that several hosts share.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Set
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

from ccproxy.keys.cooldown import Probe
from ccproxy.keys.key_state import KeyLimits, KeyState
from ccproxy.keys.sessions import SessionTable

T = TypeVar("T")

WHOLE_ACCOUNT = ""
PLACE_SECONDS = 1.0
"""How long a process keeps its place in the line without renewing it."""


@dataclass(slots=True, kw_only=True)
class AccountLimit:
    """A rate limit of the account or address, for every key, and for one model or all."""

    until: float
    """When the limit may be probed, in monotonic time."""
    probe: Probe | None = None
    """The request that tests whether the limit is over."""


def seconds_left(limit: AccountLimit | None, now: float) -> float | None:
    """Return the seconds until *limit* may be probed, or None if it may be probed now."""
    if limit is None or (limit.until <= now and limit.probe is None):
        return None
    return max(1.0, limit.until - now)


@dataclass(slots=True, kw_only=True)
class LinePlace:
    """A process's place in the line of processes that wait for a request in flight to end."""

    since: float
    until: float
    """When the place is lost unless the process renews it."""
    keys: tuple[str, ...]
    """The names of the acceptable keys."""


@dataclass(slots=True, kw_only=True)
class PoolState:
    """The state of a pool; keys are stored under salted names, which do not reveal the keys."""

    salt: bytes = b""
    keys: dict[str, KeyState] = field(default_factory=dict)
    """By salted name; includes the keys of processes with a different configuration."""
    turn: int = 0
    share: float = 0.0
    """`KeyState.share` of the last leased key, before it was leased."""
    sessions: SessionTable = field(default_factory=SessionTable)
    last_success: dict[str, float] = field(default_factory=dict)
    """When a request last succeeded, by model."""
    recent_limits: list[tuple[str, str, float]] = field(default_factory=list)
    """Key name, model and time of the last rate limits that might apply to the whole account."""
    account_limits: dict[str, AccountLimit] = field(default_factory=dict)
    """The limits in effect, by model or `WHOLE_ACCOUNT`."""
    line: dict[int, LinePlace] = field(default_factory=dict)
    """The processes with waiting requests; only used if several hosts share the state."""
    shares: dict[str, KeyLimits] = field(default_factory=dict)
    """The limits of the keys, by name, while this process is cut off from the others."""
    known_uses: dict[str, int] = field(default_factory=dict)
    """Each key's number of uses that day, as known when a lost state was rebuilt."""

    def without_processes(self, pids: Collection[int]) -> PoolState:
        """Remove the leases and probes of the processes *pids*; return the same state."""
        for key in self.keys.values():
            key.flights = {who: count for who, count in key.flights.items() if who not in pids}
            for cooldown in key.cooldowns.values():
                if cooldown.probe is not None and cooldown.probe[0] in pids:
                    cooldown.probe = None
        for limit in self.account_limits.values():
            if limit.probe is not None and limit.probe[0] in pids:
                limit.probe = None
        for pid in pids:
            self.line.pop(pid, None)
        return self

    def processes(self) -> set[int]:
        """Return the processes that hold leases or probes."""
        holders = {who for key in self.keys.values() for who, count in key.flights.items() if count}
        probes = [
            *(cooldown.probe for key in self.keys.values() for cooldown in key.cooldowns.values()),
            *(limit.probe for limit in self.account_limits.values()),
        ]
        return holders | {probe[0] for probe in probes if probe is not None} | {*self.line}

    def is_limited(self, model: str, now: float) -> bool:
        """Return True if there is a limit for *model* or all models, or any active limit."""
        return any(
            name in (model, WHOLE_ACCOUNT) or limit.until > now
            for name, limit in self.account_limits.items()
        )

    def end_probe(self, names: Iterable[str], probe: Probe) -> None:
        """Allow another request to probe these account limits, if *probe* is their latest probe."""
        for name in names:
            limit = self.account_limits.get(name)
            if limit is not None and limit.probe == probe:
                limit.probe = None

    def wait_in_line(self, process: int, keys: Iterable[str], now: float) -> None:
        """Add *process* to the end of the line, or renew its place."""
        entry = self.line.get(process)
        since = now if entry is None or entry.until < now else entry.since
        self.line[process] = LinePlace(since=since, until=now + PLACE_SECONDS, keys=tuple(keys))

    def count_ahead(self, process: int, keys: Set[str], now: float) -> int:
        """Return how many processes have waited for one of *keys* longer than *process*."""
        own = self.line.get(process)
        since = own.since if own is not None else now
        return sum(
            other != process
            and entry.until >= now
            and entry.since < since
            and not keys.isdisjoint(entry.keys)
            for other, entry in self.line.items()
        )

    def seconds_since_success(self, model: str, now: float) -> float:
        """Return the seconds since a request for *model* last succeeded."""
        return now - self.last_success.get(model, -math.inf)


class PoolBackend(Protocol):
    """Keeps the state of a pool."""

    process: int
    """The number of this process among those that share the state."""
    on_remote_change: Callable[[], None]
    """Called after another process has changed the state, for example by releasing a lease."""

    @property
    def is_first(self) -> bool:
        """True if no other process was using the state, so that it may be restored from disk."""

    @property
    def is_writer(self) -> bool:
        """True if this process saves the state to disk."""

    def reading(self) -> AbstractContextManager[PoolState]:
        """Return the current state; the caller must not change it."""

    def run(self, operation: Callable[[PoolState], T], *, may_wait: bool = False) -> T:
        """
        Apply *operation* with exclusive access to the state, and return its result.

        A back end may apply *operation* again to a newer state. If *operation* raises, the state is
        unchanged. With *may_wait*, the other processes need not see the change at once.
        """


class LocalBackend:
    """Keeps the state in the process, for a single event loop and without locks."""

    process = 0
    is_first = True
    is_writer = True

    def __init__(self) -> None:
        self._state = PoolState()
        self.on_remote_change: Callable[[], None] = lambda: None

    def reading(self) -> AbstractContextManager[PoolState]:
        """Return the state."""
        return self

    def run(self, operation: Callable[[PoolState], T], *, may_wait: bool = False) -> T:
        """Apply *operation* to the state."""
        del may_wait
        return operation(self._state)

    def __enter__(self) -> PoolState:
        return self._state

    def __exit__(self, *error: object) -> None:
        """Do nothing, because there is nothing to publish."""

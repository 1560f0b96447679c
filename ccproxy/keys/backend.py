"""
The state of a key pool, and where it is kept.

A pool holds no state of its own: each of its methods is one transaction on a `PoolState` that a
back end provides. `LocalBackend` keeps it in the process, `shared_memory.SharedMemoryBackend` in
memory that several processes share.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Protocol

from ccproxy.keys.key_state import KeyState, Probe
from ccproxy.keys.sessions import SessionTable

WHOLE_ACCOUNT = ""


@dataclass(slots=True, kw_only=True)
class AccountLimit:
    """A rate limit of the account or address for every key; for one model or for all."""

    until: float
    """Monotonic."""
    probe: Probe | None = None
    """The request that tests whether the limit is over."""


@dataclass(slots=True, kw_only=True)
class PoolState:
    """The state of a pool; keys have salted names from which they cannot be read."""

    salt: bytes = b""
    keys: dict[str, KeyState] = field(default_factory=dict)
    """By salted name; includes the keys of other processes with another configuration."""
    turn: int = 0
    share: float = 0.0
    """`KeyState.share` of the key that was taken last, before that use."""
    sessions: SessionTable = field(default_factory=SessionTable)
    last_success: dict[str, float] = field(default_factory=dict)
    """By model."""
    recent_limits: list[tuple[str, str, float]] = field(default_factory=list)
    """Name of the key, model and time of the last limits that may be the account's."""
    account_limits: dict[str, AccountLimit] = field(default_factory=dict)
    """By model, or `WHOLE_ACCOUNT`."""

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
        return self

    def processes(self) -> set[int]:
        """Return the processes that hold leases or probes."""
        holders = {who for key in self.keys.values() for who, count in key.flights.items() if count}
        probes = [
            *(cooldown.probe for key in self.keys.values() for cooldown in key.cooldowns.values()),
            *(limit.probe for limit in self.account_limits.values()),
        ]
        return holders | {probe[0] for probe in probes if probe is not None}

    def seconds_since_success(self, model: str, now: float) -> float:
        """Return the seconds since a request for *model* last succeeded."""
        return now - self.last_success.get(model, -math.inf)


class PoolBackend(Protocol):
    """Keeps the state of a pool."""

    process: int
    """The number of this process among those that share the state."""
    on_remote_change: Callable[[], None]
    """Called after another process changed the state, for example returned a lease."""

    @property
    def is_first(self) -> bool:
        """True if no other process had the state before: it may be restored from disk."""

    @property
    def is_writer(self) -> bool:
        """True if this process is the one that saves the state to disk."""

    def transaction(self, *, changes: bool = True) -> AbstractContextManager[PoolState]:
        """
        Return the current state, for this process alone until the context ends.

        With *changes*, the state is published when the context ends without an exception.
        """


class LocalBackend:
    """Keeps the state in the process: one event loop, no locks."""

    process = 0
    is_first = True
    is_writer = True

    def __init__(self) -> None:
        self._state = PoolState()
        self.on_remote_change: Callable[[], None] = lambda: None

    def transaction(self, *, changes: bool = True) -> AbstractContextManager[PoolState]:
        """Return the state."""
        del changes
        return self

    def __enter__(self) -> PoolState:
        return self._state

    def __exit__(self, *error: object) -> None:
        """Nothing to publish."""

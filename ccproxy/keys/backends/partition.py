"""
The limits of a process that is cut off from the shared state, and the later merge of its changes.

Processes that are cut off at the same time cannot count together. So each of them uses its share of
what is left of every limit, and the sum of all shares is at most the limit. Afterwards `merge` adds
the changes of a process's own copy to the shared state.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from ccproxy.keys.backends.backend import AccountLimit, PoolState
from ccproxy.keys.key_state import DAY, MINUTE, KeyLimits, KeyState

HANDOVER_SECONDS = 0.5
"""How long a process that was cut off assumes that the other processes keep their leases."""


class KeyBaseline(NamedTuple):
    """The shared state of a key before a process used its own copy."""

    day: int = 0
    uses: int = 0
    """The number of uses on that day."""
    disabled: bool = False


Baseline = dict[str, KeyBaseline]
"""The baselines of the keys, by salted name."""


def share_of(limit: int, replicas: int, rank: int) -> int:
    """Return one replica's share of *limit*; the remainder goes to the first replicas."""
    share, rest = divmod(limit, replicas)
    return share + (rank % replicas < rest)


def baseline_of(state: PoolState) -> Baseline:
    """Return the baseline of *state* for a later comparison."""
    return {
        name: KeyBaseline(key.day, key.used_today, key.disabled) for name, key in state.keys.items()
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Partition:
    """The shares of one process, and the shared state when it lost contact."""

    at: float
    """When contact was lost, by the pool's clock, which is a wall clock if the state is shared."""
    replicas: int
    rank: int | None
    """The position of this process among the replicas; None if it has never had contact."""
    baseline: Baseline
    leases: Mapping[str, int]
    """The leases of all processes by key."""
    own_leases: Mapping[str, int]
    """How many of these leases the other processes are certain to attribute to this process."""
    own_starts: Mapping[str, int]
    """The number of requests that this process started in the last minute, by key."""
    foreign_starts: Mapping[str, Sequence[float]]
    """The start times of the other processes' requests, by key, in ascending order."""

    def limits(self, limits: KeyLimits, now: float) -> dict[str, KeyLimits]:
        """Return the limits of every key for this process."""
        names = sorted(self.baseline)
        in_flight = self._in_flight(limits.in_flight, names, now)
        return {
            name: KeyLimits(
                in_flight=in_flight[index],
                per_minute=self._per_minute(name, limits.per_minute, index, now),
                per_day=self._per_day(name, limits.per_day, index, now),
            )
            for index, name in enumerate(names)
        }

    def _in_flight(
        self, limit: int | None, names: Sequence[str], now: float
    ) -> Sequence[int | None]:
        """
        Return the limits of requests in flight.

        At first, a limit is this process's leases plus its share of the free ones, rounded down:
        the other processes might not have noticed a short interruption, and might lease the free
        keys too. If that leaves no lease at all, the process may lease one key that was not in use.
        """
        if limit is None:
            return [None] * len(names)
        is_recent = now - self.at < HANDOVER_SECONDS
        leases, own = (self.leases, self.own_leases) if is_recent else ({}, {})
        free = [max(0, limit - leases.get(name, 0)) for name in names]
        in_flight = [
            own.get(name, 0) + (count // self.replicas if is_recent else self._share(count, index))
            for index, (name, count) in enumerate(zip(names, free, strict=True))
        ]
        usable = [index for index, name in enumerate(names) if not leases.get(name)]
        if usable and not any(in_flight):
            # With more processes than permitted requests, each may still have one in flight.
            in_flight[usable[(self.rank or 0) % len(usable)]] = 1
        return in_flight

    def _share(self, limit: int, index: int) -> int:
        """Return this process's share of *limit*; the remainder rotates from key to key."""
        if self.rank is None:
            return limit // self.replicas
        return share_of(limit, self.replicas, self.rank + index)

    def _per_minute(self, name: str, limit: int | None, index: int, now: float) -> int | None:
        if limit is None:
            return None
        if now - self.at >= MINUTE:
            return self._share(limit, index)
        # The other processes' starts remain in the key's list until they are a minute old.
        foreign, own = self.foreign_starts.get(name, ()), self.own_starts.get(name, 0)
        counted = len(foreign) - bisect_right(foreign, now - MINUTE)
        remaining = max(0, limit - own - len(foreign))
        return counted + own + self._share(remaining, index)

    def _per_day(self, name: str, limit: int | None, index: int, now: float) -> int | None:
        if limit is None:
            return None
        today = int(now // DAY)
        day, count, _ = self.baseline[name]
        used = count if day == today else 0
        if int(self.at // DAY) != today:
            return self._share(limit, index)
        return used + self._share(max(0, limit - used), index)


def merge(
    own: PoolState,
    shared: PoolState,
    process: int,
    baseline: Baseline,
    *,
    is_rebuilt: bool = False,
) -> None:
    """
    Add to *shared* the changes that this process made to its *own* copy, which stays unchanged.

    *baseline* is the earlier shared state. If *is_rebuilt*, that state was lost, and *shared* is
    what other processes have reported since; this process then also reports the uses in *baseline*,
    unless another one already has.
    """
    for name, mine in own.keys.items():
        before = baseline.get(name, KeyBaseline())
        is_missing = name not in shared.keys
        key = shared.keys.setdefault(name, KeyState())
        if is_missing:
            before = KeyBaseline()
            key.account = mine.account
        elif is_rebuilt:
            known_uses = min(before.uses, shared.known_uses.get(name, 0))
            before = KeyBaseline(before.day, known_uses, disabled=False)
        if is_rebuilt:
            most = max(baseline.get(name, KeyBaseline()).uses, shared.known_uses.get(name, 0))
            shared.known_uses[name] = most
        _merge_key(mine, key, process, before)
    shared.turn = max(shared.turn, own.turn)
    shared.share = max(shared.share, own.share)
    for model, limit in own.account_limits.items():
        other = shared.account_limits.get(model)
        if other is None or other.until < limit.until:
            shared.account_limits[model] = AccountLimit(until=limit.until)
    for model, at in own.last_success.items():
        shared.last_success[model] = max(at, shared.last_success.get(model, 0.0))
    shared.sessions.add_missing(own.sessions)


def _merge_key(mine: KeyState, key: KeyState, process: int, before: KeyBaseline) -> None:
    key.flights.pop(process, None)
    if count := mine.flights.get(process):
        key.flights[process] = count
    key.turn = max(key.turn, mine.turn)
    key.share = max(key.share, mine.share)
    if mine.disabled != before.disabled:
        key.disabled = mine.disabled
    if mine.day >= key.day:
        new = mine.used_today - (before.uses if before.day == mine.day else 0)
        key.used_today = new + (key.used_today if mine.day == key.day else 0)
        key.day = mine.day
    # The clock never returns the same time twice, so equal start times belong to the same use.
    key.minute = sorted({*key.minute, *mine.minute})
    key.last_error = max(key.last_error, mine.last_error)
    for model, cooldown in mine.cooldowns.items():
        other = key.cooldowns.get(model)
        if other is None or other.until < cooldown.until:
            key.cooldowns[model] = replace(cooldown)

"""
The key pool: whose turn it is, and what is said when it is nobody's.

Theory of operation: `take` gives the ready key with the least requests in flight, among equals the
one that was unused for longest, which is plain rotation when requests come one by one. The caller
sends the request, has the answer judged, and tells the verdict with `settle`; when the answer is
over it gives the permit back with `release`. No locks: one event loop, and no method awaits.

* A pool of one key never rests it: its refusals are the client's to see.
* A rested key comes back by itself, for one request at a time until one succeeds.
* Rate limits on three keys in a row that name no limit of a key are about the address or the
  account: then the provider rests, no key is blamed, and one request at a time may probe.
"""

from __future__ import annotations

import hashlib
import hmac
import math
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ccproxy.convert.errors.causes import Cause
from ccproxy.errors import Problem
from ccproxy.keys.display import TIMED, KeyShown, describe, limited, quoted, show, shown
from ccproxy.keys.state import (
    LONGEST_REST,
    NOTHING,
    KeyLimits,
    KeyLive,
    KeyState,
    Obstacle,
    Probe,
)
from ccproxy.keys.verdict import Effect, Verdict

SHARED_AFTER = 3
"""So many keys must be limited in a row before the provider rests."""
SHARED_WITHIN = 2.0
"""At most so many seconds between one and the next."""
SHARED_WITHOUT_SUCCESS = 10.0
PROBE_EVERY = 5.0

NO_LIMITS = KeyLimits()


@dataclass(slots=True, kw_only=True, eq=False)
class Lease:
    """The permit to use one key for one attempt."""

    secret: str = field(repr=False)
    id: str
    shown: str
    """The key as it may be shown: `…last4`."""
    model: str
    turn: Probe = (0, 0)
    probed: tuple[str, ...] = ()
    probes_provider: bool = False
    tests: bool = False
    """Whether the user wants to know how this very key is, whatever is known about it."""
    settled: bool = False
    released: bool = False


@dataclass(slots=True, kw_only=True)
class PoolLive:
    """What processes that share a pool must know at once; keys go by salted names."""

    salt: bytes
    keys: dict[str, KeyLive] = field(default_factory=dict)
    turn: int = 0
    last_success: float = -math.inf
    limited: list[tuple[str, str, float]] = field(default_factory=list)
    provider_rests_until: float | None = None
    provider_probed_by: Probe | None = None

    def without(self, gone: Collection[int]) -> PoolLive:
        """Return the same without the permits and probes of processes that are gone."""
        for key in self.keys.values():
            key.flights = {who: count for who, count in key.flights.items() if who not in gone}
            for rest in key.rests.values():
                if rest.probed_by is not None and rest.probed_by[0] in gone:
                    rest.probed_by = None
        probe = self.provider_probed_by
        if probe is not None and probe[0] in gone:
            self.provider_probed_by = None
        return self


class KeyPool:
    """Hands out keys in turn; a key that the provider refused rests first."""

    def __init__(
        self,
        keys: Iterable[str],
        *,
        provider: str,
        clock: Callable[[], float],
        wall: Callable[[], float],
        jitter: Callable[[], float],
        limits: KeyLimits = NO_LIMITS,
        command: str = "",
    ) -> None:
        self._keys = [
            KeyState(secret=key, id=f"k{number}", tail=shown(key), limits=limits)
            for number, key in enumerate(dict.fromkeys(keys), start=1)
        ]
        self._by_id = {key.id: key for key in self._keys}
        self._provider = provider
        self._command = command  # what shows the user these keys, if anything does
        self._clock = clock
        self._wall = wall
        self._jitter = jitter
        self._me = 0
        self._salt = b""
        self._names: dict[str, str] = {}
        self._turn = 0
        self._last_success = -math.inf
        self._limited: list[tuple[str, str, float]] = []
        self._provider_rests_until: float | None = None
        self._provider_probed_by: Probe | None = None
        self.on_change: Callable[[], None] = _nobody_cares
        """Called whenever there is something new to keep on disk."""
        self.on_permit: Callable[[], None] = _nobody_cares
        """Called when a permit may have come back in another process."""

    def __len__(self) -> int:
        return len(self._keys)

    @property
    def is_alone(self) -> bool:
        """Whether there is no other key to go to."""
        return sum(not key.disabled for key in self._keys) <= 1

    # The way of an attempt...

    def take(self, model: str, *, skip: Collection[str] = ()) -> Lease:
        """
        Return the key whose turn it is; *skip* names keys that this request has tried.

        Raises:
            Problem: If there is none, with the truth about why and for how long.

        """
        now, wall = self._clock(), self._wall()
        probes_provider = self._pass_provider(now)
        alone = self.is_alone
        ready = [
            key
            for key in self._keys
            if key.id not in skip and key.obstacle(model, now=now, wall=wall, alone=alone) is None
        ]
        if not ready:
            raise self.refusal(model, skip=skip)
        key = min(ready, key=lambda key: (key.in_flight, key.turn))
        self._turn += 1
        key.turn = self._turn
        turn = (self._me, self._turn)
        if probes_provider:
            self._provider_probed_by = turn
        self.on_change()
        return Lease(
            secret=key.secret,
            id=key.id,
            shown=key.tail,
            model=model,
            turn=turn,
            probed=key.start(model, now=now, wall=wall, probe=turn),
            probes_provider=probes_provider,
        )

    def take_this(self, key_id: str, model: str) -> Lease:
        """Return the key *key_id*, also one that rests or is disabled; KeyError if unknown."""
        key = self._by_id[key_id]
        self._turn += 1
        turn = (self._me, self._turn)
        probed = key.start(model, now=self._clock(), wall=self._wall(), probe=turn)
        return Lease(
            secret=key.secret,
            id=key.id,
            shown=key.tail,
            model=model,
            turn=turn,
            probed=probed,
            tests=True,
        )

    def is_full(self, model: str, *, skip: Collection[str] = ()) -> bool:
        """Tell whether only the limits on requests in flight stand in the way: wait, then."""
        obstacles = [self._obstacle(key, model) for key in self._keys if key.id not in skip]
        whys = {found.why if found else "" for found in obstacles}
        return "in_flight" in whys and "" not in whys

    def settle(self, lease: Lease, verdict: Verdict) -> None:
        """Draw the consequences of an answer for the key; the permit stays out."""
        lease.settled = True
        key = self._by_id[lease.id]
        now = self._clock()
        shared = self._is_shared(lease, verdict, now)
        self._end_probe(lease)
        if verdict.effect is Effect.GOOD:
            self._last_success = now
            self._provider_rests_until = None
            key.succeeded(lease.model, now=now, alone=self.is_alone or lease.tests)
        elif shared:
            self._rest_provider(verdict, now)
        elif verdict.effect is not Effect.NONE:
            wall, jitter = self._wall(), self._jitter()
            key.refused(lease.model, verdict, now=now, wall=wall, jitter=jitter)
        self.on_change()

    def release(self, lease: Lease) -> None:
        """Give the permit back; a second time does nothing."""
        if lease.released:
            return
        lease.released = True
        self._by_id[lease.id].in_flight -= 1
        if not lease.settled:
            self._end_probe(lease)

    # ...and when there is no key for it.

    def refusal(self, model: str, *, skip: Collection[str] = (), last: str = "") -> Problem:
        """Say why no key can be taken; *last* is what the provider said to this request."""
        found = [key for key in (self._obstacle(key, model) for key in self._keys) if key]
        waits = [obstacle.seconds for obstacle in found if obstacle.why in TIMED]
        if (resting := self._provider_wait()) is not None:
            text = f"{self._provider} limits this address or account, whatever the key"
            again = f"it is asked again in {math.ceil(resting)} s"
            return limited(f"{text}; {again}.{quoted(last)}", resting)
        said = quoted(last or max((one.said for one in found), default=NOTHING).text)
        text = describe(self._provider, len(self._keys), found, command=self._command)
        if waits:
            return limited(f"{text}.{said}", min(waits))
        whys = {obstacle.why for obstacle in found}
        kind = "billing_error" if Cause.OUT_OF_CREDIT.value in whys else "authentication_error"
        if skip and not found:
            text = f"{self._provider} refused this request with every key that could be tried"
        return Problem(kind, f"{text}.{said}", should_retry=False)

    def _obstacle(self, key: KeyState, model: str) -> Obstacle | None:
        now, wall = self._clock(), self._wall()
        return key.obstacle(model, now=now, wall=wall, alone=self.is_alone)

    # A limit that is not about a key.

    def _pass_provider(self, now: float) -> bool:
        """Return whether this request probes the resting provider; raise if it may not."""
        until = self._provider_rests_until
        if until is None:
            return False
        if until > now or self._provider_probed_by is not None:
            raise self.refusal("")
        return True

    def _provider_wait(self) -> float | None:
        until = self._provider_rests_until
        if until is None or (until <= self._clock() and self._provider_probed_by is None):
            return None
        return max(1.0, until - self._clock())

    def _is_shared(self, lease: Lease, verdict: Verdict, now: float) -> bool:
        """Tell whether this limit is about the address or account, by the keys limited before."""
        if not verdict.maybe_shared or self.is_alone:
            return False
        if self._provider_rests_until is not None:
            return True
        if self._limited and now - self._limited[-1][2] > SHARED_WITHIN:
            self._limited.clear()
        self._limited = [entry for entry in self._limited if entry[0] != lease.id]
        self._limited.append((lease.id, lease.model, now))
        long_ago = now - self._last_success >= SHARED_WITHOUT_SUCCESS
        return len(self._limited) >= SHARED_AFTER and long_ago

    def _rest_provider(self, verdict: Verdict, now: float) -> None:
        seconds = PROBE_EVERY if verdict.seconds is None else min(verdict.seconds, LONGEST_REST)
        self._provider_rests_until = max(self._provider_rests_until or 0.0, now + seconds)
        for key_id, model, _ in self._limited:
            self._by_id[key_id].forgive(model)
        self._limited.clear()

    def _end_probe(self, lease: Lease) -> None:
        self._by_id[lease.id].end_probe(lease.probed, lease.turn)
        if lease.probes_provider and self._provider_probed_by == lease.turn:
            self._provider_probed_by = None

    # For the user.

    def snapshot(self) -> tuple[KeyShown, ...]:
        """Show every key, without the key."""
        now, wall = self._clock(), self._wall()
        return tuple(show(key, now=now, wall=wall) for key in self._keys)

    def counts(self) -> tuple[int, int]:
        """Return how many keys are ready for every model, and how many there are."""
        return sum(key.state == "ready" for key in self.snapshot()), len(self._keys)

    @property
    def provider_rests_for(self) -> float | None:
        """Seconds until a provider that limits the address is asked again, None if it is not."""
        return self._provider_wait()

    def disable(self, key_id: str) -> None:
        """Use a key no more until it is enabled; KeyError if there is none of that id."""
        self._by_id[key_id].disabled = True
        self.on_change()

    def enable(self, key_id: str) -> None:
        """Use a key again and forget why it rested."""
        key = self._by_id[key_id]
        key.disabled = False
        key.rests.clear()
        self.on_change()

    def reset(self, key_id: str | None = None) -> None:
        """Forget every rest of one key, or of all keys and the provider; KeyError as above."""
        if key_id is not None:
            self._by_id[key_id].rests.clear()
            self.on_change()
            return
        for key in self._keys:
            key.rests.clear()
        self._limited.clear()
        self._provider_rests_until = None
        self.on_change()

    # For other processes that share it.

    def live(self, there: PoolLive) -> PoolLive:
        """Return all that others must know; keys that are only *there* stay as they are."""
        names = self._names_by(there.salt)
        ours = {names[key.id]: key.live(self._me) for key in self._keys}
        return PoolLive(
            salt=there.salt,
            keys={**there.keys, **ours},
            turn=self._turn,
            last_success=self._last_success,
            limited=[(names[key_id], model, at) for key_id, model, at in self._limited],
            provider_rests_until=self._provider_rests_until,
            provider_probed_by=self._provider_probed_by,
        )

    def revive(self, live: PoolLive) -> None:
        """Take over what `live` returned, here or in another process."""
        ids = {name: key_id for key_id, name in self._names_by(live.salt).items()}
        for name, key_id in ids.items():
            if name in live.keys:
                self._by_id[key_id].revive(live.keys[name], self._me)
        self._turn, self._last_success = live.turn, live.last_success
        self._limited = [(ids[name], model, at) for name, model, at in live.limited if name in ids]
        self._provider_rests_until = live.provider_rests_until
        self._provider_probed_by = live.provider_probed_by

    def _names_by(self, salt: bytes) -> dict[str, str]:
        if salt != self._salt:
            self._salt = salt
            self._names = {key.id: salted(key.secret, salt) for key in self._keys}
        return self._names

    @property
    def is_kept_here(self) -> bool:
        """Whether it is for this process to keep the pool on disk."""
        return True

    # For the disk.

    def export(self, salt: bytes) -> dict[str, dict[str, Any]]:
        """Return what must survive a restart, by salted ids from which no key can be read."""
        now, wall = self._clock(), self._wall()
        return {salted(key.secret, salt): key.export(now=now, wall=wall) for key in self._keys}

    def restore(self, kept: Mapping[str, dict[str, Any]], salt: bytes) -> None:
        """
        Take over what `export` returned; keys that are not in it are new.

        Raises:
            KeyError, TypeError, ValueError: If it is something else.

        """
        now, wall = self._clock(), self._wall()
        for key in self._keys:
            if (row := kept.get(salted(key.secret, salt))) is not None:
                key.restore(row, now=now, wall=wall)


def salted(key: str, salt: bytes) -> str:
    """Return the name under which a key's state is kept."""
    return hmac.new(salt, key.encode("utf-8", "surrogateescape"), hashlib.sha256).hexdigest()[:32]


def _nobody_cares() -> None:
    """Stand in for a listener."""

"""
What is known about one key: what it is doing, what it has used, and why it rests.

A rest is on the whole key (model "") or on the key for one model. When its time is over the key is
ready again for one request at a time, a probe, until one succeeds; then the rest is forgotten. A
failed probe begins the next, longer rest.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from ccproxy.convert.errors.causes import Cause
from ccproxy.keys.verdict import Effect, Verdict

LONGEST_REST = 3600.0
"""Seconds: a rate limit that claims to last longer is probed after an hour anyway."""
_REST_FIRST, _REST_LONGEST = 5.0, 300.0
_OUT_FIRST, _OUT_LONGEST = 3600.0, 86400.0
_SHORTEST_RESET = 60.0
"""No allowance is filled again in less: such a retry-after is boilerplate."""
_SUSPECT = (60.0, 600.0, 3600.0)
_MINUTE = 60.0
_DAY = 86400.0
_RESTS_KEPT = 256
"""Of one key; a client may name as many models as it likes."""
LONGEST_SAID = 300
"""Characters of a provider's words that are kept."""

WHOLE_KEY = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyLimits:
    """What the user allows a single key; None: no limit."""

    in_flight: int | None = None
    per_minute: int | None = None
    per_day: int | None = None
    """Days begin at midnight UTC."""


Probe = tuple[int, int]
"""A process (0 where there is only one) and the turn of one of its requests."""


@dataclass(slots=True, kw_only=True)
class Rest:
    """Why a key rests and until when, on the monotonic clock."""

    cause: Cause
    status: int
    until: float
    failures: int
    since: float
    """Wall clock, for the user's eyes."""
    told: bool = False
    """Whether the provider said for how long."""
    probed_by: Probe | None = None
    """The request that finds out whether it may end."""

    @property
    def probing(self) -> bool:
        """Whether somebody is finding out."""
        return self.probed_by is not None


class Said(NamedTuple):
    """What the provider said when it refused a key; of several, the last is the greatest."""

    at: float
    """Wall clock."""
    text: str


NOTHING = Said(0.0, "")


@dataclass(frozen=True, slots=True)
class Obstacle:
    """Why a key cannot be taken now, and for how many seconds at least."""

    why: str
    """A `Cause` value, `in_flight`, `per_minute`, `per_day` or `disabled`."""
    seconds: float
    status: int = 0
    said: Said = NOTHING
    """What the provider said last of a key that rests."""


@dataclass(slots=True, kw_only=True)
class KeyLive:
    """What processes that share a pool must know of a key at once; times are monotonic."""

    flights: dict[int, int]
    """Requests in flight by process."""
    turn: int
    disabled: bool
    rests: dict[str, Rest]
    day: int
    used_today: int
    minute: list[float]
    said: Said


@dataclass(slots=True, kw_only=True, eq=False)
class KeyState:
    """One key of the pool; the pool tells it the time."""

    secret: str = field(repr=False)
    id: str
    tail: str
    limits: KeyLimits
    in_flight: int = 0
    turn: int = 0
    """When it was taken last, counted in takes of the pool."""
    disabled: bool = False
    rests: dict[str, Rest] = field(default_factory=dict)
    said: Said = NOTHING
    """With which words the provider refused it last."""
    day: int = 0
    used_today: int = 0
    elsewhere: dict[int, int] = field(default_factory=dict)
    """How many of `in_flight` are other processes'."""
    _minute: deque[float] = field(default_factory=deque)

    # What stands in the way.

    def obstacle(self, model: str, *, now: float, wall: float, alone: bool) -> Obstacle | None:
        """Say why the key cannot be taken for *model*; a key that is *alone* never rests."""
        if self.disabled:
            return Obstacle("disabled", 0.0)
        if not alone and (resting := self._resting(model, now)):
            return resting
        limits = self.limits
        if limits.per_day is not None and self.used(wall) >= limits.per_day:
            return Obstacle("per_day", _DAY - wall % _DAY)
        if limits.per_minute is not None:
            self._forget_minute(now)
            if len(self._minute) >= limits.per_minute:
                return Obstacle("per_minute", self._minute[0] + _MINUTE - now)
        if limits.in_flight is not None and self.in_flight >= limits.in_flight:
            return Obstacle("in_flight", 1.0)
        return None

    def _resting(self, model: str, now: float) -> Obstacle | None:
        longest = None
        for rest in (self.rests.get(WHOLE_KEY), self.rests.get(model)):
            if rest is None or (rest.until <= now and not rest.probing):
                continue
            seconds = max(rest.until - now, 1.0 if rest.probing else 0.0)
            if longest is None or seconds > longest.seconds:
                longest = Obstacle(rest.cause.value, seconds, rest.status, self.said)
        return longest

    def used(self, wall: float) -> int:
        """How often the key was taken today."""
        return self.used_today if self.day == int(wall // _DAY) else 0

    def _forget_minute(self, now: float) -> None:
        while self._minute and self._minute[0] <= now - _MINUTE:
            self._minute.popleft()

    # What happens to it.

    def start(self, model: str, *, now: float, wall: float, probe: Probe) -> tuple[str, ...]:
        """Note one more use; return the names of the rests that this use probes."""
        self.in_flight += 1
        self.used_today = self.used(wall) + 1
        self.day = int(wall // _DAY)
        if self.limits.per_minute is not None:
            self._forget_minute(now)
            self._minute.append(now)
        if not self.rests:
            return ()
        over = tuple(
            name
            for name in {WHOLE_KEY, model}
            if (rest := self.rests.get(name)) is not None and rest.until <= now
        )
        for name in over:
            self.rests[name].probed_by = probe
        return over

    def end_probe(self, names: Iterable[str], probe: Probe) -> None:
        """Let another request find out, if *probe* was the one that did."""
        for name in names:
            rest = self.rests.get(name)
            if rest is not None and rest.probed_by == probe:
                rest.probed_by = None

    def succeeded(self, model: str, *, now: float, alone: bool) -> None:
        """Forget the rests that are over; one that lasts was caused by a later refusal."""
        if not self.rests:
            return
        for name in {WHOLE_KEY, model}:
            rest = self.rests.get(name)
            if rest is not None and (alone or rest.until <= now):
                del self.rests[name]

    def refused(
        self, model: str, verdict: Verdict, *, now: float, wall: float, jitter: float
    ) -> None:
        """Rest, longer from time to time; many refusals at once count as one."""
        name = model if verdict.per_model else WHOLE_KEY
        rest = self.rests.get(name)
        if verdict.cause is None:
            return
        if rest is None or rest.cause is not verdict.cause:
            failures, since = 0, wall
        elif rest.until > now:
            failures, since = rest.failures - 1, rest.since
        else:
            failures, since = rest.failures, rest.since
        until = now + _rest_seconds(verdict, failures, jitter)
        if rest is not None and rest.cause is verdict.cause:
            until = max(until, rest.until)
        self.rests[name] = Rest(
            cause=verdict.cause,
            status=verdict.status,
            until=until,
            failures=failures + 1,
            since=since,
            told=verdict.seconds is not None,
        )
        self.said = Said(wall, _shortened(verdict.said))
        while len(self.rests) > _RESTS_KEPT:
            oldest = next(other for other in self.rests if other not in (WHOLE_KEY, name))
            del self.rests[oldest]

    def forgive(self, model: str) -> None:
        """Take a rate limit back that was not about this key."""
        rest = self.rests.get(model)
        if rest is not None and rest.cause is Cause.RATE_LIMIT:
            del self.rests[model]

    # How it is shared.

    def live(self, me: int) -> KeyLive:
        """Return all that others must know, as the process *me*."""
        return KeyLive(
            flights={**self.elsewhere, me: self.in_flight - sum(self.elsewhere.values())},
            turn=self.turn,
            disabled=self.disabled,
            rests=self.rests,
            day=self.day,
            used_today=self.used_today,
            minute=list(self._minute),
            said=self.said,
        )

    def revive(self, live: KeyLive, me: int) -> None:
        """Take over what `live` returned, here or in another process."""
        own = self.in_flight - sum(self.elsewhere.values())
        self.elsewhere = {who: count for who, count in live.flights.items() if who != me and count}
        self.in_flight = own + sum(self.elsewhere.values())
        self.turn, self.disabled, self.rests = live.turn, live.disabled, live.rests
        self.day, self.used_today = live.day, live.used_today
        self._minute = deque(live.minute)
        self.said = live.said

    # How it is kept.

    def export(self, *, now: float, wall: float) -> dict[str, Any]:
        """Return what must survive a restart as plain data, times as the wall clock."""
        rests = [
            {
                "model": model,
                "cause": rest.cause.value,
                "status": rest.status,
                "until": wall + rest.until - now,
                "failures": rest.failures,
                "since": rest.since,
                "told": rest.told,
            }
            for model, rest in self.rests.items()
        ]
        return {
            "disabled": self.disabled,
            "day": self.day,
            "used_today": self.used_today,
            "rests": rests,
            "said": self.said.text,
            "said_at": self.said.at,
        }

    def restore(self, kept: dict[str, Any], *, now: float, wall: float) -> None:
        """
        Take over what `export` returned.

        Raises:
            KeyError, TypeError, ValueError: If it is something else.

        """
        rests = {}
        for row in kept["rests"]:
            seconds = min(float(row["until"]) - wall, 31 * _DAY)
            rests[str(row["model"])] = Rest(
                cause=Cause(row["cause"]),
                status=int(row["status"]),
                until=now + seconds,
                failures=int(row["failures"]),
                since=float(row["since"]),
                told=bool(row.get("told")),
            )
        self.disabled = bool(kept["disabled"])
        self.day, self.used_today = int(kept["day"]), int(kept["used_today"])
        self.rests = rests
        self.said = Said(float(kept.get("said_at", 0.0)), _shortened(str(kept.get("said", ""))))


def _shortened(text: str) -> str:
    return text if len(text) <= LONGEST_SAID else f"{text[: LONGEST_SAID - 1]}…"


def _rest_seconds(verdict: Verdict, failures: int, jitter: float) -> float:
    """How long a key rests after so many *failures* before this one."""
    failures = max(0, failures)
    if verdict.effect is Effect.SUSPECT:
        return _SUSPECT[min(failures, len(_SUSPECT) - 1)]
    if verdict.effect is Effect.OUT:
        doubled = min(_OUT_FIRST * 2.0 ** min(failures, 10), _OUT_LONGEST)
        told = verdict.seconds
        return doubled if told is None or told < _SHORTEST_RESET else told
    if verdict.seconds is not None:
        return min(verdict.seconds, LONGEST_REST)
    doubled = _REST_FIRST * 2.0 ** min(failures, 10) * (0.9 + 0.2 * jitter)
    return min(doubled, _REST_LONGEST)

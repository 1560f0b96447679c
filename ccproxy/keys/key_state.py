"""The state of one key: its requests in flight, its use, and its cooldowns."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import msgspec

from ccproxy.convert.errors.causes import Cause
from ccproxy.keys.account_report import AccountReport
from ccproxy.keys.cooldown import LONGEST_OUTAGE, Cooldown, Probe, cooldown_seconds
from ccproxy.keys.verdict import Effect, Next, Verdict

MINUTE = 60.0
DAY = 86400.0
_MOST_COOLDOWNS = 256
"""Maximum number of cooldowns per key, because a client may name any number of models."""
LONGEST_ERROR = 300
"""Maximum length of a stored error text; longer ones are truncated."""

WHOLE_KEY = ""
PER_DAY = "per_day"
"""The obstacle of a key that has reached the user's limit of requests per day."""
REPORTED = 0
"""The status of a cooldown that results from a report rather than a refusal."""
LONGEST_WINDOW = 32 * 86400.0
"""Maximum seconds of a window: no plan has one longer than a month."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyLimits:
    """The user's limits for a single key; None means no limit."""

    in_flight: int | None = None
    per_minute: int | None = None
    per_day: int | None = None
    """Requests per day; days begin at midnight UTC."""


class LastError(NamedTuple):
    """The provider's text from its last refusal of a key. Later errors compare as greater."""

    at: float
    """When the key was refused, in wall-clock time."""
    text: str


NO_ERROR = LastError(0.0, "")


@dataclass(frozen=True, slots=True)
class Obstacle:
    """Why a key cannot be leased, and for at least how many seconds."""

    reason: str
    """A `Cause` value, `in_flight`, `per_minute`, `per_day` or `disabled`."""
    seconds: float
    status: int = 0
    last_error: LastError = NO_ERROR


@dataclass(slots=True, kw_only=True)
class KeyState:
    """The state of one key, without the key itself; the pool passes the current time."""

    flights: dict[int, int] = field(default_factory=dict)
    """Number of requests in flight, by process."""
    turn: int = 0
    """When the key was last leased, counted in leases of the pool."""
    share: float = 0.0
    """The key's uses divided by its weight, if the keys have weights."""
    disabled: bool = False
    cooldowns: dict[str, Cooldown] = field(default_factory=dict)
    """The cooldowns of the key, by model or `WHOLE_KEY`."""
    last_error: LastError = NO_ERROR
    day: int = 0
    used_today: int = 0
    minute: list[float] = field(default_factory=list)
    """Start times of requests in the last minute, if there is a limit per minute."""
    account: AccountReport | None = None
    """The provider's latest report about the account."""

    @property
    def in_flight(self) -> int:
        """The number of requests that use the key in all processes."""
        return sum(self.flights.values()) if self.flights else 0

    # Availability.

    def obstacle(
        self, model: str, limits: KeyLimits, *, now: float, wall: float, is_only: bool
    ) -> Obstacle | None:
        """Return why the key cannot be leased for *model*; a pool's only key never cools down."""
        if self.disabled:
            return Obstacle("disabled", 0.0)
        if not is_only and self.cooldowns and (obstacle := self._cooldown_obstacle(model, now)):
            return obstacle
        if limits.per_day is not None and (seconds := self.seconds_at_daily_limit(limits, wall)):
            return Obstacle(PER_DAY, seconds)
        if limits.per_minute is not None:
            self._prune_minute(now)
            if len(self.minute) >= limits.per_minute:
                # The list can be empty if the process has no share of the limit.
                oldest = self.minute[0] if self.minute else now
                return Obstacle("per_minute", oldest + MINUTE - now)
        if limits.in_flight is not None and self.in_flight >= limits.in_flight:
            return Obstacle("in_flight", 1.0)
        return None

    def seconds_at_daily_limit(self, limits: KeyLimits, wall: float) -> float:
        """Return the seconds until the next day; 0 if the daily limit is not reached."""
        is_reached = limits.per_day is not None and self.used_on(wall) >= limits.per_day
        return DAY - wall % DAY if is_reached else 0.0

    def _cooldown_obstacle(self, model: str, now: float) -> Obstacle | None:
        longest = None
        for cooldown in (self.cooldowns.get(WHOLE_KEY), self.cooldowns.get(model)):
            if cooldown is None or (cooldown.until <= now and cooldown.probe is None):
                continue
            seconds = max(cooldown.until - now, 0.0 if cooldown.probe is None else 1.0)
            if longest is None or seconds > longest.seconds:
                reason, status = cooldown.cause.value, cooldown.status
                longest = Obstacle(reason, seconds, status, self.last_error)
        return longest

    def used_on(self, wall: float) -> int:
        """Return the number of uses on the day of *wall*."""
        return self.used_today if self.day == int(wall // DAY) else 0

    def withdraw_use(self, wall: float) -> None:
        """Subtract a use that did not reach the provider, and so does not count toward limits."""
        self.used_today = max(0, self.used_on(wall) - 1)
        self.day = int(wall // DAY)
        del self.minute[-1:]

    def _prune_minute(self, now: float) -> None:
        expired = next(
            (i for i, start in enumerate(self.minute) if start > now - MINUTE), len(self.minute)
        )
        del self.minute[:expired]

    # Changes.

    def start(
        self, model: str, limits: KeyLimits, *, now: float, wall: float, probe: Probe
    ) -> tuple[str, ...]:
        """Count one more use; return the names of the cooldowns that this use probes."""
        process = probe[0]
        self.flights[process] = self.flights.get(process, 0) + 1
        self.used_today = self.used_on(wall) + 1
        self.day = int(wall // DAY)
        if limits.per_minute is not None:
            self._prune_minute(now)
            self.minute.append(now)
        if not self.cooldowns:
            return ()
        probed = tuple(
            name
            for name in {WHOLE_KEY, model}
            if (cooldown := self.cooldowns.get(name)) is not None and cooldown.until <= now
        )
        for name in probed:
            self.cooldowns[name].probe = probe
        return probed

    def disable(self) -> None:
        """Stop using the key until it is enabled."""
        self.disabled = True

    def enable(self) -> None:
        """Use the key again, and remove its cooldowns."""
        self.disabled = False
        self.cooldowns.clear()

    def finish(self, process: int) -> None:
        """Decrement the number of requests in flight."""
        count = self.flights.get(process, 0) - 1
        if count > 0:
            self.flights[process] = count
        else:
            self.flights.pop(process, None)

    def end_probe(self, names: Iterable[str], probe: Probe) -> None:
        """Allow another request to probe these cooldowns, if *probe* is their latest probe."""
        for name in names:
            cooldown = self.cooldowns.get(name)
            if cooldown is not None and cooldown.probe == probe:
                cooldown.probe = None

    def succeed(self, model: str, *, now: float, is_only: bool) -> None:
        """Remove the cooldowns that are over; an active one was started by a later refusal."""
        for name in {WHOLE_KEY, model} if self.cooldowns else ():
            cooldown = self.cooldowns.get(name)
            if cooldown is not None and (is_only or cooldown.until <= now):
                del self.cooldowns[name]

    def refuse(
        self, model: str, verdict: Verdict, *, now: float, wall: float, jitter: float
    ) -> None:
        """Start a cooldown, longer each time; refusals during a cooldown count as one."""
        if verdict.cause is None:
            return
        name = model if verdict.is_per_model else WHOLE_KEY
        old = self.cooldowns.get(name)
        if old is None or old.cause is not verdict.cause:
            failures, since = 0, wall
        elif old.until > now:
            failures, since = old.failures - 1, old.since
        else:
            failures, since = old.failures, old.since
        until = now + cooldown_seconds(verdict, max(0, failures), jitter)
        if old is not None and old.cause is verdict.cause:
            until = max(until, old.until)
        self.cooldowns[name] = Cooldown(
            cause=verdict.cause,
            status=verdict.status,
            until=until,
            failures=failures + 1,
            since=since,
            has_retry_after=verdict.seconds is not None,
        )
        self.last_error = LastError(wall, _shortened(verdict.error_text))
        while len(self.cooldowns) > _MOST_COOLDOWNS:
            oldest = next(other for other in self.cooldowns if other not in (WHOLE_KEY, name))
            del self.cooldowns[oldest]

    def start_cooldown(self, model: str, seconds: float, *, now: float, wall: float) -> None:
        """Start a cooldown for *model*, because an answer's headers report a used-up limit."""
        verdict = Verdict(
            effect=Effect.COOLDOWN,
            next=Next.END,
            is_per_model=True,
            seconds=seconds,
            status=REPORTED,
            cause=Cause.RATE_LIMIT,
            error_text="the answer's headers report that the limit is used up",
        )
        self.refuse(model, verdict, now=now, wall=wall, jitter=0.0)

    def note_account(self, report: AccountReport, *, now: float, wall: float) -> None:
        """
        Store *report*; if a plan window is used up, cool the key down until it resets.

        Unlike after a refusal, the end is known, so the key is not probed before it.
        """
        self.account = report
        window = report.used_up(wall)
        old = self.cooldowns.get(WHOLE_KEY)
        is_of_report = old is not None and old.status == REPORTED
        if window is None or window.resets_at is None:
            if is_of_report:
                del self.cooldowns[WHOLE_KEY]
            return
        if old is None or is_of_report:
            self.cooldowns[WHOLE_KEY] = Cooldown(
                cause=Cause.QUOTA,
                status=REPORTED,
                until=now + min(window.resets_at - wall, LONGEST_WINDOW),
                failures=0,
                since=wall if old is None else old.since,
                has_retry_after=True,
            )
            self.last_error = LastError(wall, f"the {window.name} window of the plan is used up")

    def forgive_rate_limit(self, model: str) -> None:
        """Remove the cooldown for a rate limit that turned out not to be the key's own."""
        cooldown = self.cooldowns.get(model)
        if cooldown is not None and cooldown.cause is Cause.RATE_LIMIT:
            del self.cooldowns[model]

    # Persistence.

    def export(self, *, now: float, wall: float) -> dict[str, Any]:
        """Return the state that must survive a restart as plain data, with wall-clock times."""
        cooldowns = [
            {"model": model}
            | msgspec.to_builtins(replace(one, until=wall + one.until - now, probe=None))
            for model, one in self.cooldowns.items()
        ]
        return {
            "disabled": self.disabled,
            "day": self.day,
            "used_today": self.used_today,
            "cooldowns": cooldowns,
            "last_error": self.last_error.text,
            "last_error_at": self.last_error.at,
            "account": msgspec.to_builtins(self.account),
        }

    def restore(self, row: dict[str, Any], *, now: float, wall: float) -> None:
        """
        Restore the state that `export` returned.

        A key that was out of credit may be probed at once: the account may have been topped up
        while the process was stopped.

        Raises:
            KeyError, TypeError, ValueError: If *row* is invalid.
        """
        cooldowns = {}
        for fields in row["cooldowns"]:
            cooldown = msgspec.convert(fields, Cooldown)
            longest = LONGEST_OUTAGE if cooldown.status else LONGEST_WINDOW
            seconds = min(cooldown.until - wall, longest)
            if cooldown.cause is Cause.OUT_OF_CREDIT:
                seconds = min(seconds, 0.0)
            cooldown.until, cooldown.probe = now + seconds, None
            cooldowns[str(fields["model"])] = cooldown
        with suppress(msgspec.ValidationError):  # written by another version
            self.account = msgspec.convert(row.get("account"), AccountReport | None)
        self.disabled = bool(row["disabled"])
        self.day, self.used_today = int(row["day"]), int(row["used_today"])
        self.cooldowns = cooldowns
        text = _shortened(str(row.get("last_error", "")))
        self.last_error = LastError(float(row.get("last_error_at", 0.0)), text)


def _shortened(text: str) -> str:
    return text if len(text) <= LONGEST_ERROR else f"{text[: LONGEST_ERROR - 1]}…"

"""
Budgets: daily or monthly spending limits for an entry or for one of its clients.

A budget is in tokens or in a currency. Amounts are integers, tokens or billionths of the currency,
so that sums across several processes are exact. Days and months follow the user's clock.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Literal, cast

from ccproxy.errors import Problem
from ccproxy.text import format_duration

Period = Literal["day", "month"]

TOKENS = "tokens"
EVERY_CLIENT = "*"
"""Represents every client that is not named by another budget."""
WARN_AT = 0.8
"""Share of a budget at which the status shows a warning."""
RETRY_SECONDS = 5
"""Retry delay in seconds for a request that is refused only because of other reservations."""

_PARTS_PER_UNIT = 10**9
_FORM = re.compile(
    r"(?:\$ ?)?(?P<number>[0-9]{1,12}(?:\.[0-9]{1,6})?)(?P<scale>[kKmM]?)"
    r"(?: ?(?P<unit>[A-Za-z]{3,6}))? ?(?:/|per) ?(?P<period>day|month)"
)
_SCALES = {"": 1, "k": 10**3, "m": 10**6}


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """A spending limit for one period."""

    limit: float
    unit: str
    """`tokens`, or the code of a currency such as USD."""
    period: Period
    client: str = ""
    """The end of a client key, or `*` for each key without its own budget; empty for
    all requests of the entry."""

    @classmethod
    def parse(cls, text: str, *, client: str = "") -> Budget:
        """
        Parse `5 USD/day`, `$5/day` or `2M tokens/month`.

        Raises:
            ValueError: If *text* is not a budget; the message completes "NAME ...".
        """
        rule = 'must be like "5 USD/day" or "2M tokens/month"'
        match = _FORM.fullmatch(text.strip())
        if match is None:
            raise ValueError(f'{rule}, got "{text.strip()}"')
        dollars = text.strip().startswith("$")
        unit = match["unit"] or ("USD" if dollars else "")
        unit = TOKENS if unit.lower() in ("token", TOKENS) else unit.upper()
        if not (unit == TOKENS or len(unit) == 3) or (dollars and unit != "USD"):
            raise ValueError(f'{rule}, got "{text.strip()}"')
        limit = float(match["number"]) * _SCALES[match["scale"].lower()]
        if to_parts(limit, unit) <= 0:
            raise ValueError(f'must be above zero, got "{text.strip()}"')
        return cls(limit=limit, unit=unit, period=cast("Period", match["period"]), client=client)

    def __str__(self) -> str:
        return f"{format_amount(self.limit, self.unit)} per {self.period}"

    def applies_to(self, key: str) -> bool:
        """Return True if the budget names client key *key*."""
        return self.client not in ("", EVERY_CLIENT) and key.endswith(self.client)

    @property
    def parts(self) -> int:
        """The limit in tokens or billionths of the currency."""
        return to_parts(self.limit, self.unit)


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetState:
    """A budget and its spending in the current period."""

    budget: Budget
    spent: int
    reserved: int
    """The amount reserved by requests in flight."""
    seconds: float
    """Seconds until the period ends."""
    end: float
    """The end of the period, in seconds since the epoch."""
    resets_at: str
    """The end of the period by the user's clock."""

    @property
    def is_spent(self) -> bool:
        """Whether the budget is used up."""
        return self.spent >= self.budget.parts

    @property
    def is_reserved(self) -> bool:
        """Whether requests in flight may use up the rest."""
        return self.spent + self.reserved >= self.budget.parts

    @property
    def share(self) -> float:
        """The spent share; 1.0 means all of it."""
        return self.spent / self.budget.parts

    def refusal(self, *, label: str, who: str, setting: str, env_file: str) -> Problem:
        """
        Return the error for a request that the budget does not allow.

        *who* is the client as `…last4`, or empty for the entry's own budget; *setting* is the
        setting that contains the budget.
        """
        of = f"the client key {who} on the proxy {label}" if who else f"the proxy {label}"
        location = f" in {env_file}" if env_file else ""
        fix = f"raise {setting}{location} and run: ccproxy reload {label}. Or use another proxy"
        return self.problem(of, fix=fix)

    def problem(self, of: str, *, fix: str, headers: tuple[tuple[str, str], ...] = ()) -> Problem:
        """Return the error for the budget of *of*; *fix* and *headers* are added if it is spent."""
        if not self.is_spent:
            text = (
                f"The rest of the budget of {of} ({self.budget}) is reserved for requests in "
                "flight. Try again when they have ended"
            )
            return Problem("rate_limit_error", text, retry_after=RETRY_SECONDS, should_retry=True)
        unit = self.budget.unit
        spent = format_amount(from_parts(self.spent, unit), unit)
        text = (
            f"The budget of {of} is spent: {spent} of {self.budget}. It resets at "
            f"{self.resets_at} (in {format_duration(self.seconds)}). To continue before that, {fix}"
        )
        return Problem(
            "billing_error",
            text,
            status=429,
            retry_after=math.ceil(self.seconds),
            should_retry=False,
            headers=headers,
        )


def to_parts(amount: float, unit: str) -> int:
    """Convert *amount* to tokens, or to billionths of the currency."""
    return round(amount if unit == TOKENS else amount * _PARTS_PER_UNIT)


def from_parts(parts: int, unit: str) -> float:
    """Convert *parts* to an amount in tokens or in the currency."""
    return float(parts) if unit == TOKENS else parts / _PARTS_PER_UNIT


def format_amount(amount: float, unit: str) -> str:
    """Format an amount, such as `1.5M tokens` or `4.98 USD`."""
    if unit != TOKENS:
        digits = 2 if amount >= 1 or amount == 0 else 4
        text = f"{amount:,.{digits}f}"
        return f"{text.removesuffix('.00')} {unit}"
    for scale, suffix in ((10**6, "M"), (10**3, "k")):
        if amount >= scale:
            return f"{math.floor(amount / scale * 100) / 100:g}{suffix} {TOKENS}"
    return f"{amount:g} {TOKENS}"

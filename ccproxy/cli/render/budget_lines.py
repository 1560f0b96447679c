"""Budgets as text, for `status` and `usage`."""

from __future__ import annotations

import time
from collections.abc import Iterable

from ccproxy.ipc.control_messages import BudgetRow
from ccproxy.text import printable

_TOKENS = "tokens"


def budget_text(row: BudgetRow) -> str:
    """Return `4.10 of 5.00 USD per day (82 %), until 2026-11-30 00:00`."""
    digits = 0 if row.unit == _TOKENS else 2 if row.limit >= 1 else 4
    amounts = f"{row.spent:,.{digits}f} of {row.limit:,.{digits}f}"
    share = f"{100 * row.spent / row.limit:.0f} %" if row.limit else "–"
    end = time.strftime("%Y-%m-%d %H:%M", time.localtime(row.resets_at))
    who = f"client key {printable(row.client)}: " if row.client else ""
    if row.user:
        who = f"user {printable(row.user)}: "
    text = (
        f"{who}{amounts} {printable(row.unit)} per {printable(row.period)} ({share}), until {end}"
    )
    if row.uncounted:
        names = ", ".join(map(printable, row.uncounted))
        text += f"; not counted, because their price is unknown: {names}"
    return text


def user_budgets(rows: Iterable[BudgetRow]) -> list[BudgetRow]:
    """Return each user budget once, even if several entries report it; most spent first."""
    latest = {(row.user, row.unit, row.period): row for row in rows if row.user}
    return sorted(latest.values(), key=lambda row: row.spent / row.limit, reverse=True)


def budget_warnings(rows: Iterable[BudgetRow]) -> list[str]:
    """Return a line for each budget that is almost spent or does not count every request."""
    warnings = []
    for row in rows:
        if row.spent >= row.limit:
            warnings.append(f"budget spent: {budget_text(row)}")
        elif row.is_low or row.uncounted:
            warnings.append(f"budget: {budget_text(row)}")
    return warnings

"""Accounts as text, for `keys`, `status` and `usage`."""

from __future__ import annotations

import time
from collections.abc import Iterable

from ccproxy.ipc.control_messages import AccountRow, AccountWindow
from ccproxy.text import format_duration, printable


def account_text(row: AccountRow) -> str:
    """Return `49.60 USD · 5h 37 % used, resets 14:00   (read 4m ago)`."""
    parts = [f"{one.amount:,.2f} {printable(one.currency)}" for one in row.balances]
    parts += [window_text(window) for window in row.windows]
    notes = [f"read {format_duration(time.time() - row.at)} ago"] if row.at else []
    if not row.is_documented:
        notes.append("undocumented")
    if row.failure:
        notes.append(f"no newer report: {printable(row.failure)}")
    return f"{' · '.join(parts) or 'unknown'}   ({', '.join(notes)})"


def window_text(window: AccountWindow) -> str:
    """Return `5h 37 % used, resets 14:00`."""
    text = f"{printable(window.name)} {100 * window.used:.0f} % used"
    if window.resets_at is None:
        return text
    is_soon = window.resets_at - time.time() < 86400
    form = "%H:%M" if is_soon else "%Y-%m-%d %H:%M"
    return f"{text}, resets {time.strftime(form, time.localtime(window.resets_at))}"


def account_warnings(rows: Iterable[AccountRow]) -> list[str]:
    """Return a line for each plan window that is almost used up."""
    return [
        f"key {row.id} {printable(row.tail)}: {window_text(window)}"
        for row in rows
        for window in row.windows
        if window.is_low
    ]

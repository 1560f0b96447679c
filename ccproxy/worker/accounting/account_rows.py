"""The keys' accounts and rate limits in the format that the control socket sends."""

from __future__ import annotations

from collections.abc import Iterable

from ccproxy.ipc.control_messages import AccountBalance, AccountRow, AccountWindow
from ccproxy.keys.account_report import WARN_AT, PlanWindow
from ccproxy.keys.display import KeyView
from ccproxy.keys.rate_headers import windows_in
from ccproxy.worker.worker import Worker


def account_rows(keys: Iterable[KeyView]) -> tuple[AccountRow, ...]:
    """Return a row for each of *keys* with an account report."""
    rows = map(account_row, keys)
    return tuple(row for row in rows if row is not None)


def account_row(key: KeyView) -> AccountRow | None:
    """Return the account of *key*, or None if it was never read."""
    report = key.account
    if report is None:
        return None
    return AccountRow(
        id=key.id,
        tail=key.tail,
        balances=tuple(
            AccountBalance(amount=balance.amount, currency=balance.currency)
            for balance in report.balances
        ),
        windows=_windows(report.windows),
        at=report.at,
        is_documented=report.is_documented,
        failure=report.failure,
    )


def limit_rows(worker: Worker, key_id: str) -> tuple[AccountWindow, ...]:
    """Return the limits in the headers of the key's last answer."""
    received = worker.upstream.limit_headers.get(key_id)
    return () if received is None else _windows(windows_in(received[1], received[0]))


def _windows(windows: Iterable[PlanWindow]) -> tuple[AccountWindow, ...]:
    return tuple(
        AccountWindow(
            name=window.name,
            used=round(window.used, 4),
            resets_at=window.resets_at,
            is_low=window.used >= WARN_AT,
        )
        for window in windows
    )

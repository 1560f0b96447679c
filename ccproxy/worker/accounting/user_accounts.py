"""
The permissions and budgets of a gateway's users, applied by the answering entry.

A request may arrive at one entry and be answered by another. Only the answering entry knows the
model, so the permissions are checked there, once.
"""

from __future__ import annotations

from collections.abc import Sequence

from ccproxy.config.team.users import User
from ccproxy.errors import Problem
from ccproxy.ipc.control_messages import BudgetRow
from ccproxy.keys.budgets import BudgetState
from ccproxy.worker.accounting.budget_guard import BudgetGuard, Reservation
from ccproxy.worker.gateway.user_directory import UserDirectory

MOST_ROWS = 200
"""Maximum number of budgets in a report; the gateway of a large team has many more."""


class UserAccounts:
    """The users in one file, and their spending."""

    def __init__(self, directory: UserDirectory, guard: BudgetGuard) -> None:
        self._directory = directory
        self._guard = guard

    def reserve(
        self, name: str, *, label: str, model: str, size: int
    ) -> Sequence[tuple[BudgetGuard, Reservation]]:
        """
        Reserve an estimate for a request of the user *name* to *model* of the entry *label*.

        Raises:
            Problem: If the user may not use the entry or the model, or the budget is spent.
        """
        user = self.check(name, label=label, model=model)
        if not user.budgets:
            return ()
        account = self._guard.user(name, user.budgets)
        return ((self._guard, self._guard.reserve(account, model=model, size=size)),)

    def check(self, name: str, *, label: str, model: str) -> User:
        """
        Return the user *name* after checking that *model* of *label* is permitted.

        Raises:
            Problem: If it is not permitted, or the user's access was revoked.
        """
        user = self._directory.user(name)
        if user is None:
            text = (
                f"access for the user {name} was revoked: "
                "ask the owner of the gateway for a new token"
            )
            raise Problem("authentication_error", text, should_retry=False)
        check_rights(user, label, model)
        return user

    def states(self, user: User) -> list[BudgetState]:
        """Return the state of each budget of *user*."""
        return self._guard.states(self._guard.user(user.name, user.budgets))

    def rows(self) -> tuple[BudgetRow, ...]:
        """Return the budgets that are in use, fullest first, at most `MOST_ROWS`."""
        users = self._directory.users.by_name.values()
        rows = self._guard.user_rows((one.name, one.budgets) for one in users if one.is_active)
        return tuple(sorted(rows, key=lambda row: row.spent / row.limit, reverse=True)[:MOST_ROWS])


def check_rights(user: User, label: str, model: str) -> None:
    """
    Check that *user* may use *model* of the entry *label*.

    Raises:
        Problem: 403 for the entry; 400 for the model, as Claude Code expects from a gateway.
    """
    if not user.may_use_entry(label):
        text = (
            f"{user.name} may not use the proxy {label}, only {', '.join(user.entries)}: choose "
            "one of these, or ask the owner of the gateway to add it in users.toml"
        )
        raise Problem("permission_error", text, should_retry=False)
    if not user.may_use_model(label, model):
        text = (
            f"{user.name} may not use the model {model[:100]} of {label}, only "
            f"{', '.join(user.models)}: choose another model with /model, or ask the owner of the "
            "gateway to add it in users.toml"
        )
        raise Problem("invalid_request_error", text, should_retry=False)

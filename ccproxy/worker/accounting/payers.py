"""
The budgets that pay for a request: those of this entry, of another entry's client, or of a user.

An entry may forward a request to another, which receives no client key. So the first entry names
the account in a header, and the answering entry charges the client's budget, using the first
entry's settings and ledger.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote, unquote

from structlog.typing import FilteringBoundLogger

from ccproxy.config.worker_config import WorkerConfig
from ccproxy.errors import ConfigError, Problem
from ccproxy.ipc.control_messages import BudgetRow
from ccproxy.store.spending_ledger import Ledger, SpendingLedger
from ccproxy.store.usage_totals import Used
from ccproxy.worker.accounting.budget_guard import Account, BudgetGuard, Reservation
from ccproxy.worker.accounting.user_accounts import UserAccounts
from ccproxy.worker.gateway.user_directory import UserDirectory

USERS = "@user"
"""Used in place of the name of the budgets if the payer is a user of the gateway."""
USERS_LEDGER = "users.spending"
"""Never the name of an entry's ledger, because such names end in `.budgets`."""
_FIELDS = 4
PAYER_HEADER = "x-ccproxy-payer"
"""Label, name of the budgets, ID and tail of the client key; trusted only from a peer."""


Shares = Sequence[tuple[BudgetGuard, Reservation]]
"""The reservations of a request, and their guards."""


class Payers:
    """Finds every account that pays for a request, admits the request, and charges the accounts."""

    def __init__(
        self,
        config: WorkerConfig,
        *,
        state: Path,
        secret: bytes,
        settings: Callable[[str], WorkerConfig | None],
        log: FilteringBoundLogger,
        open_ledger: Callable[[str], Ledger] | None = None,
        wall: Callable[[], float] = time.time,
    ) -> None:
        """
        Open the budgets of *config*; *settings* returns the settings of another entry.

        *open_ledger* returns the ledger that replicas on several hosts share under a name; without
        it, ledgers are files in the folder *state*.

        Raises:
            OSError: If the ledger cannot be opened: without it no budget would be enforced.
        """
        self._config = config
        self._secret = secret
        self._settings = settings
        self._log = log
        self._open_ledger = open_ledger or (
            lambda name: SpendingLedger(
                state / name, warn=lambda text: log.warning("store.failed", reason=text)
            )
        )
        self._wall = wall
        self._ledgers: dict[str, Ledger] = {}
        self._others: dict[str, tuple[WorkerConfig, BudgetGuard]] = {}
        self._users: dict[Path, UserAccounts] = {}
        self._own = self._open(config) if config.budgets else None
        self.has_clients = any(budget.client for budget in config.budgets)
        """Whether client keys have budgets."""

    def rows(self) -> tuple[BudgetRow, ...]:
        """Return the state of the entry's own budgets."""
        return () if self._own is None else self._own.rows()

    def user_rows(self) -> tuple[BudgetRow, ...]:
        """Return the budgets that the gateway's users have drawn on; () if they are unreadable."""
        file = self._config.gateway.users_file
        if file is None:
            return ()
        try:
            return self._users_of(file).rows()
        except (Problem, OSError):  # requests report the error; `status` shows the rest
            return ()

    def reserve(self, client: int | None, payer: str, *, model: str, size: int) -> Shares:
        """
        Reserve an estimate for a request with a body of *size* bytes in every paying account.

        *client* is the number of the client key, *payer* a peer's header; both may be missing.

        Raises:
            Problem: If a budget is spent, or the rest of it is reserved.
        """
        shares: list[tuple[BudgetGuard, Reservation]] = []
        try:
            if (own := self._own) is not None:
                account = None if client is None else own.client(client)
                shares.append((own, own.reserve(account, model=model, size=size)))
            if payer and (user := self.user_of(payer)) is not None:
                accounts, name = user
                label = self._config.label
                shares += accounts.reserve(name, label=label, model=model, size=size)
            elif payer and (match := self._find(payer)) is not None:
                guard, account = match
                shares.append((guard, guard.reserve(account, model=model, size=size)))
        except Problem:
            settle(shares, None)
            raise
        return shares

    def check_rights(self, payer: str, *, model: str) -> None:
        """
        Check that the user in *payer*, if there is one, may use *model* here.

        Raises:
            Problem: If the user may not use it.
        """
        if payer and (user := self.user_of(payer)) is not None:
            accounts, name = user
            accounts.check(name, label=self._config.label, model=model)

    def header(self, client: int | None, payer: str) -> Mapping[str, str]:
        """Return the payer header for a peer that answers in place of this entry."""
        if payer:
            return {PAYER_HEADER: payer}
        account = None if client is None or self._own is None else self._own.client(client)
        if account is None:
            return {}
        fields = (self._config.label, account.budgets[0].client, account.id, account.who)
        return {PAYER_HEADER: ":".join(quote(field, safe="") for field in fields)}

    def user_of(self, payer: str) -> tuple[UserAccounts, str] | None:
        """
        Return the accounts and the name of the user in *payer*, or None if it names no user.

        Raises:
            Problem: If the users of that entry cannot be read.
        """
        name = user_named_by(payer)
        if not name:
            return None
        config = self._settings(unquote(payer.partition(":")[0])) or self._config
        file = config.gateway.users_file
        if file is None:
            raise Problem("permission_error", f"the proxy {config.label} no longer has users")
        return self._users_of(file), name

    def close(self) -> None:
        """Close the ledgers."""
        for ledger in self._ledgers.values():
            ledger.close()

    def _users_of(self, file: Path) -> UserAccounts:
        accounts = self._users.get(file)
        if accounts is None:
            accounts = self._users[file] = self._open_users(file)
        return accounts

    def _find(self, payer: str) -> tuple[BudgetGuard, Account] | None:
        """Return the account that *payer* names, and the guard of its budgets."""
        fields = [unquote(field) for field in payer.split(":")]
        config = self._settings(fields[0])
        if config is None or len(fields) != _FIELDS:
            return None
        _, name, client_id, who = fields
        entry = self._others.get(config.label)
        if entry is None or entry[0] is not config:
            clients = tuple(budget for budget in config.budgets if budget.client)
            guard = self._open(replace(config, budgets=clients))
            entry = self._others[config.label] = (config, guard)
        account = entry[1].client_by_id(client_id, name=name, who=who)
        return None if account is None else (entry[1], account)

    def _open(self, config: WorkerConfig) -> BudgetGuard:
        ledger = self._ledger(f"{config.label.lower()}.budgets")
        return self._guard(config, ledger)

    def _open_users(self, file: Path) -> UserAccounts:
        # One ledger for the fleet: the budget is the user's, whichever entry answers.
        config = replace(self._config, budgets=(), client_keys=())
        try:
            guard = self._guard(config, self._ledger(USERS_LEDGER))
            return UserAccounts(UserDirectory(file, log=self._log), guard)
        except ConfigError as error:
            text = f"the users of the gateway are unreadable: {error}"
            raise Problem("api_error", text) from error
        except OSError as error:
            text = f"the spending of the gateway's users cannot be recorded: {error.strerror}"
            raise Problem("api_error", text) from error

    def _guard(self, config: WorkerConfig, ledger: Ledger) -> BudgetGuard:
        price, secret = self._config.models.price, self._secret
        return BudgetGuard(
            config, ledger, secret=secret, price=price, log=self._log, wall=self._wall
        )

    def _ledger(self, name: str) -> Ledger:
        ledger = self._ledgers.get(name)
        if ledger is None:
            ledger = self._ledgers[name] = self._open_ledger(name)
        return ledger


def payer_for_user(label: str, name: str) -> str:
    """Return the header that names the user *name* of the entry *label* as payer."""
    return ":".join(quote(field, safe="") for field in (label, USERS, name, ""))


def user_named_by(payer: str) -> str:
    """Return the user that the header *payer* names, or "" if it names a client key."""
    fields = [unquote(field) for field in payer.split(":")]
    return fields[2] if len(fields) == _FIELDS and fields[1] == USERS else ""


async def confirm(shares: Shares) -> None:
    """
    Wait until other hosts see the reservations in *shares*, and check them again.

    Raises:
        Problem: If another host reserved first, and a budget no longer allows the request.
    """
    for _, reservation in shares:
        if reservation.confirm is not None:
            await reservation.confirm()


def settle(shares: Shares, used: Used | None) -> None:
    """
    Release the reservations in *shares*, and charge *used*.

    *used* is None if another entry counts the request.
    """
    for guard, reservation in shares:
        guard.settle(reservation, used)

"""
Applies the budgets of an entry, of its client keys and of users to requests.

A request is admitted unless finished requests have spent the budget, or requests in flight have
reserved the rest. It reserves an estimate, and is charged what the provider reports when it ends.
Its answer is assumed to be as long as the longest recent answer of the model. So concurrent
requests exceed a budget by at most the last request, plus the amount by which answers are longer
than estimated. The reservation is made before the check, so that of two processes at least one sees
the other's reservation.
"""

from __future__ import annotations

import hmac
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from structlog.typing import FilteringBoundLogger

from ccproxy.bounded_dict import BoundedDict
from ccproxy.config.worker_config import WorkerConfig
from ccproxy.errors import Problem
from ccproxy.ipc.control_messages import BudgetRow
from ccproxy.keys.budgets import (
    EVERY_CLIENT,
    TOKENS,
    WARN_AT,
    Budget,
    BudgetState,
    from_parts,
    to_parts,
)
from ccproxy.keys.gateway.spending_notice import user_refusal
from ccproxy.providers.pricing import Price
from ccproxy.store.spending_ledger import NAME_BYTES, Ledger, Periods, Spent
from ccproxy.store.usage_totals import Used
from ccproxy.text import mask_key
from ccproxy.worker.accounting.calendar_periods import Calendar

BYTES_PER_TOKEN = 4
OUTPUT_TOKENS = 1000
"""Minimum assumed output; clients request 32,000 tokens and receive a few hundred."""
LENGTH_DECAY = 0.9
"""Factor by which the longest answer decays with each request."""
MOST_UNCOUNTED = 16
"""Maximum number of models without a price that the status names."""
_SMOOTHING = 0.2
"""Weight of the last request in the ratio of actual to estimated amounts."""
_LEAST_RATIO = 0.01


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Account:
    """The entry, one client key or one user, with its budgets."""

    who: str
    """The client key in a form that may be shown; empty for the entry."""
    id: str
    """A keyed hash of the client key; empty for the entry."""
    budgets: tuple[Budget, ...]
    rows: Mapping[str, bytes]
    """Names of the rows in the ledger, by unit."""
    is_user: bool = False
    """Whether the account is a gateway user; `who` is then the user's name."""


@dataclass(slots=True)
class Reservation:
    """The amounts reserved for one request, and the accounts that pay."""

    accounts: tuple[Account, ...]
    estimate: dict[str, int] = field(default_factory=dict)
    """The amount reserved for each account, by unit."""
    prompt: dict[str, int] = field(default_factory=dict)
    """The part of the estimate that is for the request itself, by unit."""
    ahead: dict[bytes, int] = field(default_factory=dict)
    """The amount that this process had already reserved, by ledger row."""
    confirm: Callable[[], Awaitable[None]] | None = None
    """Waits until processes on other hosts see the reservation, and raises Problem like `reserve`
    does; None if they see it."""


class BudgetGuard:
    """Admits and charges the requests of one worker."""

    def __init__(
        self,
        config: WorkerConfig,
        ledger: Ledger,
        *,
        secret: bytes,
        price: Callable[[str], Price | None],
        log: FilteringBoundLogger,
        wall: Callable[[], float] = time.time,
    ) -> None:
        """*secret* hashes the client keys in the ledger; *price* returns the price of a model."""
        self._config = config
        self._ledger = ledger
        self._secret = secret
        self._price = price
        self._log = log
        self._wall = wall
        self._calendar = Calendar(wall)
        own = tuple(budget for budget in config.budgets if not budget.client)
        self._entry = self._allocated(self._account("", "", own)) if own else None
        self._clients = [self._client(key) for key in config.client_keys]
        self._clients_by_id: dict[str, Account] = {}
        self._users: dict[str, Account] = {}
        self._ratios: dict[str, float] = {}
        self._longest: BoundedDict[str, float] = BoundedDict()
        """Tokens of the longest recent answer, by model."""
        self._warned: set[tuple[Account, Budget, Periods]] = set()
        self._uncounted: dict[str, None] = {}

    def client(self, number: int) -> Account | None:
        """Return the account of a client key by its *number*, or None if it has no budgets."""
        return self._clients[number]

    def client_by_id(self, client_id: str, *, name: str, who: str) -> Account | None:
        """Return the account of a client key that has the budgets of the client *name*, or None."""
        account = self._clients_by_id.get(client_id)
        if account is None:
            budgets = [budget for budget in self._config.budgets if budget.client == name]
            if not budgets:
                return None
            account = self._allocated(self._account(client_id, who, budgets))
            self._clients_by_id[client_id] = account
        return account

    def reserve(self, client: Account | None, *, model: str, size: int) -> Reservation:
        """
        Reserve an estimate for a request of *client* with a body of *size* bytes.

        Raises:
            Problem: If a budget is spent, or the rest of it is reserved.
        """
        accounts = tuple(account for account in (self._entry, client) if account is not None)
        reservation = Reservation(accounts)
        for unit in {unit for account in accounts for unit in account.rows}:
            prompt = reservation.prompt[unit] = self._prompt_estimate(unit, model, size)
            answer = max(OUTPUT_TOKENS, round(self._longest.get(model, 0)))
            reservation.estimate[unit] = prompt + self._answer_amount(answer, unit, model)
        periods = self._calendar.periods()
        for row in {row for account in accounts for row in account.rows.values()}:
            reservation.ahead[row] = self._ledger.spent(row, periods).own
        self._reserve(reservation, 1)
        try:
            self._check(reservation)
        except Problem:
            self._reserve(reservation, -1)
            raise
        if accounts:
            reservation.confirm = self._ledger.check_later(lambda: self._check(reservation))
        return reservation

    def _check(self, reservation: Reservation) -> None:
        for account in reservation.accounts:
            for budget, spent in self._spending(account):
                state = self._state(account, budget, spent, reservation)
                if state.is_spent or state.is_reserved:
                    raise self._refusal(state, account)

    def settle(self, reservation: Reservation, used: Used | None) -> None:
        """
        Release *reservation*, and charge *used*.

        *used* is None if another entry counts the request.
        """
        self._reserve(reservation, -1)
        if used is None:
            return
        periods = self._calendar.periods()
        self._note_length(used)
        for unit, prompt in reservation.prompt.items():
            amount = self._charge(unit, prompt, used)
            if amount is None:
                continue
            for account in reservation.accounts:
                if unit in account.rows:
                    self._ledger.add(account.rows[unit], amount, periods)
        for account in reservation.accounts:
            self._warn(account, periods)

    def rows(self) -> tuple[BudgetRow, ...]:
        """Return the state of every budget of the entry and its clients."""
        accounts = [one for one in (self._entry, *self._clients) if one is not None]
        return tuple(
            self._report(account, state) for account in accounts for state in self.states(account)
        )

    def user_rows(self, users: Iterable[tuple[str, Sequence[Budget]]]) -> tuple[BudgetRow, ...]:
        """Return the state of the budgets that *users* have drawn on in their current period."""
        accounts = (self._user(name, budgets) for name, budgets in users)
        return tuple(
            self._report(account, self._state(account, budget, spent))
            for account in accounts
            for budget, spent in self._spending(account)
            if spent.reserved or spent.within(budget.period)
        )

    def _report(self, account: Account, state: BudgetState) -> BudgetRow:
        budget = state.budget
        return BudgetRow(
            client="" if account.is_user else account.who,
            user=account.who if account.is_user else "",
            unit=budget.unit,
            period=budget.period,
            limit=budget.limit,
            spent=from_parts(state.spent, budget.unit),
            reserved=from_parts(state.reserved, budget.unit),
            resets_at=state.end,
            is_low=state.share >= WARN_AT,
            uncounted=() if budget.unit == TOKENS else tuple(self._uncounted),
        )

    def user(self, name: str, budgets: Sequence[Budget]) -> Account:
        """Return the account of the user *name* of the gateway, with these *budgets*."""
        account = self._users.get(name)
        if account is None or account.budgets != tuple(budgets):
            account = self._users[name] = self._allocated(self._user(name, budgets))
        return account

    def _user(self, name: str, budgets: Sequence[Budget]) -> Account:
        user_id = hmac.digest(self._secret, f"user:{name}".encode(), "sha256").hex()
        return replace(self._account(user_id, name, budgets), is_user=True)

    def states(self, account: Account) -> list[BudgetState]:
        """Return the state of each budget of *account*."""
        return [self._state(account, budget, spent) for budget, spent in self._spending(account)]

    # Accounts and amounts.

    def _refusal(self, state: BudgetState, account: Account) -> Problem:
        if account.is_user:
            return user_refusal(state, user=account.who)
        return state.refusal(
            label=self._config.label,
            who=account.who,
            setting="CLIENT_BUDGETS" if account.who else "BUDGET",
            env_file=str(self._config.env_file or ""),
        )

    def _client(self, key: str) -> Account | None:
        budgets = _budgets_of(key, self._config.budgets)
        if not budgets:
            return None
        text = f"client:{key}".encode("utf-8", "surrogateescape")
        client_id = hmac.digest(self._secret, text, "sha256").hex()
        return self._allocated(self._account(client_id, mask_key(key), budgets))

    def _account(self, client_id: str, who: str, budgets: Sequence[Budget]) -> Account:
        units = dict.fromkeys(budget.unit for budget in budgets)
        rows = {unit: self._row(client_id, unit) for unit in units}
        return Account(who=who, id=client_id, budgets=tuple(budgets), rows=rows)

    def _allocated(self, account: Account) -> Account:
        """Return *account* after allocating its rows, so that a full ledger is detected early."""
        for row in account.rows.values():
            self._ledger.reserve(row, 0)
        return account

    def _row(self, client_id: str, unit: str) -> bytes:
        text = f"budget:{unit}:{client_id}".encode()
        return hmac.digest(self._secret, text, "sha256")[:NAME_BYTES]

    def _spending(self, account: Account) -> list[tuple[Budget, Spent]]:
        """Return the budgets of *account* and the spending in their units, each read once."""
        periods = self._calendar.periods()
        spent = {unit: self._ledger.spent(row, periods) for unit, row in account.rows.items()}
        return [(budget, spent[budget.unit]) for budget in account.budgets]

    def _state(
        self, account: Account, budget: Budget, spent: Spent, request: Reservation | None = None
    ) -> BudgetState:
        """Return the state of *budget*, as it was before this process admitted *request*."""
        row = account.rows[budget.unit]
        own = spent.own
        if request is not None:
            own = min(request.ahead[row], max(0, own - request.estimate[budget.unit]))
        others = spent.reserved - spent.own
        others += self._ledger.reserved_for_others(row, budget.period, budget.parts)
        end = self._calendar.end(budget)
        return BudgetState(
            budget=budget,
            spent=spent.within(budget.period),
            reserved=others + own,
            seconds=self._calendar.seconds_left(budget),
            end=end,
            resets_at=datetime.fromtimestamp(end).strftime("%Y-%m-%d %H:%M"),
        )

    def _reserve(self, reservation: Reservation, factor: int) -> None:
        for account in reservation.accounts:
            for unit, row in account.rows.items():
                self._ledger.reserve(row, factor * reservation.estimate[unit])

    def _charge(self, unit: str, prompt: int, used: Used) -> int | None:
        """
        Return the cost of a request, or None if unknown; *prompt* is the estimate for its prompt.

        The provider also bills a request whose client disconnected before the usage was known.
        """
        if _tokens_of(used):
            self._learn(unit, prompt, used)
            return self._amount(unit, used)
        if used.is_abandoned:
            return prompt
        if used.asked and used.ttfb is not None:
            return prompt + self._answer_amount(OUTPUT_TOKENS, unit, used.model)
        return self._amount(unit, used)

    def _prompt_estimate(self, unit: str, model: str, size: int) -> int:
        amount = self._amount_of({"input_tokens": size // BYTES_PER_TOKEN}, unit, model)
        return round(amount * self._ratios.get(unit, 1.0))

    def _answer_amount(self, tokens: int, unit: str, model: str) -> int:
        return self._amount_of({"output_tokens": tokens}, unit, model)

    def _note_length(self, used: Used) -> None:
        """Keep the length of the longest recent answer."""
        longest = self._longest.get(used.model, 0.0) * LENGTH_DECAY
        self._longest[used.model] = max(used.output, longest)

    def _amount_of(self, usage: Mapping[str, int], unit: str, model: str) -> int:
        if unit == TOKENS:
            return to_parts(sum(usage.values()), unit)
        price = self._price(model)
        cost = None if price is None else price.cost(usage, at=self._wall())
        return to_parts(cost or 0.0, unit)

    def _learn(self, unit: str, estimate: int, used: Used) -> None:
        """Update the ratio of actual to estimated prompt amounts: cached input costs a tenth."""
        usage = {
            "input_tokens": used.input,
            "cache_read_input_tokens": used.cached,
            "cache_creation_input_tokens": used.written,
        }
        amount = self._amount_of(usage, unit, used.model)
        if estimate and amount:
            old = self._ratios.get(unit, 1.0)
            new = old * (1 - _SMOOTHING + _SMOOTHING * amount / estimate)
            self._ratios[unit] = min(max(new, _LEAST_RATIO), 1.0)

    def _amount(self, unit: str, used: Used) -> int | None:
        """Return the cost of *used* in *unit*, or None if it is unknown."""
        tokens = _tokens_of(used)
        if unit == TOKENS:
            return tokens
        if used.cost is not None:
            return to_parts(used.cost, unit)
        if tokens and used.model not in self._uncounted and len(self._uncounted) < MOST_UNCOUNTED:
            self._uncounted[used.model] = None
            self._log.warning("budget.price_unknown", model=used.model, unit=unit)
        return None

    def _warn(self, account: Account, periods: Periods) -> None:
        """Log once per period that most of a budget is spent."""
        for budget, spent in self._spending(account):
            mark = (account, budget, periods)
            if mark in self._warned:
                continue
            state = self._state(account, budget, spent)
            if state.share >= WARN_AT:
                self._warned = {mark, *(one for one in self._warned if one[2] == periods)}
                self._log.warning(
                    "budget.low" if state.share < 1 else "budget.spent",
                    budget=str(budget),
                    client=account.who,
                    percent=round(100 * state.share),
                    resets_at=state.resets_at,
                )


def _budgets_of(key: str, budgets: Sequence[Budget]) -> tuple[Budget, ...]:
    """Return the budgets that name the client *key*, or else those for every client key."""
    own = tuple(budget for budget in budgets if budget.applies_to(key))
    return own or tuple(budget for budget in budgets if budget.client == EVERY_CLIENT)


def _tokens_of(used: Used) -> int:
    return used.input + used.output + used.cached + used.written

"""
The provider's report on the account of a key: balance, credits, plan windows and resets.

Each provider has its own endpoint and format. A missing value is unknown, never zero or used up.
Several providers answer an invalid key with status 200, so success is read from the body.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import msgspec

from ccproxy.convert.errors.retry_after import seconds_until

WARN_AT = 0.9
"""Used share of a plan window at which the user is warned."""
MAX_BYTES = 64 * 1024
"""Maximum size of an answer."""


class AccountUnknown(ValueError):
    """The answer contains no data about the account; the message is for the user."""


class Balance(msgspec.Struct, frozen=True):
    """The remaining money or credits."""

    amount: float
    currency: str


class PlanWindow(msgspec.Struct, frozen=True):
    """A plan's allowance for a period of time."""

    name: str
    """For example `5h` or `week`."""
    used: float
    """The used share of the allowance; 1.0 means all of it."""
    resets_at: float | None = None
    """Seconds since the epoch; None if unknown."""


class AccountReport(msgspec.Struct, frozen=True, kw_only=True):
    """The last report about one account."""

    balances: tuple[Balance, ...] = ()
    windows: tuple[PlanWindow, ...] = ()
    at: float = 0.0
    """When the report was received, in seconds since the epoch."""
    is_documented: bool = True
    """False if the vendor does not document the endpoint and may change it."""
    failure: str = ""
    """Why a later attempt to get a report failed; if set, the values are older than that."""

    def used_up(self, wall: float) -> PlanWindow | None:
        """Return the used-up window that resets last, or None."""
        over = [
            window
            for window in self.windows
            if window.used >= 1 and window.resets_at is not None and window.resets_at > wall
        ]
        return max(over, key=lambda window: window.resets_at or 0.0, default=None)

    def low(self) -> tuple[PlanWindow, ...]:
        """Return the windows that are almost used up."""
        return tuple(window for window in self.windows if window.used >= WARN_AT)


Fields = Mapping[str, Any]
_Parts = tuple[Iterable[Balance], Iterable[PlanWindow]]
_Parser = Callable[[Fields, float], _Parts]


class AccountEndpoint(NamedTuple):
    """An endpoint that reports the account of the key with which it is called."""

    hosts: tuple[str, ...]
    """Hosts of the endpoint; a key is sent only to the host of its own base URL."""
    path: str
    parse: _Parser
    is_documented: bool = True
    key_prefix: str = ""
    """Prefix of the keys to which the endpoint applies; empty if it applies to all keys."""
    scheme: str = "Bearer "
    """The text before the key in the Authorization header."""


def account_endpoint(host: str, key: str) -> AccountEndpoint | None:
    """Return the endpoint at *host* for *key*, or None."""
    for endpoint in ENDPOINTS:
        if host.lower() in endpoint.hosts and key.startswith(endpoint.key_prefix):
            return endpoint
    return None


def parse_account(endpoint: AccountEndpoint, body: bytes, *, now: float) -> AccountReport:
    """
    Parse the answer of *endpoint*.

    Raises:
        AccountUnknown: If the answer contains no data about the account.
    """
    try:
        fields = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise AccountUnknown("the answer is not JSON") from error
    try:
        balances, windows = endpoint.parse(_object(fields), now)
        report = AccountReport(
            balances=tuple(balances),
            windows=tuple(windows),
            at=now,
            is_documented=endpoint.is_documented,
        )
    except (TypeError, AttributeError) as error:
        raise AccountUnknown("the answer has an unknown format") from error
    if not report.balances and not report.windows:
        raise AccountUnknown("the answer contains neither a balance nor a plan")
    return report


# Parts of answers.


MOST_RESET = 366 * 86400.0
"""Maximum number of seconds until a reset; more are not plausible."""


def _object(value: object) -> Fields:
    return value if isinstance(value, dict) else {}


def _list(value: object) -> list[Any]:
    return value[:64] if isinstance(value, list) else []


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _money(amount: object, currency: str) -> list[Balance]:
    number = _number(amount)
    return [] if number is None else [Balance(number, currency)]


def _moment(value: object, now: float) -> float | None:
    """Return the time of a reset, given in seconds, in milliseconds or as a date."""
    number = _number(value)
    if number is not None and number <= 0:
        return None
    wait = seconds_until(str(value), now) if value else None
    return None if wait is None else now + wait


def _window(name: str, used: float | None, reset: float | None) -> list[PlanWindow]:
    if used is None:
        return []
    return [PlanWindow(name, min(max(used, 0.0), 1.0), reset)]


def _ratio(part: object, whole: object) -> float | None:
    a, b = _number(part), _number(whole)
    return a / b if a is not None and b else None


def _percent(value: object) -> float | None:
    number = _number(value)
    return None if number is None else number / 100


# The formats. Sources: the vendors' API references and, for undocumented endpoints, published
# parsers of live answers (September to November 2026).


def _currency_list(fields: Fields, _now: float) -> _Parts:
    """Parse `{"balance_infos": [{"currency": "CNY", "total_balance": "110.00"}]}`."""
    infos = map(_object, _list(fields.get("balance_infos")))
    return [
        balance
        for info in infos
        for balance in _money(info.get("total_balance"), str(info.get("currency") or ""))
    ], ()


def _money_at(path: str, currency: str = "USD") -> _Parser:
    """Return the parser of an answer whose only content is an amount at *path*, such as `a.b`."""
    *outer, name = path.split(".")

    def parse(fields: Fields, _now: float) -> _Parts:
        for key in outer:
            fields = _object(fields.get(key))
        return _money(fields.get(name), currency), ()

    return parse


_UNIT_OF_TIME = {"MINUTE": 60, "HOUR": 3600, "DAY": 86400}
_RATIO_NAMES = {"limit_5h": "5h", "limit_7d": "week", "limit_month_total": "month"}


def _code_plan(fields: Fields, now: float) -> _Parts:
    """
    Parse the plan's two formats; if an answer has both, the higher use of a window counts.

    `{"usage": {"limit": "2048", "used": "214", "resetTime": "…"}, "limits": [{"window":
    {"duration": 300, "timeUnit": "TIME_UNIT_MINUTE"}, "detail": {…}}]}`, and
    `{"usages": {"limit_5h": {"used_ratio": 0.12, "reset_time": "…"}}}`.
    """
    windows = _quota("week", _object(fields.get("usage")), now)
    for limit in map(_object, _list(fields.get("limits"))):
        window = _object(limit.get("window"))
        unit = str(window.get("timeUnit") or "").removeprefix("TIME_UNIT_")
        seconds = (_number(window.get("duration")) or 0) * _UNIT_OF_TIME.get(unit, 0)
        if seconds:
            windows += _quota(_length(seconds), _object(limit.get("detail")), now)
    for key, name in _RATIO_NAMES.items():
        usage = _object(_object(fields.get("usages")).get(key))
        reset = _moment(usage.get("reset_time"), now)
        windows += _window(name, _number(usage.get("used_ratio")), reset)
    worst: dict[str, PlanWindow] = {}
    for one in windows:
        if one.name not in worst or worst[one.name].used < one.used:
            worst[one.name] = one
    return (), worst.values()


def _quota(name: str, detail: Fields, now: float) -> list[PlanWindow]:
    limit, remaining = _number(detail.get("limit")), _number(detail.get("remaining"))
    used = _number(detail.get("used"))
    if used is None and limit is not None and remaining is not None:
        used = limit - remaining
    return _window(name, _ratio(used, limit), _moment(detail.get("resetTime"), now))


def _length(seconds: float) -> str:
    hours = seconds / 3600
    return "week" if hours == 168 else f"{hours:g}h"


_QUOTA_UNITS = {3: "h", 5: "month", 6: "week"}
_TOOL_QUOTA = "TIME_LIMIT"


def _limit_list(fields: Fields, now: float) -> _Parts:
    """Parse `{"success": true, "data": {"limits": [{"unit": 3, "number": 5, "percentage": …`."""
    if fields.get("success") is not True:
        raise AccountUnknown("the provider reports no plan for this key")
    windows: list[PlanWindow] = []
    for limit in map(_object, _list(_object(fields.get("data")).get("limits"))):
        unit = _QUOTA_UNITS.get(limit.get("unit") or 0)
        if unit is None or limit.get("type") == _TOOL_QUOTA:  # limits searches, not models
            continue
        name = f"{limit.get('number') or 1}h" if unit == "h" else unit
        reset = _moment(limit.get("nextResetTime"), now)
        windows += _window(name, _percent(limit.get("percentage")), reset)
    return (), windows


def _remaining_percent(fields: Fields, now: float) -> _Parts:
    """
    Parse `{"model_remains": [{"model_name": "general", "current_interval_remaining_percent": …`.

    The counts mean the remaining quota in one version of the endpoint, but the used quota in
    another, so only the percentages are read.
    """
    rows = map(_object, _list(fields.get("model_remains")))
    row = next((row for row in rows if row.get("model_name") == "general"), {})
    windows: list[PlanWindow] = []
    for name, kind, end in (
        ("5h", "current_interval", "end_time"),
        ("week", "current_weekly", "weekly_end_time"),
    ):
        remaining_share = _percent(row.get(f"{kind}_remaining_percent"))
        used = None if remaining_share is None else 1 - remaining_share
        windows += _window(name, used, _moment(row.get(end), now))
    return (), windows


def _rolling_usage(fields: Fields, now: float) -> _Parts:
    """
    Parse `{"usage": {"rolling": {"percent": 12, "resetsAt": "…"}, "weekly": {…}, "monthly": {…}}}`.

    The older format is `{"rollingUsage": {"usagePercent": 12, "resetInSec": 3600}, …}`.
    """
    usage, windows = _object(fields.get("usage")), list[PlanWindow]()
    for key, name in (("rolling", "5h"), ("weekly", "week"), ("monthly", "month")):
        new, old = _object(usage.get(key)), _object(fields.get(f"{key}Usage"))
        windows += _window(name, _percent(new.get("percent")), _moment(new.get("resetsAt"), now))
        reset = _number(old.get("resetInSec"))
        end = now + min(reset, MOST_RESET) if reset else None
        windows += _window(name, _percent(old.get("usagePercent")), end)
    return (), windows


ENDPOINTS: tuple[AccountEndpoint, ...] = (
    # https://api-docs.deepseek.com/api/get-user-balance
    AccountEndpoint(("api.deepseek.com",), "/user/balance", _currency_list),
    # https://platform.moonshot.cn/docs/api/balance
    AccountEndpoint(
        ("api.moonshot.ai",), "/v1/users/me/balance", _money_at("data.available_balance")
    ),
    AccountEndpoint(
        ("api.moonshot.cn",), "/v1/users/me/balance", _money_at("data.available_balance", "CNY")
    ),
    AccountEndpoint(
        ("api.kimi.com", "api.kimi.ai"), "/coding/v1/usages", _code_plan, is_documented=False
    ),
    AccountEndpoint(
        ("api.z.ai", "open.bigmodel.cn"),
        "/api/monitor/usage/quota/limit",
        _limit_list,
        is_documented=False,
        scheme="",
    ),
    # https://platform.minimax.io, FAQ of the coding plan
    AccountEndpoint(
        ("api.minimax.io", "api.minimax.cn", "api.minimaxi.com"),
        "/v1/token_plan/remains",
        _remaining_percent,
        key_prefix="sk-cp-",
    ),
    AccountEndpoint(
        ("api.minimax.io",),
        "/account/query_balance",
        _money_at("available_amount"),
        is_documented=False,
        key_prefix="sk-api-",
    ),
    AccountEndpoint(
        ("api.minimax.cn", "api.minimaxi.com"),
        "/account/query_balance",
        _money_at("available_amount", "CNY"),
        is_documented=False,
        key_prefix="sk-api-",
    ),
    # https://openrouter.ai/docs/api-reference/limits; null: the key has no limit of its own
    AccountEndpoint(("openrouter.ai",), "/api/v1/key", _money_at("data.limit_remaining")),
    # https://vercel.com/docs/ai-gateway
    AccountEndpoint(("ai-gateway.vercel.sh",), "/v1/credits", _money_at("balance")),
    AccountEndpoint(("opencode.ai",), "/zen/go/v1/usage", _rolling_usage, is_documented=False),
    # https://docs.siliconflow.com, user info; the endpoint in China was shut down in August 2026
    AccountEndpoint(("api.siliconflow.com",), "/v1/user/info", _money_at("data.totalBalance")),
    AccountEndpoint(
        ("api.stepfun.com",), "/v1/accounts", _money_at("balance", "CNY"), is_documented=False
    ),
)

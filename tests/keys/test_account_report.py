"""Account reports in every provider's form, and no conclusions from missing values."""

from __future__ import annotations

import json

import pytest

from ccproxy.keys.account_report import (
    ENDPOINTS,
    AccountReport,
    AccountUnknown,
    Balance,
    PlanWindow,
    account_endpoint,
    parse_account,
)

NOW = 1_795_000_000.0  # 2026-11-18T11:06:40Z
LATER = NOW + 3600
ISO = "2026-11-18T12:06:40Z"
MS = int(LATER * 1000)


def read(host, answer, key="sk-cp-1"):
    endpoint = account_endpoint(host, key)
    assert endpoint is not None
    body = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
    report = parse_account(endpoint, body, now=NOW)
    assert report.at == NOW
    balances = [(one.amount, one.currency) for one in report.balances]
    return balances, [(one.name, round(one.used, 4), one.resets_at) for one in report.windows]


@pytest.mark.parametrize(
    ("host", "answer", "balances"),
    [
        pytest.param(
            "api.deepseek.com",
            {
                "is_available": True,
                "balance_infos": [
                    {"currency": "CNY", "total_balance": "110.00", "granted_balance": "10.00"},
                    {"currency": "USD", "total_balance": "0.00"},
                ],
            },
            [(110.0, "CNY"), (0.0, "USD")],
            id="two currencies are not added",
        ),
        pytest.param(
            "api.moonshot.ai",
            {"code": 0, "data": {"available_balance": 49.6, "cash_balance": -3.0}, "status": True},
            [(49.6, "USD")],
            id="the international host",
        ),
        pytest.param(
            "api.moonshot.cn",
            {"data": {"available_balance": "-3.5"}},
            [(-3.5, "CNY")],
            id="the Chinese host, negative",
        ),
        pytest.param(
            "openrouter.ai",
            {"data": {"limit": 10, "limit_remaining": 4.2, "usage": 5.8}},
            [(4.2, "USD")],
            id="the limit of a key",
        ),
        pytest.param(
            "ai-gateway.vercel.sh", {"balance": "95.50"}, [(95.5, "USD")], id="a plain balance"
        ),
        pytest.param(
            "api.siliconflow.com",
            {"code": 20000, "data": {"balance": "0.8", "totalBalance": "0.88"}},
            [(0.88, "USD")],
            id="the total of two balances",
        ),
        pytest.param("api.stepfun.com", {"balance": 12}, [(12.0, "CNY")], id="an integer"),
    ],
)
def test_balances(host, answer, balances):
    assert read(host, answer) == (balances, [])


@pytest.mark.parametrize(
    ("host", "balance"), [("api.minimax.io", (12.3, "USD")), ("api.minimaxi.com", (12.3, "CNY"))]
)
def test_the_prefix_of_the_key_selects_plan_or_balance(host, balance):
    answer = {"available_amount": "12.30", "base_resp": {"status_code": 0}}
    assert read(host, answer, key="sk-api-1") == ([balance], [])
    assert account_endpoint(host, "sk-other-1") is None


CODE_OLD = {
    "usage": {"limit": "2048", "used": "214", "remaining": "1834", "resetTime": ISO},
    "limits": [
        {
            "window": {"duration": 300, "timeUnit": "TIME_UNIT_MINUTE"},
            "detail": {"limit": "200", "remaining": "61", "resetTime": ISO},
        },
        {"window": {"duration": 7, "timeUnit": "FORTNIGHT"}, "detail": {"limit": 1, "used": 1}},
        {"window": {"duration": 168, "timeUnit": "HOUR"}, "detail": {"limit": "x", "used": 1}},
    ],
}
CODE_NEW = {"usages": {"limit_5h": {"used_ratio": 0.12, "reset_time": ISO}, "limit_7d": {}}}


@pytest.mark.parametrize(
    ("host", "answer", "windows"),
    [
        pytest.param(
            "api.kimi.com",
            CODE_OLD,
            [("week", 0.1045, LATER), ("5h", 0.695, LATER)],
            id="numbers as texts, used may be absent",
        ),
        pytest.param("api.kimi.ai", CODE_NEW, [("5h", 0.12, LATER)], id="ratios"),
        pytest.param(
            "api.kimi.com",
            {**CODE_OLD, **CODE_NEW},
            [("week", 0.1045, LATER), ("5h", 0.695, LATER)],
            id="of two values the worse one counts",
        ),
        pytest.param(
            "api.z.ai",
            {
                "success": True,
                "data": {
                    "limits": [
                        {"type": "TOKENS_LIMIT", "unit": 3, "number": 5, "percentage": 37,
                         "nextResetTime": MS},
                        {"type": "TOKENS_LIMIT", "unit": 6, "number": 1, "percentage": 100,
                         "nextResetTime": 0},
                        {"type": "TIME_LIMIT", "unit": 5, "number": 1, "percentage": 90},
                        {"type": "NEW_LIMIT", "unit": 99, "percentage": 90},
                    ]
                },
            },
            [("5h", 0.37, LATER), ("week", 1.0, None)],
            id="percent used, milliseconds, and the quota of tools left out",
        ),
        pytest.param(
            "api.minimax.io",
            {
                "model_remains": [
                    {"model_name": "video", "current_interval_remaining_percent": 1},
                    {"model_name": "general", "current_interval_remaining_percent": 92,
                     "current_interval_usage_count": 1380, "end_time": MS},
                ]
            },
            [("5h", 0.08, LATER)],
            id="percent left; counts are ambiguous and not used",
        ),
        pytest.param(
            "opencode.ai",
            {"usage": {"rolling": {"percent": 12, "resetsAt": ISO}, "weekly": {"percent": 3}}},
            [("5h", 0.12, LATER), ("week", 0.03, None)],
            id="the new form",
        ),
        pytest.param(
            "opencode.ai",
            {"rollingUsage": {"usagePercent": 130, "resetInSec": 3600}, "monthlyUsage": {}},
            [("5h", 1.0, LATER)],
            id="the old form, more than all",
        ),
    ],
)  # fmt: skip
def test_plan_windows(host, answer, windows):
    assert read(host, answer) == ([], windows)


@pytest.mark.parametrize(
    ("host", "answer", "reason"),
    [
        pytest.param("api.deepseek.com", b"<html>", "not JSON", id="a page"),
        pytest.param("api.deepseek.com", b"[" * 60_000, "not JSON", id="deep nesting"),
        pytest.param("api.deepseek.com", b"[]", "neither", id="a list"),
        pytest.param(
            "api.deepseek.com",
            {"balance_infos": [7, {"total_balance": "NaN"}]},
            "neither",
            id="NaN",
        ),
        pytest.param(
            "api.moonshot.ai",
            {"code": 401, "data": {"available_balance": None}},
            "neither",
            id="status 200 for a bad key",
        ),
        pytest.param(
            "api.moonshot.ai", {"data": {"available_balance": True}}, "neither", id="bool"
        ),
        pytest.param("api.moonshot.ai", {"data": {"available_balance": "x"}}, "neither", id="text"),
        pytest.param(
            "api.moonshot.ai", {"data": {"available_balance": 10**400}}, "neither", id="too large"
        ),
        pytest.param("api.z.ai", {"success": False, "msg": "x"}, "no plan", id="no plan"),
        pytest.param(
            "api.z.ai",
            {"success": True, "data": {"limits": [{"unit": [1], "percentage": 1}]}},
            "unknown format",
            id="another type",
        ),
        pytest.param("api.minimax.io", {"model_remains": []}, "neither", id="no row"),
        pytest.param("openrouter.ai", {"data": {"limit_remaining": None}}, "neither", id="null"),
    ],
)
def test_a_missing_value_is_unknown(host, answer, reason):
    with pytest.raises(AccountUnknown, match=reason):
        read(host, answer)


def test_a_key_goes_to_its_own_host_only():
    assert account_endpoint("api.example.com", "sk-1") is None
    assert account_endpoint("API.DeepSeek.com", "sk-1") is not None
    assert all(host == host.lower() for endpoint in ENDPOINTS for host in endpoint.hosts)


@pytest.mark.parametrize(
    ("windows", "name"),
    [
        ([PlanWindow("5h", 1.0, LATER), PlanWindow("week", 1.0, LATER + 9)], "week"),
        ([PlanWindow("5h", 1.0, NOW - 1), PlanWindow("week", 0.99, LATER)], None),
        ([PlanWindow("5h", 1.0, None)], None),
        ([], None),
    ],
    ids=["the last reset", "reset already, or not used up", "unknown reset", "nothing"],
)
def test_the_exhausted_window_is_reported(windows, name):
    report = AccountReport(windows=tuple(windows), balances=(Balance(0.0, "USD"),))
    window = report.used_up(NOW)
    assert (window.name if window else None) == name


def test_low_windows():
    windows = (PlanWindow("5h", 0.9), PlanWindow("week", 0.89))
    assert AccountReport(windows=windows).low() == windows[:1]

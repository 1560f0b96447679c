"""Accounts over HTTP: read from scripted endpoints, shown, stored, and applied to the keys."""

from __future__ import annotations

import json
import os
import signal
import time
from functools import partial

import pytest

from ccproxy.config.fleet import Entry
from ccproxy.config.worker_config import load_worker
from ccproxy.ipc.control_messages import KeysRequest
from ccproxy.worker.key_report import answer_keys
from ccproxy.worker.upstream.account_client import AccountClient
from tests.fleet import FleetHome, eventually
from tests.messages import prompt
from tests.provider import completion, failure, raw

KEYS = ("sk-plan-of-alice-aaaa", "sk-plan-of-bobby-bbbb")
PLAN = "/api/monitor/usage/quota/limit"
FAST = {"ACCOUNT_CHECK": "on", "ACCOUNT_INTERVAL": "0.02"}


def plan(percent, *, reset=3600.0):
    """Return the answer of a plan's endpoint; without a plan if *percent* is None."""
    if percent is None:
        return raw(json.dumps({"success": False, "code": 1001, "msg": "no plan"}))
    limits = [
        {"unit": 3, "number": 5, "percentage": percent, "nextResetTime": _ms(time.time() + reset)},
        {"unit": 6, "percentage": 12, "nextResetTime": _ms(time.time() + 86400)},
    ]
    return raw(json.dumps({"success": True, "data": {"limits": limits}}))


def _ms(at):
    return int(at * 1000)


def of_keys(percents):
    """Answer each key with its own figures, which the test can change."""
    return lambda call: plan(percents[call.headers["authorization"]])


async def keys(proxy):
    return {row.id: row for row in (await answer_keys(proxy.worker, KeysRequest())).keys}


async def test_balances_are_read_and_shown(start, provider):
    provider.pages["/user/balance"] = raw(
        '{"balance_infos": [{"currency": "CNY", "total_balance": "110.00"}]}'
    )
    proxy = await start(PROVIDER="deepseek", **FAST)
    await proxy.ask()
    row = (await eventually(lambda: _read(proxy)))["k1"]
    assert [(one.amount, one.currency) for one in row.account.balances] == [(110.0, "CNY")]
    assert row.account.is_documented
    assert abs(row.account.at - time.time()) < 60
    (call,) = provider.other[:1]
    assert (call.path, call.query) == ("/user/balance", "")
    assert call.headers["authorization"] == "Bearer sk-provider-0123456789"


async def test_an_account_is_read_once_per_interval(start, provider, monkeypatch):
    monkeypatch.setattr("ccproxy.worker.accounting.account_watch.POLL_SECONDS", 0.001)
    provider.pages["/user/balance"] = raw('{"balance_infos": []}')
    proxy = await start(PROVIDER="deepseek", ACCOUNT_CHECK="on", ACCOUNT_INTERVAL="3600")
    await proxy.ask()
    await eventually(lambda: provider.other)
    for _ in range(20):
        await proxy.ask()
    assert len(provider.other) == 1


async def _read(proxy):
    rows = await keys(proxy)
    return rows if all(row.account for row in rows.values()) else None


async def test_a_key_with_an_exhausted_plan_cools_down_until_the_reset(start, provider):
    percents = {KEYS[0]: 100, KEYS[1]: 95}
    provider.pages[PLAN] = of_keys(percents)
    proxy = await start(PROVIDER="zai", PROVIDER_API_KEY=",".join(KEYS), **FAST)
    await proxy.ask()
    rows = await eventually(lambda: _read(proxy))
    assert (rows["k1"].state, rows["k2"].state) == ("out", "ready")
    (cooldown,) = rows["k1"].cooldowns
    assert (cooldown.cause, cooldown.status, cooldown.model) == ("quota", 0, None)
    assert 3500 < cooldown.seconds <= 3600
    assert not rows["k1"].account.is_documented
    low = await proxy.logged("account.low")
    assert (low["key"], low["window"], low["percent"]) == ("…bbbb", "5h", 95)
    provider.calls.clear()
    for _ in range(4):
        assert (await proxy.ask()).status == 200
    assert {call.headers["authorization"] for call in provider.calls} == {f"Bearer {KEYS[1]}"}
    # The user buys more credit: the key is used again.
    percents[KEYS[0]] = 20
    await eventually(lambda: _is_ready(proxy))


async def _is_ready(proxy):
    await proxy.ask()
    return (await keys(proxy))["k1"].state == "ready"


async def test_a_failed_read_keeps_the_last_report(start, provider):
    percents = {"sk-provider-0123456789": 40}
    provider.pages[PLAN] = of_keys(percents)
    proxy = await start(PROVIDER="zai", **FAST)
    await proxy.ask()
    await eventually(lambda: _read(proxy))
    for answer in (failure(403), plan(None), raw("<html>"), raw("x" * 70_000)):
        provider.pages[PLAN] = answer
        before = len(provider.other)
        await eventually(partial(_asked_again, proxy, provider, before))
    row = (await keys(proxy))["k1"]
    assert row.state == "ready"
    assert row.account.windows[0].used == 0.4
    assert row.account.failure
    assert len(proxy.lines("account.unknown")) == 1


async def _asked_again(proxy, provider, before):
    await proxy.ask()
    return len(provider.other) > before + 1


async def test_a_redirect_is_not_followed(start, provider):
    provider.pages["/user/balance"] = raw(
        b"", status=302, headers={"Location": f"{provider.url}/elsewhere"}
    )
    proxy = await start(PROVIDER="deepseek", **FAST)
    await proxy.ask()
    row = (await eventually(lambda: _read(proxy)))["k1"]
    assert row.account.failure == "the provider answered with status 302"
    assert (row.account.at, row.account.balances) == (0.0, ())
    assert {call.path for call in provider.other} == {"/user/balance"}


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param({"ACCOUNT_CHECK": "auto"}, id="auto, at another host"),
        pytest.param({"ACCOUNT_CHECK": "off"}, id="off"),
        pytest.param({"ACCOUNT_CHECK": "on", "PROVIDER": ""}, id="an unknown provider"),
    ],
)
async def test_without_a_known_endpoint_no_request_is_sent(start, provider, settings):
    proxy = await start(**{"PROVIDER": "deepseek", "ACCOUNT_INTERVAL": "0.01", **settings})
    for _ in range(3):
        await proxy.ask()
    await proxy.worker.accounts.read()
    assert provider.other == []
    assert (await keys(proxy))["k1"].account is None


MINIMAX_PLAN = {
    "model_remains": [{"model_name": "general", "current_interval_remaining_percent": 60}]
}
Z_PLAN = {"success": True, "data": {"limits": [{"unit": 3, "number": 5, "percentage": 40}]}}
CODE_PLAN = {"usages": {"limit_5h": {"used_ratio": 0.4}}}
MOONSHOT = {"data": {"available_balance": 4.5}}


@pytest.mark.parametrize(
    ("provider_name", "host", "key", "path", "answer", "is_documented"),
    [
        ("deepseek", "api.deepseek.com", "sk-1", "/user/balance",
         {"balance_infos": [{"currency": "USD", "total_balance": "4.5"}]}, True),
        ("kimi", "api.moonshot.ai", "sk-1", "/v1/users/me/balance", MOONSHOT, True),
        ("kimi", "api.moonshot.cn", "sk-1", "/v1/users/me/balance", MOONSHOT, True),
        ("kimi-code", "api.kimi.com", "sk-1", "/coding/v1/usages", CODE_PLAN, False),
        ("kimi-code", "api.kimi.ai", "sk-1", "/coding/v1/usages", CODE_PLAN, False),
        ("zai", "api.z.ai", "sk-1", PLAN, Z_PLAN, False),
        ("bigmodel", "open.bigmodel.cn", "sk-1", PLAN, Z_PLAN, False),
        ("minimax", "api.minimax.io", "sk-cp-1", "/v1/token_plan/remains", MINIMAX_PLAN, True),
        ("minimax", "api.minimax.cn", "sk-cp-1", "/v1/token_plan/remains", MINIMAX_PLAN, True),
        ("minimax", "api.minimax.io", "sk-api-1", "/account/query_balance",
         {"available_amount": "4.5"}, False),
        ("minimax", "api.minimax.cn", "sk-api-1", "/account/query_balance",
         {"available_amount": "4.5"}, False),
        ("openrouter", "openrouter.ai", "sk-1", "/api/v1/key",
         {"data": {"limit_remaining": 4.5}}, True),
        ("vercel", "ai-gateway.vercel.sh", "sk-1", "/v1/credits", {"balance": "4.5"}, True),
        ("opencode-go", "opencode.ai", "sk-1", "/zen/go/v1/usage",
         {"usage": {"rolling": {"percent": 40}}}, False),
        ("siliconflow", "api.siliconflow.com", "sk-1", "/v1/user/info",
         {"data": {"totalBalance": "4.5"}}, True),
        ("stepfun", "api.stepfun.com", "sk-1", "/v1/accounts", {"balance": 4.5}, False),
    ],
)  # fmt: skip
async def test_every_endpoint_is_requested_at_its_path(
    provider_name, host, key, path, answer, is_documented, provider, tmp_path
):
    """Undocumented endpoints are used only after the user has enabled them."""

    def client_at(url, check):
        environ = {
            "PROVIDER": provider_name,
            "PROVIDER_BASE_URL": url,
            "PROVIDER_API_KEY": f"{key}-0123456789",
            "ACCOUNT_CHECK": check,
        }
        entry = Entry(port=1, env_file=tmp_path / "x.env", label="x")
        return AccountClient(load_worker(None, entry=entry, environ=environ))

    own = f"https://{host}/v1"
    by_default = client_at(own, "auto").endpoint(f"{key}-0123456789")
    assert (by_default is not None) is is_documented
    assert client_at(own, "off").endpoint(f"{key}-0123456789") is None
    endpoint = client_at(own, "on").endpoint(f"{key}-0123456789")
    assert endpoint is not None
    provider.pages[path] = raw(json.dumps(answer))
    report = await client_at(f"{provider.url}/v1", "on").ask(endpoint, f"{key}-0123456789")
    assert [one.amount for one in report.balances] + [one.used for one in report.windows] in (
        [4.5],
        [0.4],
    )
    assert report.is_documented is is_documented
    (call,) = provider.other
    scheme = "" if path == PLAN else "Bearer "
    assert (call.path, call.query) == (path, "")
    assert call.headers["authorization"] == f"{scheme}{key}-0123456789"


async def test_limits_in_headers_are_shown_and_an_exhausted_key_cools_down(start, provider):
    headers = {
        "x-ratelimit-limit-requests": "100",
        "x-ratelimit-remaining-requests": "40",
        "x-ratelimit-reset-requests": "6m0s",
    }
    provider.script(
        completion("a", headers=headers),
        completion("b", headers={**headers, "x-ratelimit-remaining-requests": "0"}),
        completion("c"),
    )
    proxy = await start(PROVIDER_API_KEY=",".join(KEYS))
    await proxy.ask()
    (limit,) = (await keys(proxy))["k1"].limits
    assert (limit.name, limit.used, limit.is_low) == ("requests", 0.6, False)
    await proxy.ask()
    row = (await keys(proxy))["k2"]
    assert (row.state, row.cooldowns[0].cause, row.cooldowns[0].status) == (
        "cooldown",
        "rate_limit",
        0,
    )
    assert 350 < row.cooldowns[0].seconds <= 360
    for _ in range(3):
        await proxy.ask()
    assert [call.headers["authorization"][-4:] for call in provider.calls] == [
        *("aaaa", "bbbb", "aaaa", "aaaa", "aaaa"),
    ]


async def test_a_fleet_shows_accounts_and_preserves_them_after_a_kill(tmp_path, provider, proxy):
    percents = {KEYS[0]: 100, KEYS[1]: 95}
    provider.pages[PLAN] = of_keys(percents)
    async with FleetHome(tmp_path / "fleet") as home:
        home.path.mkdir()
        home.write(
            glm={
                "PROVIDER": "zai",
                "PROVIDER_BASE_URL": provider.url,
                "PROVIDER_API_KEY": ",".join(KEYS),
                "ACCOUNT_CHECK": "on",
                "ACCOUNT_INTERVAL": "0.1",
            }
        )
        assert (await home.ccproxy("start")).code == 0
        url = f"{home.url('glm')}/v1/messages"
        async with proxy.session.post(url, json=prompt()) as got:
            assert got.status == 200
        row = await eventually(lambda: _with_accounts(home))
        assert [one["id"] for one in row["accounts"]] == ["k1", "k2"]
        assert row["accounts"][0]["windows"][0]["used"] == 1.0
        output = await home.ccproxy("-v", "keys", "glm")
        assert "account: 5h 100 % used, resets" in output.out
        assert "undocumented" in output.out
        status = (await home.ccproxy("status")).out
        assert "! glm: key k2 …bbbb: 5h 95 % used, resets" in status
        await eventually(lambda: _in_usage(home, "glm  k2 …bbbb: 5h 95 % used, resets"))
        provider.pages.clear()
        await eventually(lambda: _saved(home))
        pid = await home.worker_pid("glm")
        os.kill(pid, signal.SIGKILL)
        row = await eventually(lambda: _after(home, pid))
        assert [one["windows"][0]["used"] for one in row["accounts"]] == [1.0, 0.95]
        assert row["keys"] == {"ready": 1, "total": 2}
        assert not any(key in json.dumps(row) for key in KEYS)


async def _in_usage(home, text):
    return text in (await home.ccproxy("usage")).out


async def _with_accounts(home):
    row = await home.proxy("glm")
    return row if len(row["accounts"]) == 2 else None


async def _after(home, old):
    row = await home.proxy("glm")
    return row if row["pids"] not in ([], [old]) and row["accounts"] else None


def _saved(home):
    import sqlite3
    from contextlib import closing

    with closing(sqlite3.connect(home.path / "state/glm.keys.sqlite")) as connection:
        rows = connection.execute("SELECT state FROM keys").fetchall()
    return sum('"windows": [' in state for (state,) in rows) == 2

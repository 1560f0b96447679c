"""Budgets over HTTP: spent by finished requests, reserved by running ones, preserved by a kill."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time

import pytest

from ccproxy.config.fleet import Entry
from ccproxy.config.worker_config import load_worker
from ccproxy.errors import ConfigError
from ccproxy.ipc.activity import FailedAttempt
from ccproxy.ipc.control_messages import ClientSessionRequest
from ccproxy.worker.server.access_record import AccessRecord
from ccproxy.worker.session_report import client_session_state
from tests.fleet import FleetHome, eventually
from tests.messages import prompt
from tests.provider import chunk, completion, failure, stream
from tests.worker.family import Family

USAGE = {
    "prompt_tokens": 1000,
    "completion_tokens": 100,
    "prompt_tokens_details": {"cached_tokens": 600},
}
PRICES = "gpt-4o-mini=1/10/0.5,gpt-4o=1000/10000/100"
COST = 400 * 1000e-6 + 100 * 10000e-6 + 600 * 100e-6
"""The usage of one request, which costs 1.46 USD."""
ALICE, BOB = "ccp_alice_0123456789", "ccp_bob_9876543210xyz"


def rows(proxy):
    """Return the amounts of all budgets."""
    return [
        (row.client, row.unit, row.period, round(row.spent, 6))
        for row in proxy.worker.payers.rows()
    ]


async def ended(proxy):
    """Wait until no request is running, since the last byte arrives before the record ends."""
    await eventually(lambda: not proxy.worker.requests.tasks)


@pytest.mark.parametrize("streams", [False, True], ids=["whole", "stream"])
async def test_a_budget_in_money_ends_with_a_billing_error(start, provider, streams):
    proxy = await start(PRICES=PRICES, BUDGET="4 USD/day, 100 USD/month")
    provider.script(completion("Hello", usage=USAGE))
    for _ in range(3):
        assert (await proxy.ask(prompt(stream=streams))).status == 200
        await ended(proxy)
    assert rows(proxy) == [
        ("", "USD", "day", pytest.approx(3 * COST)),
        ("", "USD", "month", pytest.approx(3 * COST)),
    ]
    refused = await proxy.ask(prompt(stream=streams))
    assert (refused.status, refused.error["type"]) == (429, "billing_error")
    assert (
        "The budget of the proxy Test is spent: 4.38 USD of 4 USD per day"
        in refused.error["message"]
    )
    assert "ccproxy reload Test" in refused.error["message"]
    assert refused.headers["x-should-retry"] == "false"
    assert 0 < int(refused.headers["retry-after"]) <= 90_000
    assert len(provider.calls) == 3
    assert (await proxy.logged("budget.spent"))["percent"] == 110
    assert rows(proxy)[0][3] == pytest.approx(3 * COST), "a refused request costs nothing"


async def test_the_warning_begins_at_80_per_cent(start, provider):
    """The 1,100 tokens of a request are 79.7 % of one budget and 80 % of the other."""
    proxy = await start(BUDGET="1380 tokens/day, 1375 tokens/month")
    provider.script(completion("Hello", usage=USAGE))
    await proxy.ask()
    await ended(proxy)
    assert [(row.period, row.is_low) for row in proxy.worker.payers.rows()] == [
        ("day", False),
        ("month", True),
    ]
    line = await proxy.logged("budget.low")
    assert (line["budget"], line["percent"]) == ("1.37k tokens per month", 80)
    assert len(proxy.lines("budget.low")) == 1
    state = await client_session_state(proxy.worker, ClientSessionRequest(id="any"))
    assert [(row.period, row.spent) for row in state.low_budgets] == [("month", 1100)]


async def test_an_absurd_usage_is_charged_and_breaks_no_request(start, provider):
    proxy = await start(PRICES="gpt-4o-mini=15/75,gpt-4o=15/75", BUDGET="4 USD/day")
    usage = {"prompt_tokens": 900_000_000_000_000, "completion_tokens": 900_000_000_000_000}
    provider.script(completion("Hello", usage=usage))
    assert (await proxy.ask()).status == 200
    await ended(proxy)
    assert (await proxy.ask()).status == 429


async def test_an_answer_abandoned_before_its_usage_costs_the_estimate(start, provider):
    """The provider bills the request, so a client could otherwise spend without limit."""
    proxy = await start(BUDGET="1M tokens/day")
    body = prompt("x" * 40_000, stream=True, stream_options=None)
    never = asyncio.Event()
    provider.script(stream(chunk("tick"), never))
    path = "/v1/chat/completions"
    async with proxy.post(path, body) as answer:
        await answer.content.readany()
    await ended(proxy)
    ((_, _, _, spent),) = rows(proxy)
    assert spent > 40_000 / 8


async def test_a_request_abandoned_before_its_answer_costs_its_prompt(start, provider):
    """The provider has received the request and bills it."""
    proxy = await start(BUDGET="1M tokens/day")
    provider.script(stream(asyncio.Event()))
    asking = asyncio.create_task(proxy.ask(prompt("x" * 40_000, stream=True)))
    await eventually(lambda: provider.calls)
    asking.cancel()
    await ended(proxy)
    ((_, _, _, spent),) = rows(proxy)
    assert 10_000 <= spent < 10_500


@pytest.mark.parametrize(
    ("attempts", "failures", "begun", "is_abandoned"),
    [
        pytest.param(0, 0, False, False, id="the provider never had it"),
        pytest.param(1, 0, False, True, id="the provider has it"),
        pytest.param(2, 2, False, False, id="between two attempts"),
        pytest.param(2, 1, False, True, id="in the second attempt"),
        pytest.param(1, 0, True, False, id="the answer has begun"),
    ],
)
def test_when_a_request_is_abandoned(attempts, failures, begun, is_abandoned):
    record = AccessRecord(request_id="req_1", method="POST", path="/v1/messages")
    for _ in range(attempts):
        record.attempt("…0001")
    for _ in range(failures):
        record.attempt_failed(FailedAttempt(at=0.0, key="…0001", status=503))
    if begun:
        record.write_chunk()
    assert not record.is_abandoned
    record.client_left()
    assert record.is_abandoned == is_abandoned


async def test_a_reservation_is_as_long_as_the_longest_of_the_last_answers(start, provider):
    proxy = await start(BUDGET="20k tokens/day")
    long = {"prompt_tokens": 100, "completion_tokens": 8000, "total_tokens": 8100}
    provider.script(completion("Hello", usage=long))
    await proxy.ask()
    await ended(proxy)
    gate = asyncio.Event()
    provider.script(
        stream(chunk("Hel"), gate, chunk("lo", finish="stop"), {**chunk(), "usage": USAGE})
    )
    asking = asyncio.create_task(proxy.ask(prompt(stream=True)))
    await eventually(lambda: proxy.worker.payers.rows()[0].reserved)
    (row,) = proxy.worker.payers.rows()
    assert (row.spent, 8000 <= row.reserved < 8200) == (8100, True)
    gate.set()
    await asking
    await ended(proxy)


async def test_tokens_of_openai_clients_count_too(start, provider):
    proxy = await start(BUDGET="2k tokens/day")
    provider.script(completion("Hello", usage=USAGE))
    body = {"model": "gpt-4o", "messages": [{"role": "user", "content": "Hi"}]}
    for status in (200, 200, 429):
        async with proxy.post("/v1/chat/completions", body) as got:
            answer = await got.json()
            assert got.status == status
        await ended(proxy)
    assert answer["error"]["type"] == "billing_error"
    assert rows(proxy) == [("", "tokens", "day", 2200)]


async def test_each_client_key_has_its_budget(start, provider):
    proxy = await start(
        ANTHROPIC_API_KEY=f"{ALICE},{BOB}", CLIENT_BUDGETS="…0xyz=1k tokens/day, *=3k tokens/month"
    )
    provider.script(completion("Hello", usage=USAGE))

    async def ask(key):
        answer = await proxy.ask(headers={"Authorization": f"Bearer {key}"})
        await ended(proxy)
        return answer

    assert [(await ask(BOB)).status for _ in range(2)] == [200, 429]
    assert "the client key …0xyz on the proxy Test" in (await ask(BOB)).error["message"]
    assert [(await ask(ALICE)).status for _ in range(4)] == [200, 200, 200, 429]
    assert rows(proxy) == [("…6789", "tokens", "month", 3300), ("…0xyz", "tokens", "day", 1100)]


async def test_requests_in_flight_reserve_the_rest(start, provider):
    """With an estimate of 1,000 output tokens, two requests reserve a budget of 1,500."""
    proxy = await start(BUDGET="1500 tokens/day")
    gate = asyncio.Event()
    provider.script(
        stream(chunk("Hel"), gate, chunk("lo", finish="stop"), {**chunk(), "usage": USAGE})
    )
    running = [asyncio.create_task(proxy.ask(prompt(stream=True))) for _ in range(2)]
    await eventually(lambda: len(provider.calls) == 2)
    waiting = await proxy.ask(prompt(stream=True))
    assert (waiting.status, waiting.error["type"]) == (429, "rate_limit_error")
    assert waiting.headers["x-should-retry"] == "true"
    (row,) = proxy.worker.payers.rows()
    assert (row.spent, row.reserved > 2000) == (0, True)
    gate.set()
    assert [(await task).status for task in running] == [200, 200]
    await ended(proxy)
    (row,) = proxy.worker.payers.rows()
    assert (row.spent, row.reserved, row.is_low) == (2200, 0, True)


@pytest.mark.parametrize("fault", ["refused", "left"])
async def test_a_reservation_ends_with_every_request(start, provider, fault):
    proxy = await start(BUDGET="1M tokens/day")
    if fault == "refused":
        provider.script(failure(400))
        assert (await proxy.ask()).status == 400
    else:
        provider.script(stream(chunk("Hel"), asyncio.Event()))
        async with proxy.post("/v1/messages", prompt(stream=True)) as got:
            await got.content.readany()
    await ended(proxy)
    (row,) = proxy.worker.payers.rows()
    assert row.reserved == 0


async def test_a_model_without_a_price_is_reported(start, provider):
    proxy = await start(PRICES="gpt-4o=1/10,gpt-4o-mini=1/10/0.5", BUDGET="5 USD/day")
    provider.script(completion("Hello", usage=USAGE))
    await proxy.ask()
    await proxy.ask()
    await ended(proxy)
    assert (await proxy.logged("budget.price_unknown"))["model"] == "gpt-4o"
    assert len(proxy.lines("budget.price_unknown")) == 1
    (row,) = proxy.worker.payers.rows()
    assert (row.spent, row.uncounted) == (0, ("gpt-4o",))


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"BUDGET": "5/day"}, 'BUDGET must be like "5 USD/day" or "2M tokens/month", got "5/day"'),
        ({"BUDGET": "5 USD/day"}, "BUDGET is in USD, but the price of gpt-4o is unknown"),
        ({"CLIENT_BUDGETS": "*=1k tokens/day"}, "has no effect without client keys"),
        (
            {"CLIENT_BUDGETS": "…abcd=1k tokens/day", "ANTHROPIC_API_KEY": ALICE},
            "found no client key in ANTHROPIC_API_KEY ending in abcd",
        ),
        (
            {"CLIENT_BUDGETS": "6789=1k tokens/day", "ANTHROPIC_API_KEY": f"{ALICE},x{ALICE}"},
            "found 2 client keys in ANTHROPIC_API_KEY ending in 6789",
        ),
        (
            {"CLIENT_BUDGETS": f"{ALICE}=1k tokens/day", "ANTHROPIC_API_KEY": ALICE},
            'got "…6789=1k tokens/day"',
        ),
    ],
    ids=["form", "no price", "no client keys", "unknown key", "ambiguous key", "whole key"],
)
def test_a_budget_that_cannot_be_enforced_is_a_mistake(settings, text, tmp_path):
    environ = {"PROVIDER_BASE_URL": "http://127.0.0.1:1/v1", "PROVIDER_API_KEY": "sk-0", **settings}
    entry = Entry(port=1, env_file=tmp_path / "x.env", label="x")
    with pytest.raises(ConfigError) as error:
        load_worker(None, entry=entry, environ=environ)
    assert text in str(error.value)
    assert ALICE not in str(error.value)


# Requests that another entry answers.


async def test_a_client_pays_for_answers_of_another_entry(tmp_path):
    async with Family(tmp_path) as family:
        await family.start(
            Front={
                "ANTHROPIC_API_KEY": f"{ALICE},{BOB}",
                "CLIENT_BUDGETS": "*=2k tokens/day",
                "BUDGET": "1M tokens/day",
            },
            Back={"BUDGET": "3k tokens/day"},
        )
        front, back = family.proxies["Front"], family.proxies["Back"]
        for label in ("Front", "Back"):
            family.providers[label].script(completion("Hello", usage=USAGE))

        async def ask(key, model, **headers):
            headers["Authorization"] = f"Bearer {key}"
            answer = await front.ask(prompt(model=model), headers=headers)
            await ended(front)
            await ended(back)
            return answer

        assert (await ask(ALICE, "Back:big")).status == 200
        assert (await ask(ALICE, "Front:big")).status == 200
        refused = await ask(ALICE, "Back:big")

        assert (refused.status, refused.error["type"]) == (429, "billing_error")
        assert "the client key …6789 on the proxy Front" in refused.error["message"]
        assert rows(front) == [
            ("", "tokens", "day", 1100),
            ("…6789", "tokens", "day", 2200),
            ("…0xyz", "tokens", "day", 0),
        ]
        assert rows(back) == [("", "tokens", "day", 1100)]
        # Only a peer may name the payer; the entry's own budget also applies.
        alice = front.worker.payers.header(0, "")["x-ccproxy-payer"]
        async with back.post("/v1/messages", prompt(), headers={"x-ccproxy-payer": alice}) as got:
            assert got.status == 200
        for status in (200, 429):
            assert (await ask(BOB, "Back:big")).status == status
        assert rows(front)[1:] == [
            ("…6789", "tokens", "day", 2200),
            ("…0xyz", "tokens", "day", 1100),
        ]


# Several processes, restarts and kill -9.


async def amounts(home):
    """Return the spent and reserved amounts of the only budget from `status --json`."""
    (row,) = (await home.proxy("kimi"))["budgets"]
    return row["spent"], row["reserved"]


async def test_a_fleet_preserves_budgets_across_processes_restarts_and_kills(
    tmp_path, provider, proxy
):
    """Exactly six of eight requests are admitted, independent of the process that they reach."""
    provider.script(completion("Hello", usage=USAGE))
    async with FleetHome(tmp_path / "fleet") as home:
        home.path.mkdir()
        settings = {
            "PROVIDER_BASE_URL": provider.url,
            "PROVIDER_API_KEY": "sk-provider-0123456789",
            "BUDGET": "6k tokens/month",
        }
        home.write(kimi=settings)
        table = home.path / "ccproxy.toml"
        port = home.ports["kimi"]
        table.write_text(
            f'[[proxy]]\nport = {port}\nenv_file = "envs/kimi.env"\nlabel = "kimi"\nworkers = 2\n'
        )
        started = await home.ccproxy("start")
        assert started.code == 0, started.err

        async def ask():
            headers = {"Connection": "close"}  # either process may accept the next connection
            url = f"{home.url('kimi')}/v1/messages"
            async with proxy.session.post(url, json=prompt(), headers=headers) as got:
                return got.status, await got.text()

        for _ in range(2):
            assert (await ask())[0] == 200
        await eventually(lambda: _is(home, (2200.0, 0.0)))
        for pid in (await home.proxy("kimi"))["pids"]:
            os.kill(pid, signal.SIGKILL)
        await eventually(lambda: _has_new_processes(home, pid))
        for _ in range(2):
            assert (await ask())[0] == 200
        await eventually(lambda: _is(home, (4400.0, 0.0)))
        assert (await home.ccproxy("restart", "kimi")).code == 0
        for _ in range(2):
            assert (await ask())[0] == 200
        await eventually(lambda: _is(home, (6600.0, 0.0)))
        status, text = await ask()
        assert (status, json.loads(text)["error"]["type"]) == (429, "billing_error")
        output = (await home.ccproxy("status")).out
        assert "! kimi: budget spent: 6,600 of 6,000 tokens per month (110 %)" in output
        used = (await home.ccproxy("usage", "kimi")).out
        assert "kimi  budget: 6,600 of 6,000 tokens per month (110 %)" in used
        home.write(kimi={**settings, "BUDGET": "9k tokens/month"})
        assert (await home.ccproxy("reload")).code == 0
        assert (await ask())[0] == 200
        assert len(provider.calls) == 7


async def _is(home, expected):
    return await amounts(home) == expected


async def _has_new_processes(home, old):
    row = await home.proxy("kimi")
    return row["state"] == "ready" and old not in row["pids"] and len(row["pids"]) == 2


async def test_days_and_months_end_at_midnight(start, provider, monkeypatch):
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    try:
        proxy = await start(BUDGET="1k tokens/day, 9k tokens/month")
        day, month = proxy.worker.payers.rows()
        local = [time.localtime(row.resets_at) for row in (day, month)]
        assert [(each.tm_hour, each.tm_min) for each in local] == [(0, 0), (0, 0)]
        assert local[1].tm_mday == 1
        assert day.resets_at <= month.resets_at
    finally:
        monkeypatch.undo()
        time.tzset()

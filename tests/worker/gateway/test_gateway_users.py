"""The users of a gateway over HTTP: their tokens, rights and budgets."""

from __future__ import annotations

import asyncio
import json
import shutil

import pytest

from ccproxy.ipc.control_messages import RequestsRequest
from ccproxy.store.usage_totals import summed
from tests.fleet import eventually
from tests.messages import prompt
from tests.provider import completion, failure
from tests.worker.family import Family
from tests.worker.gateway.team import ANNA, BOB, bearer, write_users
from tests.worker.proxy import running

PRICES = "gpt-4o-mini=1/10/0.5,gpt-4o=1000/10000/100"
USAGE = {"prompt_tokens": 1000, "completion_tokens": 0}
"""The usage of a request that costs 1 USD."""
CLIENT_KEY = "ccp_owner_0123456789"


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "users.toml"
    write_users(path)
    return path


@pytest.fixture
async def gateway(start, file):
    return await start(USERS=str(file), PRICES=PRICES, ANTHROPIC_API_KEY=CLIENT_KEY)


async def ended(proxy):
    """Wait until no request is running, since the last byte arrives before the record ends."""
    await eventually(lambda: not proxy.worker.requests.tasks)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        pytest.param(bearer(ANNA), 200, id="bearer"),
        pytest.param({"x-api-key": BOB}, 200, id="x-api-key"),
        pytest.param(bearer(CLIENT_KEY), 200, id="the owner's client key"),
        pytest.param({}, 401, id="nothing"),
        pytest.param(bearer(ANNA[:-1]), 401, id="a part of a token"),
        pytest.param(bearer("ccu_"), 401, id="the prefix alone"),
        pytest.param(bearer("\udcff"), 401, id="not ASCII"),
        pytest.param({"x-ccproxy-payer": "Test:@user:anna:"}, 401, id="a peer's header"),
        pytest.param({"x-ccproxy-user": "anna", "x-forwarded-user": "anna"}, 401, id="a name"),
    ],
)
async def test_a_token_is_required(gateway, headers, status):
    answer = await gateway.ask(headers=headers)
    assert answer.status == status
    if status == 401:
        assert answer.headers["x-should-retry"] == "false"
        assert "/login" in answer.error["message"]


async def test_the_hash_of_a_token_is_not_a_token(gateway, file):
    for word in file.read_text().split('"'):
        if word.startswith("sha256:"):
            assert (await gateway.ask(headers=bearer(word))).status == 401


async def test_a_user_never_reaches_the_provider(start, file, provider):
    proxy = await start(USERS=str(file), PASS_CLIENT_KEY="on", PROVIDER_API_KEY="")
    await proxy.ask(headers=bearer(ANNA))
    assert ANNA not in json.dumps([dict(call.headers) for call in provider.calls])


async def test_an_audit_line_names_user_model_and_cost(gateway, provider):
    provider.script(completion("Hello", usage=USAGE))
    await gateway.ask(headers=bearer(ANNA))
    line = await gateway.logged("audit.request")
    assert {name: line[name] for name in ("user", "entry", "model", "status", "cost")} == {
        "user": "anna",
        "entry": "Test",
        "model": "gpt-4o",
        "status": 200,
        "cost": 1.0,
    }
    assert line["tokens"]["input"] == 1000
    assert ANNA not in json.dumps(gateway.log, default=str)


async def test_usage_and_timelines_name_the_user(tmp_path, provider, file):
    async with running(tmp_path, provider.url, USERS=str(file)) as proxy:
        for token in (ANNA, ANNA, BOB):
            await proxy.ask(headers=bearer(token))
        await ended(proxy)
        finished = proxy.worker.activity.requests(RequestsRequest()).finished
        assert [one.user for one in finished] == ["anna", "anna", "bob"]
    rows = summed(tmp_path / "state", by=["user"])
    assert [(row.group, row.totals.requests) for row in rows] == [(("anna",), 2), (("bob",), 1)]


@pytest.mark.parametrize(
    ("rights", "status", "text"),
    [
        ('entries = ["Other"]', 403, "anna may not use the proxy Test, only Other"),
        ('models = ["kimi-*"]', 400, "anna may not use the model gpt-4o of Test, only kimi-*"),
        ('models = ["GPT-*"]\nentries = ["test"]', 200, ""),
        ('models = ["Test:gpt-4o"]', 200, ""),
    ],
)
async def test_rights(gateway, file, rights, status, text):
    write_users(file, anna=rights)
    answer = await gateway.ask(headers=bearer(ANNA))
    assert answer.status == status
    if text:
        assert text in answer.error["message"]
        assert "users.toml" in answer.error["message"]
    assert (await gateway.ask(headers=bearer(BOB))).status == 200


async def test_users_see_only_their_models(gateway, file):
    write_users(file, anna='models = ["gpt-4o-mini"]', bob='models = ["none"]')
    ids = {}
    for name, token in (("anna", ANNA), ("bob", BOB)):
        async with gateway.get("/v1/models", headers=bearer(token)) as got:
            ids[name] = [row["id"] for row in (await got.json())["data"]]
    assert ids == {"anna": ["claude-haiku", "gpt-4o-mini"], "bob": []}


async def test_a_revoked_user_is_refused_immediately(gateway, file):
    assert (await gateway.ask(headers=bearer(ANNA))).status == 200
    file.write_text('[[user]]\nname = "anna"\ntokens = []\n')
    answer = await gateway.ask(headers=bearer(ANNA))
    assert (answer.status, answer.headers["x-should-retry"]) == (401, "false")


async def test_a_broken_file_keeps_the_users_of_the_last_valid_one(gateway, file):
    assert (await gateway.ask(headers=bearer(ANNA))).status == 200
    file.write_text("[[user")
    assert (await gateway.ask(headers=bearer(ANNA))).status == 200
    assert (await gateway.logged("users.unreadable"))["level"] == "error"


@pytest.mark.parametrize(("rights", "status"), [("", 403), ("admin = true", 200)])
async def test_only_admins_use_the_routes_of_the_proxy(gateway, file, rights, status):
    write_users(file, anna=rights)
    async with gateway.get("/config", headers=bearer(ANNA)) as got:
        assert got.status == status


# Budgets.


def limits(answer):
    """Return the limit headers without their prefix."""
    prefix = "anthropic-ratelimit-unified-"
    return {
        name.lower().removeprefix(prefix): value
        for name, value in answer.headers.items()
        if name.lower().startswith(prefix) and not name.lower().endswith("reset")
    }


@pytest.mark.parametrize("streams", [False, True], ids=["whole", "stream"])
async def test_a_user_sees_the_budget_fill_and_end(gateway, provider, file, streams):
    write_users(file, anna='budgets = ["4 USD/day", "100 USD/month"]')
    provider.script(completion("Hello", usage=USAGE))
    thresholds = []
    for _ in range(4):
        answer = await gateway.ask(prompt(stream=streams), headers=bearer(ANNA))
        assert answer.status == 200
        thresholds.append(limits(answer).get("overage-surpassed-threshold"))
        await ended(gateway)
    assert thresholds == [None, None, None, "0.75"]
    refused = await gateway.ask(prompt(stream=streams), headers=bearer(ANNA))
    assert (refused.status, refused.error["type"]) == (429, "billing_error")
    assert (
        "The budget of anna at this gateway is spent: 4 USD of 4 USD per day"
        in (refused.error["message"])
    )
    assert refused.headers["x-should-retry"] == "false"
    assert limits(refused) == {
        "status": "rejected",
        "overage-utilization": "1",
        "overage-surpassed-threshold": "1",
        "overage-period": "daily",
        "overage-disabled-reason": "org_spend_cap_reached",
    }
    async with gateway.get("/api/oauth/usage", headers=bearer(ANNA)) as got:
        usage = await got.json()
    assert usage["extra_usage"] == {
        "is_enabled": True,
        "monthly_limit": 400,
        "used_credits": 400,
        "utilization": 100,
        "currency": "USD",
    }
    assert [(row["group"], row["percent"], row["is_active"]) for row in usage["limits"]] == [
        ("daily", 100, True),
        ("monthly", 4, False),
    ]
    assert (await gateway.ask(headers=bearer(BOB))).status == 200, "each user has an own budget"
    async with gateway.get("/api/oauth/usage", headers=bearer(BOB)) as got:
        assert got.status == 404


async def test_status_lists_the_budgets_of_users_who_have_spent(gateway, provider, file):
    write_users(
        file, anna='budgets = ["4 USD/day", "100 USD/month"]', bob='budgets = ["9 USD/day"]'
    )
    provider.script(completion("Hello", usage=USAGE))
    await gateway.ask(prompt(stream=False), headers=bearer(ANNA))
    await ended(gateway)
    rows = gateway.worker.payers.user_rows()
    shown = [(row.user, row.client, row.period, row.limit, row.spent) for row in rows]
    assert shown == [("anna", "", "day", 4, 1), ("anna", "", "month", 100, 1)]
    assert gateway.worker.payers.rows() == (), "they are not the entry's"


@pytest.mark.parametrize("is_open", [True, False], ids=["in use", "from the start"])
async def test_an_unusable_ledger_of_users_is_reported_and_status_shows_the_rest(
    start, tmp_path, file, is_open
):
    write_users(file, anna='budgets = ["1M tokens/day"]')
    proxy = await start(USERS=str(file), BUDGET="1M tokens/day")
    ledger = tmp_path / "state" / "users.spending"
    if is_open:
        await proxy.ask(headers=bearer(ANNA))
        await ended(proxy)
        shutil.rmtree(ledger)
    ledger.write_text("not a folder")
    payers = proxy.worker.payers
    # Removed files count as long as they are open.
    assert (len(payers.rows()), len(payers.user_rows())) == (1, 1 if is_open else 0)
    if not is_open:
        answer = await proxy.ask(headers=bearer(ANNA))
        assert (answer.status, answer.error["type"]) == (500, "api_error")
        assert "spending of the gateway's users cannot be recorded" in answer.error["message"]


async def test_concurrent_requests_do_not_pass_a_budget(gateway, provider, file):
    write_users(file, anna='budgets = ["3 USD/day"]')
    provider.script(completion("Hello", usage=USAGE))
    body = prompt("x" * 8000, stream=False)
    answers = await asyncio.gather(*(gateway.ask(body, headers=bearer(ANNA)) for _ in range(12)))
    await ended(gateway)
    served = sum(answer.status == 200 for answer in answers)
    assert 1 <= served <= 3
    assert {answer.status for answer in answers} == {200, 429}


async def test_the_limits_of_the_provider_are_not_the_users(start, provider, file):
    write_users(file, anna='budgets = ["4 USD/day"]')
    proxy = await start(USERS=str(file), PROVIDER_API="messages", PRICES=PRICES)
    provider.headers = {"anthropic-ratelimit-unified-5h-status": "rejected"}
    for token in (ANNA, BOB):
        answer = await proxy.ask(prompt(stream=False), headers=bearer(token))
        assert "5h-status" not in limits(answer)


async def test_rights_and_budgets_hold_when_another_entry_answers(tmp_path):
    file = tmp_path / "users.toml"
    write_users(
        file,
        anna='entries = ["Front", "Back"]\nbudgets = ["1 USD/day"]',
        bob='entries = ["Front"]',
    )
    prices = {"PRICES": "back-big=1000/1000,front-big=1000/1000"}
    async with Family(tmp_path) as family:
        await family.start(Front={"USERS": str(file), **prices}, Back=prices)
        front = family.proxies["Front"]
        family.providers["Back"].script(completion("Hello", usage=USAGE))
        body = prompt(model="Back:big", stream=False)
        assert (await front.ask(body, headers=bearer(BOB))).status == 403
        answer = await front.ask(body, headers=bearer(ANNA))
        assert answer.status == 200
        assert (await family.proxies["Back"].logged("audit.request"))["user"] == "anna"
        await ended(family.proxies["Back"])
        refused = await front.ask(prompt(stream=False), headers=bearer(ANNA))
        assert (refused.status, refused.error["type"]) == (429, "billing_error")
        refused = await front.ask(body, headers=bearer(ANNA))
        assert limits(refused)["status"] == "rejected"
        assert "representative-claim" not in limits(refused)


async def test_the_limits_of_a_peers_provider_are_not_the_users(tmp_path):
    """Its headers are those by which the peer's own gateway would refuse the user."""
    write_users(tmp_path / "users.toml", anna='budgets = ["1M tokens/day"]')
    provider_limits = {
        f"anthropic-ratelimit-unified-{name}": value
        for name, value in (("status", "rejected"), ("overage-disabled-reason", "out_of_credits"))
    }
    async with Family(tmp_path) as family:
        users = {"USERS": str(tmp_path / "users.toml")}
        await family.start(Front=users, Back={"PROVIDER_API": "messages"})
        family.providers["Back"].script(failure(429, "slow", headers=provider_limits))
        body = prompt(model="Back:big", stream=False)
        refused = await family.proxies["Front"].ask(body, headers=bearer(ANNA))
        assert (refused.status, limits(refused)) == (429, {})
        direct = await family.proxies["Back"].ask(prompt(stream=False))
        assert limits(direct)["status"] == "rejected", "a client without a gateway gets them"

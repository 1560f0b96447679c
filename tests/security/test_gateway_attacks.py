"""
Attacks by users and strangers on a team's gateway.

`tests/worker/gateway/` contains the attacks on the sign-in.
"""

from __future__ import annotations

import asyncio
import json

import pytest

from ccproxy.config.parsers import networks
from ccproxy.worker.accounting.payers import payer_for_user
from ccproxy.worker.gateway.address_limit import client_address, network_of
from tests.fleet import eventually
from tests.messages import prompt
from tests.provider import completion, failure, raw, stream
from tests.worker.family import Family
from tests.worker.gateway.team import ANNA, BOB, bearer, begin, form, write_users

RESTRICTED = 'models = ["gpt-4o-mini"]'
SMALL = "claude-haiku-4-5"
CHAT = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "hi"}]}


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "users.toml"
    write_users(path, anna=RESTRICTED, bob="admin = true")
    return path


@pytest.fixture
async def gateway(start, file):
    return await start(USERS=str(file))


def twice(body, first, second):
    """Return *body* with the field `model` at both its beginning and its end."""
    rest = json.dumps({name: value for name, value in body.items() if name != "model"})
    return f'{{"model":"{first}",{rest[1:-1]},"model":"{second}"}}'.encode()


def models_in(provider):
    """Return every model in each request that the provider received."""
    pairs = [json.loads(call.body, object_pairs_hook=list) for call in provider.calls]
    return [[value for name, value in one if name == "model"] for one in pairs]


# Models that the user must not use.


@pytest.mark.parametrize("pair", [("gpt-4o-mini", "gpt-4o"), ("gpt-4o", "gpt-4o-mini")])
@pytest.mark.parametrize("api", ["chat", "messages"])
async def test_a_model_that_is_named_twice_is_sent_once(start, file, provider, api, pair):
    proxy = await start(USERS=str(file), PASS_MODELS="on", PROVIDER_API=api)
    path = "/v1/messages" if api == "messages" else "/v1/chat/completions"
    body = twice(CHAT | {"max_tokens": 9}, *pair)
    headers = {**bearer(ANNA), "Content-Type": "application/json"}
    async with proxy.session.post(proxy.url + path, data=body, headers=headers) as got:
        status = got.status
    sent = models_in(provider)
    assert (status, sent) in [(200, [["gpt-4o-mini"]]), (400, [])]


@pytest.mark.parametrize(
    "more",
    [
        pytest.param({"models": ["gpt-4o"]}, id="models"),
        pytest.param({"fallbacks": [{"model": "gpt-4o"}]}, id="fallbacks"),
        pytest.param({"route": "fallback"}, id="route"),
        pytest.param({"preset": "dear"}, id="preset"),
        pytest.param({"user_config": {"model_list": []}}, id="user_config"),
        pytest.param({"context_window_fallbacks": [{"gpt-4o-mini": ["gpt-4o"]}]}, id="long"),
    ],
)
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages", "/v1/responses"])
async def test_a_router_gets_no_list_of_models(gateway, provider, path, more):
    body = {**CHAT, "max_tokens": 9, "input": "hi", **more}
    async with gateway.post(path, body, headers=bearer(ANNA)) as got:
        assert got.status == 400
        assert next(iter(more)) in await got.text()
    assert provider.calls == []


@pytest.mark.parametrize("text", [b'{"model":"gpt-4o-mini","x":NaN}', b"[]", b"\xff", b""])
async def test_bodies_that_only_the_provider_could_parse_are_refused(start, file, provider, text):
    proxy = await start(USERS=str(file), PROVIDER_API="messages")
    assert (await proxy.ask(text, headers=bearer(ANNA))).status == 400
    assert provider.calls == []


async def test_without_users_bodies_are_unchanged(start, provider):
    proxy = await start(PROVIDER_API="messages", PASS_MODELS="on")
    body = b'{ "model":"gpt-4o-mini", "models":[], "max_tokens":9, "messages":[] }'
    await proxy.ask(body)
    assert provider.calls[0].body == body


NAMES = [
    *("opus", "sonnet", "test-big", "TEST-big", "Test:big", "Test:test-big"),
    *("anthropic/Test:test-big", "big", "Other:small", "other-small"),
]


@pytest.mark.parametrize("path", ["/v1/messages", "/v1/chat/completions", "/v1/responses"])
async def test_no_name_of_a_model_leads_around_the_rights(tmp_path, file, path):
    write_users(file, anna='models = ["test-small"]')
    async with Family(tmp_path) as family:
        await family.start(Test={"USERS": str(file), "PASS_MODELS": "on"}, Other={})
        for name in NAMES:
            body = {**CHAT, "model": name, "max_tokens": 9, "input": "hi"}
            async with family.proxies["Test"].post(path, body, headers=bearer(ANNA)) as got:
                assert got.status in (400, 403), (name, await got.text())
        assert family.requested() == {}


async def test_token_counts_require_access_to_the_model(start, file, provider):
    proxy = await start(USERS=str(file), PROVIDER_API="messages")
    path = "/v1/messages/count_tokens"
    async with proxy.post(path, prompt(model="opus"), headers=bearer(ANNA)) as got:
        assert got.status == 400
    assert provider.calls == []
    async with proxy.post(path, prompt(model=SMALL), headers=bearer(ANNA)) as got:
        assert got.status == 200


async def test_counting_tokens_at_another_entry_keeps_the_rights(tmp_path, file):
    write_users(file, anna='entries = ["Front"]')
    async with Family(tmp_path) as family:
        await family.start(Front={"USERS": str(file)}, Back={"PROVIDER_API": "messages"})
        path = "/v1/messages/count_tokens"
        body = prompt(model="Back:big")
        async with family.proxies["Front"].post(path, body, headers=bearer(ANNA)) as got:
            assert got.status == 403
        assert family.requested() == {}


async def test_a_test_of_the_provider_is_not_for_users(gateway, provider):
    for token, status in ((ANNA, 403), (BOB, 200)):
        async with gateway.get("/test-connection", headers=bearer(token)) as got:
            assert got.status == status
    assert len(provider.calls) == 1


# Answers that must not be free.

FLOOD = 400
"""The number of pieces in an answer, with about 13 tokens each."""
WORDS = "word " * 10


def unended(path):
    """Return a provider's stream without its end and usage."""
    if path == "/v1/messages":
        return [
            event(MESSAGE_START),
            event({**DELTA, "type": "content_block_start", "content_block": TEXT}),
            *[event({**DELTA, "delta": {"type": "text_delta", "text": WORDS}})] * FLOOD,
        ]
    if path == "/v1/responses":
        started = {"type": "response.created", "response": {"id": "resp_1", "status": "queued"}}
        delta = {"type": "response.output_text.delta", "item_id": "a", "delta": WORDS}
        return [event(started), *[event(delta)] * FLOOD]
    choice = {"index": 0, "delta": {"content": WORDS}, "finish_reason": None}
    return [f"data: {json.dumps({'choices': [choice]})}\n\n"] * FLOOD


DELTA = {"type": "content_block_delta", "index": 0}
TEXT = {"type": "text", "text": ""}
MESSAGE_START = {
    "type": "message_start",
    "message": {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "m",
        "content": [],
        "usage": {"input_tokens": 10, "output_tokens": 1},
    },
}


def event(fields):
    return f"event: {fields['type']}\ndata: {json.dumps(fields, separators=(',', ':'))}\n\n"


def spent(proxy):
    """Return the number of tokens that anna has spent."""
    payer = payer_for_user(proxy.worker.config.label, "anna")
    accounts, name = proxy.worker.payers.user_of(payer)
    (state,) = accounts.states(proxy.worker.gateway.directory.user(name))
    return state.spent


@pytest.mark.parametrize(
    ("path", "api"),
    [
        ("/v1/messages", "messages"),
        ("/v1/chat/completions", "chat"),
        ("/v1/responses", "responses"),
    ],
)
async def test_leaving_before_the_end_does_not_make_an_answer_free(
    start, file, provider, path, api
):
    write_users(file, anna='budgets = ["1M tokens/day"]')
    proxy = await start(USERS=str(file), PROVIDER_API=api)
    gate = asyncio.Event()
    provider.script(stream(*unended(path), gate))
    body = {**prompt(stream=True, model="opus"), "input": "hi", "store": False}
    async with proxy.post(path, body, headers=bearer(ANNA)) as got:
        text = b""
        while text.count(b"word") < 10 * FLOOD:
            text += await got.content.readany()
    await eventually(lambda: not proxy.worker.requests.tasks)
    gate.set()
    tokens = FLOOD * len(WORDS) // 4
    assert 0.98 * tokens < spent(proxy) < 1.2 * tokens


async def test_a_stream_without_usage_is_not_free(start, file, provider):
    write_users(file, anna='budgets = ["1M tokens/day"]')
    proxy = await start(USERS=str(file))
    end = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
    path = "/v1/chat/completions"
    provider.script(stream(*unended(path), f"data: {json.dumps(end)}\n\n"))
    async with proxy.post(path, CHAT | {"stream": True}, headers=bearer(ANNA)) as got:
        assert WORDS in await got.text()
    await eventually(lambda: not proxy.worker.requests.tasks)
    assert spent(proxy) > FLOOD * len(WORDS) // 4


async def test_what_another_entry_describes_is_charged_to_the_user(tmp_path, file):
    write_users(file, anna='budgets = ["1M tokens/day"]')
    source = {"type": "base64", "media_type": "image/png", "data": "aW1hZ2U="}
    content = [{"type": "image", "source": source}]
    async with Family(tmp_path) as family:
        blind = {"PROVIDER": "zai", "BIG_MODEL": "glm-5.3", "VISION": "Seeing:small"}
        await family.start(Main={"USERS": str(file), **blind}, Seeing={})
        description = completion("a cat", usage={"prompt_tokens": 1000, "completion_tokens": 50})
        family.providers["Seeing"].script(description)
        main = family.proxies["Main"]
        body = prompt() | {"messages": [{"role": "user", "content": content}]}
        assert (await main.ask(body, headers=bearer(ANNA))).status == 200
        assert (await family.proxies["Seeing"].logged("audit.request"))["user"] == "anna"
        await eventually(lambda: spent(main) > 1050)


async def test_searches_by_the_provider_are_charged(start, provider):
    proxy = await start(PROVIDER_API="messages", PROVIDER="anthropic", BIG_MODEL="claude-opus-4-5")
    usage = {"input_tokens": 1, "output_tokens": 1, "server_tool_use": {"web_search_requests": 100}}
    fields = {"type": "message", "role": "assistant", "stop_sequence": None, "content": []}
    message = {**fields, "id": "msg_1", "model": "m", "stop_reason": "end_turn", "usage": usage}
    provider.script(raw(json.dumps(message)))
    await proxy.ask(prompt(model="opus", stream=False))
    await eventually(lambda: proxy.worker.session.usage.totals.cost > 0.9)


async def test_a_number_of_any_length_causes_no_internal_error(start, provider):
    proxy = await start()
    provider.script(failure(400, "no"))
    body = b'{"model":"gpt-4o","max_tokens":%b,"messages":[]}' % (b"1" * 5000)
    headers = {"Content-Type": "application/json"}
    url = f"{proxy.url}/v1/chat/completions"
    async with proxy.session.post(url, data=body, headers=headers) as got:
        assert got.status == 400


# Headers.


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param({"x-ccproxy-payer": "Test:%40user:bob:"}, id="a payer"),
        pytest.param({"x-ccproxy-payer": "Test:@user:bob:"}, id="a payer, not quoted"),
        pytest.param({"x-ccproxy-fleet": "1764410000.0000"}, id="a token of the fleet"),
        pytest.param({"x-ccproxy-hop": "1", "x-ccproxy-asked": "gpt-4o-mini"}, id="a hop"),
        pytest.param({"x-ccproxy-via": "Other"}, id="an entry before"),
        pytest.param({"x-ccproxy-user": "bob"}, id="a user"),
        pytest.param({"x-forwarded-for": "127.0.0.1"}, id="an address"),
        pytest.param({"x-api-key": "ccu_unknown"}, id="a second key"),
    ],
)
async def test_headers_of_a_client_change_neither_user_nor_rights(gateway, provider, headers):
    refused = await gateway.ask(prompt(model="opus"), headers={**bearer(ANNA), **headers})
    assert refused.status == 400
    provider.script(completion("ok"))
    answer = await gateway.ask(prompt(model=SMALL), headers={**bearer(ANNA), **headers})
    assert answer.status == 200
    lines = gateway.lines("audit.request")
    assert {line["user"] for line in lines if line["status"] == 200} == {"anna"}
    sent = {name for name in provider.calls[-1].headers if name.startswith("x-ccproxy")}
    assert sent <= {"x-ccproxy-hop"}, "that of this proxy, against circles"


async def test_a_request_causes_few_token_lookups(gateway):
    statements = []
    gateway.worker.gateway.sign_ins._records._connection.set_trace_callback(statements.append)
    headers = [("x-api-key", f"ccu_{number}") for number in range(100)]
    async with gateway.session.get(f"{gateway.url}/v1/models", headers=headers) as got:
        assert got.status == 401
    assert 0 < len(statements) < 10


async def test_a_second_authorization_header_adds_no_rights(gateway):
    lines = [
        b"POST /v1/messages HTTP/1.1",
        b"Host: 127.0.0.1",
        f"Authorization: Bearer {ANNA}".encode(),
        b"Authorization: Bearer ccu_unknown",
        b"Content-Type: application/json",
        b"Connection: close",
    ]
    body = json.dumps(prompt(model="opus")).encode()
    head = b"\r\n".join([*lines, b"Content-Length: %d" % len(body), b"", b""])
    answer = await gateway.exchange(head + body)
    assert b"anna may not use the model" in answer


# The proxy's own routes, called from other machines.


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param({"Host": "llm.example.com"}, id="by the public name"),
        pytest.param({"Host": "LLM.example.com.:443"}, id="by another form of the public name"),
        pytest.param({"X-Forwarded-For": "203.0.113.9"}, id="through a proxy"),
        pytest.param({"Via": "1.1 caddy"}, id="through another proxy"),
    ],
)
async def test_admin_routes_are_not_served_to_other_machines(start, file, headers):
    proxy = await start(USERS=str(file), PUBLIC_URL="https://llm.example.com")
    async with proxy.get("/config", headers={**bearer(BOB), **headers}) as got:
        assert got.status == 404
    async with proxy.get("/config", headers=bearer(BOB)) as got:
        assert got.status == 200


@pytest.mark.parametrize("path", ["/config", "/models", "/v1/stats", "/debug_logs"])
async def test_admin_routes_are_for_admins(gateway, path):
    for headers, status in ((bearer(ANNA), 403), ({}, 401)):
        async with gateway.get(path, headers=headers) as got:
            assert got.status == status


# Files.


async def test_files_that_others_may_change_are_not_used(gateway, file):
    write_users(file, anna='settings = "anna.json"')
    settings = file.parent / "anna.json"
    settings.write_text('{"hooks": {}}')
    settings.chmod(0o666)
    async with gateway.get("/managed/settings", headers=bearer(ANNA)) as got:
        assert (got.status, "is writable by other users" in await got.text()) == (500, True)
    settings.chmod(0o600)
    async with gateway.get("/managed/settings", headers=bearer(ANNA)) as got:
        assert got.status == 200
    # The last valid version of the users remains in use.
    assert (await gateway.ask(headers=bearer(ANNA))).status == 200
    file.write_text('[[user]]\nname = "eve"\ntokens = []\n')
    file.chmod(0o666)
    assert (await gateway.ask(headers=bearer(ANNA))).status == 200
    assert "writable by other users" in gateway.lines("users.unreadable")[0]["reason"]


# Strangers.


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("203.0.113.9", "203.0.113.9"),
        ("::ffff:203.0.113.9", "203.0.113.9"),
        ("2001:db8:1:2::5", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff::1", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("::1", "::/64"),
    ],
)
def test_the_addresses_of_one_machine_are_counted_together(address, network):
    assert network_of(address) == network


@pytest.mark.parametrize(
    ("peer", "forwarded", "client"),
    [
        pytest.param("203.0.113.9", ["1.2.3.4"], "203.0.113.9", id="not a proxy"),
        pytest.param("10.0.0.1", [], "10.0.0.1", id="no header"),
        pytest.param("10.0.0.1", ["1.2.3.4"], "1.2.3.4", id="one proxy"),
        pytest.param("10.0.0.1", ["6.6.6.6, 1.2.3.4"], "1.2.3.4", id="invented by the client"),
        pytest.param("10.0.0.1", ["6.6.6.6", "1.2.3.4"], "1.2.3.4", id="two headers"),
        pytest.param("10.0.0.1", ["6.6.6.6,1.2.3.4, 10.9.9.9"], "1.2.3.4", id="two proxies"),
        pytest.param("10.0.0.1", ["10.0.0.7"], "10.0.0.7", id="a client in the network"),
        pytest.param("10.0.0.1", ["1.2.3.4,unknown"], "10.0.0.1", id="no address"),
        pytest.param("10.0.0.1", ["1.2.3.4,"], "10.0.0.1", id="an empty entry"),
        pytest.param("::ffff:10.0.0.1", ["1.2.3.4:5678"], "1.2.3.4", id="with a port"),
        pytest.param("fd00::1", ["[2001:db8::5]:443"], "2001:db8::5", id="IPv6"),
    ],
)
def test_only_a_trusted_proxy_names_the_client(peer, forwarded, client):
    assert client_address(peer, forwarded, networks("10.0.0.0/8,fd00::/8")) == client


@pytest.mark.parametrize("text", ["0.0.0.0/0", "10.0.0.0/8,::/0", "10.0.0.1/8", "proxy.lan"])
def test_trusting_every_proxy_is_refused(text):
    with pytest.raises(ValueError, match="must"):
        networks(text)


async def test_attempts_are_counted_by_the_address_that_a_trusted_proxy_names(start, file):
    def begun_by(address):
        return proxy.session.post(
            f"{proxy.url}/oauth/device_authorization", headers={"X-Forwarded-For": address}
        )

    for trusted, last in (("127.0.0.1", 200), ("192.0.2.1", 429)):
        proxy = await start(USERS=str(file), TRUSTED_PROXIES=trusted)
        for number in range(31):
            async with begun_by(f"203.0.113.{number}") as got:
                assert got.status == (last if number == 30 else 200)


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        ("/oauth/token", {"grant_type": "refresh_token", "refresh_token": "ccu_x"}),
        ("/oauth/token", {"grant_type": "device", "device_code": "x"}),
        ("/oauth/revoke", {"token": "ccu_x"}),
    ],
)
async def test_strangers_only_read_the_store(gateway, path, fields):
    if fields.get("grant_type") == "device":
        fields = {**fields, "grant_type": "urn:ietf:params:oauth:grant-type:device_code"}
    connection = gateway.worker.gateway.sign_ins._records._connection
    before = connection.total_changes
    statements: list[str] = []
    connection.set_trace_callback(statements.append)
    await form(gateway, path, **fields)
    connection.set_trace_callback(None)
    assert connection.total_changes == before
    assert statements
    assert all(one.startswith("SELECT") for one in statements)


async def test_unknown_sign_ins_reveal_nothing(gateway):
    started = await begin(gateway)
    for device_code in ("x", started["user_code"], "", "x" * 4000):
        status, body = await form(
            gateway,
            "/oauth/token",
            grant_type="urn:ietf:params:oauth:grant-type:device_code",
            device_code=device_code,
        )
        assert (status, body["error"]) == (400, "expired_token")

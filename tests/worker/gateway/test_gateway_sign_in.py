"""Claude Code's sign-in over HTTP, and attacks on it."""

from __future__ import annotations

import asyncio
import json
from hashlib import sha256
from io import BytesIO

import pytest

from ccproxy.worker.gateway import telemetry_relay
from ccproxy.worker.gateway.telemetry_relay import MOST_AT_ONCE
from tests.fleet import eventually
from tests.provider import failure, hang_up
from tests.worker.gateway.team import (
    ANNA,
    BOB,
    Browser,
    approve,
    bearer,
    begin,
    form,
    poll,
    sign_in,
    write_users,
)


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "users.toml"
    write_users(path, anna='email = "anna@example.com"\nsettings = "anna.json"')
    return path


@pytest.fixture
async def gateway(start, file):
    return await start(USERS=str(file))


async def refresh(proxy, token):
    return await form(proxy, "/oauth/token", grant_type="refresh_token", refresh_token=token)


async def test_the_whole_flow(gateway):
    async with gateway.get("/.well-known/oauth-authorization-server") as got:
        metadata = await got.json()
    assert metadata["issuer"] == gateway.url
    assert metadata["token_endpoint"] == f"{gateway.url}/oauth/token"
    started = await begin(gateway)
    assert len(started["device_code"]) >= 43
    assert await poll(gateway, started["device_code"]) == (
        400,
        {
            "error": "authorization_pending",
            "error_description": "the sign-in has not been approved yet",
        },
    )
    assert (await poll(gateway, started["device_code"]))[1]["error"] == "slow_down"
    await approve(gateway, started, ANNA)
    status, tokens = await poll(gateway, started["device_code"])
    assert (status, tokens["email"], tokens["expires_in"]) == (200, "anna@example.com", 3600)
    assert (await gateway.ask(headers=bearer(tokens["access_token"]))).status == 200
    assert (await poll(gateway, started["device_code"]))[1]["error"] == "expired_token"
    events = {line["event"] for line in gateway.log}
    assert {"sign_in.begun", "sign_in.approved", "sign_in.completed"} <= events
    text = json.dumps(gateway.log, default=str)
    assert not [one for one in (ANNA, tokens["access_token"]) if one in text]


async def test_sessions_survive_a_restart_and_are_valid_at_every_entry(start, file):
    first = await start(USERS=str(file), label="One")
    tokens = await sign_in(first)
    second = await start(USERS=str(file), label="Two")
    assert (await second.ask(headers=bearer(tokens["access_token"]))).status == 200


async def test_a_session_is_renewed_and_ended(gateway):
    tokens = await sign_in(gateway)
    status, new = await refresh(gateway, tokens["refresh_token"])
    assert status == 200
    assert (await gateway.ask(headers=bearer(new["access_token"]))).status == 200
    assert (await gateway.ask(headers=bearer(tokens["access_token"]))).status == 401
    assert (await form(gateway, "/oauth/revoke", token=new["access_token"]))[0] == 200
    assert (await gateway.ask(headers=bearer(new["access_token"]))).status == 401
    assert (await refresh(gateway, new["refresh_token"]))[1]["error"] == "invalid_grant"
    assert (await form(gateway, "/oauth/revoke", token="ccu_unknown"))[0] == 200


@pytest.mark.parametrize("change", ["revoked", "renewed", "removed"])
async def test_revocation_ends_every_session(gateway, file, change):
    tokens, pending = await sign_in(gateway), await begin(gateway)
    await approve(gateway, pending, ANNA)
    other = f'["sha256:{"0" * 64}"]'
    lines = {"revoked": "tokens = []", "renewed": f"tokens = {other}"}
    file.write_text(f'[[user]]\nname = "anna"\n{lines[change]}' if change in lines else "")
    assert (await gateway.ask(headers=bearer(tokens["access_token"]))).status == 401
    assert (await refresh(gateway, tokens["refresh_token"]))[0] == 401
    assert (await poll(gateway, pending["device_code"]))[1]["error"] == "access_denied"


async def test_managed_settings_have_the_checksum_of_the_client(gateway, file):
    settings = {"env": {"B": "1", "A": "ü"}, "model": "x"}
    (file.parent / "anna.json").write_text(json.dumps(settings, indent=2))
    async with gateway.get("/managed/settings", headers=bearer(ANNA)) as got:
        body, tag = await got.json(), got.headers["ETag"]
    assert body["settings"] == settings
    plain = '{"env":{"A":"ü","B":"1"},"model":"x"}'.encode()
    assert body["checksum"] == f"sha256:{sha256(plain).hexdigest()}"
    for tags, status in ((tag, 304), (f'"x", {tag}', 304), ('"x"', 200), ("*", 200)):
        headers = {**bearer(ANNA), "If-None-Match": tags}
        async with gateway.get("/managed/settings", headers=headers) as got:
            assert got.status == status
    for token, status in ((BOB, 404), ("ccu_x", 401)):
        async with gateway.get("/managed/settings", headers=bearer(token)) as got:
            assert got.status == status


@pytest.mark.parametrize(
    "content",
    [
        pytest.param("{", id="broken"),
        pytest.param("[]", id="a list"),
        pytest.param('{"a": NaN}', id="not a number"),
        pytest.param('{"a": "\\ud800"}', id="half a character"),
        pytest.param('{"a":' * 100_000, id="nested too deeply"),
        pytest.param(None, id="missing"),
    ],
)
async def test_unreadable_settings_are_an_error_not_an_empty_policy(gateway, file, content):
    if content is not None:
        (file.parent / "anna.json").write_text(content)
    async with gateway.get("/managed/settings", headers=bearer(ANNA)) as got:
        assert got.status == 500
        message = (await got.json())["error"]["message"]
        assert "anna.json" in message
        assert str(file.parent) not in message


async def test_a_full_disk_refuses_sign_ins_and_keeps_sessions(gateway):
    tokens = await sign_in(gateway)
    connection = gateway.worker.gateway.sign_ins._records._connection
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    connection.execute(f"PRAGMA max_page_count = {pages}")
    for _ in range(29):
        status, body = await form(gateway, "/oauth/device_authorization")
        if status != 200:
            break
    assert (status, body["error"]["type"]) == (503, "api_error")
    assert "disk is full" in body["error"]["message"]
    assert (await gateway.ask(headers=bearer(tokens["access_token"]))).status == 200
    assert not [line for line in gateway.log if line["level"] in ("error", "critical")]


@pytest.mark.parametrize("signal", ["metrics", "logs", "traces"])
async def test_telemetry_is_accepted_and_discarded(gateway, signal):
    for token, status in ((ANNA, 200), ("ccu_x", 401)):
        async with gateway.session.post(
            f"{gateway.url}/v1/{signal}", data=b"\x0a\x00", headers=bearer(token)
        ) as got:
            assert got.status == status


PROTOBUF = "application/x-protobuf"


async def export(gateway, path="/v1/metrics", content_type=PROTOBUF, body=b"\x0a\x00"):
    headers = {**bearer(ANNA), "Content-Type": content_type, "Cookie": "a=b"}
    data = BytesIO(body)
    async with gateway.session.post(gateway.url + path, data=data, headers=headers) as got:
        return got.status


async def test_telemetry_is_forwarded_with_the_user_and_without_the_token(start, file, provider):
    gateway = await start(USERS=str(file), TELEMETRY_URL=provider.url.removesuffix("/v1"))
    assert await export(gateway) == 200
    assert await export(gateway, "//v1/logs/", "application/json", b"{}") == 200
    assert await export(gateway, "/v1/traces", "text/plain", b"x") == 200, "dropped"
    assert [(call.path, call.body) for call in provider.calls] == [
        ("/v1/metrics", b"\x0a\x00"),
        ("/v1/logs", b"{}"),
    ]
    headers = provider.calls[0].headers
    assert (headers["x-ccproxy-user"], headers["content-type"]) == ("anna", PROTOBUF)
    assert not {"authorization", "cookie"} & set(headers)
    async with gateway.session.post(f"{gateway.url}/v1/metrics", data=b"x") as got:
        assert got.status == 401
    assert await export(gateway, body=b"x" * 5_000_000) == 413


@pytest.mark.parametrize("answer", [failure(503), hang_up()], ids=["refused", "gone"])
async def test_a_failing_collector_does_not_affect_clients(start, file, provider, answer):
    gateway = await start(USERS=str(file), TELEMETRY_URL=provider.url)
    provider.script(answer)
    assert [await export(gateway) for _ in range(3)] == [200] * 3
    assert [line["batches"] for line in gateway.lines("telemetry.dropped")] == [1], "once a minute"


async def test_a_silent_collector_does_not_keep_clients_waiting(start, file, provider, monkeypatch):
    assert telemetry_relay.DELIVERY_SECONDS < 10, "the exporters' own time limit"
    monkeypatch.setattr(telemetry_relay, "DELIVERY_SECONDS", 0.1)
    provider.script(failure(200, gate=asyncio.Event()))
    gateway = await start(USERS=str(file), TELEMETRY_URL=provider.url)
    assert await export(gateway) == 200
    assert (await gateway.logged("telemetry.dropped"))["batches"] == 1


async def test_slow_uploads_do_not_raise_the_number_of_deliveries(start, file, provider):
    """The bodies arrive at the same time, after every request was accepted."""
    gate = asyncio.Event()
    provider.script(failure(200, gate=gate))
    gateway = await start(USERS=str(file), TELEMETRY_URL=provider.url)
    arrived = asyncio.Event()

    async def body():
        yield b"{"
        await arrived.wait()
        yield b"}"

    headers = {**bearer(ANNA), "Content-Type": "application/json"}
    url = f"{gateway.url}/v1/logs"
    exports = [
        asyncio.ensure_future(gateway.session.post(url, data=body(), headers=headers))
        for _ in range(MOST_AT_ONCE + 4)
    ]
    await eventually(lambda: len(gateway.worker.requests.tasks) == len(exports))
    arrived.set()
    await gateway.logged("telemetry.dropped")
    gate.set()
    assert {answer.status for answer in await asyncio.gather(*exports)} == {200}
    assert len(provider.calls) == MOST_AT_ONCE


@pytest.mark.parametrize(
    "path",
    ["/.well-known/oauth-authorization-server", "/device", "/managed/settings", "/api/oauth/usage"],
)
async def test_without_users_there_is_no_gateway(proxy, path):
    async with proxy.get(path) as got:
        assert got.status == 404
        assert "ccproxy has no endpoint" in (await got.json())["error"]["message"]


async def test_a_gateway_on_the_network_needs_a_public_url(start, file):
    proxy = await start(USERS=str(file), HOST="0.0.0.0")
    async with proxy.get("/.well-known/oauth-authorization-server") as got:
        assert "PUBLIC_URL" in (await got.json())["error"]["message"]
    public = await start(USERS=str(file), HOST="0.0.0.0", PUBLIC_URL="https://llm.example.com/")
    async with public.get(
        "/.well-known/oauth-authorization-server", headers={"Host": "evil.example"}
    ) as got:
        assert (await got.json())["issuer"] == "https://llm.example.com"


async def test_the_public_address_is_compared_as_browsers_write_it(start, file):
    gateway = await start(USERS=str(file), PUBLIC_URL="https://LLM.example.com:443/")
    started = await begin(gateway)
    assert started["verification_uri"] == "https://llm.example.com/device"


async def test_behind_a_tls_proxy_on_loopback(start, file):
    proxy = await start(USERS=str(file), PUBLIC_URL="https://llm.example.com")
    async with proxy.get("/device", headers={"Host": "llm.example.com"}) as got:
        assert got.status == 200
        assert "Secure" in got.headers["Set-Cookie"]
    async with proxy.get("/device", headers={"Host": "evil.example"}) as got:
        assert got.status == 421


# Attacks.


@pytest.mark.parametrize(
    ("headers", "hidden"),
    [
        pytest.param({"Origin": "https://evil.example"}, None, id="another origin"),
        pytest.param({"Origin": "null"}, None, id="an opaque origin"),
        pytest.param({"Sec-Fetch-Site": "cross-site"}, None, id="another site"),
        pytest.param({"Sec-Fetch-Site": "same-site"}, None, id="another port"),
        pytest.param({}, "", id="no field"),
        pytest.param({}, "0" * 64, id="a wrong field"),
        pytest.param({}, "é", id="not ASCII"),
        pytest.param({"Cookie": "ccproxy_approval=x"}, None, id="another cookie"),
        pytest.param({"Host": "evil.example"}, None, id="a rebound name"),
    ],
)
async def test_forms_of_other_sites_are_refused(gateway, headers, hidden):
    started = await begin(gateway)
    async with Browser(gateway.url) as browser:
        await browser.open(started["verification_uri_complete"])
        if "Cookie" in headers:
            browser.session.cookie_jar.clear()
        browser.hidden = browser.hidden if hidden is None else hidden
        status, _ = await browser.send(headers, user_code=started["user_code"], token=ANNA)
    assert status in (403, 421)
    assert (await poll(gateway, started["device_code"]))[1]["error"] == "authorization_pending"


async def test_a_prefilled_code_is_escaped_and_not_submitted(gateway):
    async with Browser(gateway.url) as browser:
        started = await begin(gateway)
        text = await browser.open(started["verification_uri_complete"])
        assert f'value="{started["user_code"].replace("-", "")}"' in text
        text = await browser.open(f'{gateway.url}/device?user_code="><script>alert(1)</script>')
        assert "script" not in text
        async with gateway.get("/device") as got:
            policy = got.headers["Content-Security-Policy"]
            assert "default-src 'none'" in policy
            assert "frame-ancestors 'none'" in policy


async def test_wrong_tokens_end_the_sign_in_and_then_block_the_address(gateway):
    async with Browser(gateway.url) as browser:
        for _ in range(2):
            started = await begin(gateway)
            await browser.open(started["verification_uri_complete"])
            statuses = [
                (await browser.send(user_code=started["user_code"], token=f"ccu_{n}"))[0]
                for n in range(5)
            ]
            assert statuses == [400] * 5
            assert (await poll(gateway, started["device_code"]))[1]["error"] == "access_denied"
        started = await begin(gateway)
        await browser.open(started["verification_uri_complete"])
        status, _ = await browser.send(user_code=started["user_code"], token=ANNA)
        assert status == 429, "also with the right token"


async def test_a_session_token_approves_nothing(gateway):
    tokens, started = await sign_in(gateway), await begin(gateway)
    async with Browser(gateway.url) as browser:
        await browser.open(started["verification_uri_complete"])
        status, _ = await browser.send(user_code=started["user_code"], token=tokens["access_token"])
    assert status == 400


async def test_a_user_can_refuse(gateway):
    started = await begin(gateway)
    async with Browser(gateway.url) as browser:
        await browser.open(started["verification_uri_complete"])
        status, _ = await browser.send(user_code=started["user_code"], action="deny")
        assert status == 200
        await browser.open(started["verification_uri_complete"])
        status, text = await browser.send(user_code=started["user_code"], token=ANNA)
        assert (status, "has expired" in text) == (400, True)
    assert (await poll(gateway, started["device_code"]))[1]["error"] == "access_denied"


async def test_many_sign_ins_of_one_address_are_refused(gateway):
    for _ in range(30):
        await begin(gateway)
    status, body = await form(gateway, "/oauth/device_authorization")
    assert (status, body["error"]) == (429, "slow_down")


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/oauth/token", b"x" * 9000),
        ("/oauth/token", b"&".join(b"a=%d" % n for n in range(40))),
        ("/oauth/token", b"\xff\xfe=%zz"),
        ("/oauth/token", b"grant_type=password&username=anna"),
        ("/oauth/token", b"grant_type=refresh_token"),
        ("/oauth/token", b"grant_type=urn:ietf:params:oauth:grant-type:device_code"),
        ("/oauth/device_authorization", b"a" * 9000),
        ("/oauth/revoke", b"a=1&" * 40),
    ],
)
async def test_invalid_forms_are_refused(gateway, path, body):
    async with gateway.session.post(gateway.url + path, data=body) as got:
        assert got.status in (400, 401, 413)


async def test_a_body_without_a_length_is_not_read(gateway):
    async def endless():
        yield b"grant_type=refresh_token"

    async with gateway.session.post(gateway.url + "/oauth/token", data=endless()) as got:
        assert got.status == 413

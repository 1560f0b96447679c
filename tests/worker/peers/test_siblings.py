"""Another entry's worker answers requests for its models, without changes to the request."""

from __future__ import annotations

import asyncio
import json
import re
from contextlib import suppress

import pytest

from ccproxy.worker.peers.fleet_token import FleetToken
from ccproxy.worker.signing_key import load_signing_key
from tests.messages import prompt, read_answer
from tests.ports import free_port
from tests.provider import chunk, completion, failure, stream
from tests.worker.family import Family
from tests.worker.proxy import KEY

CLIENT_KEY = "client-key-one-0123456"


@pytest.fixture
async def family(tmp_path):
    async with Family(tmp_path) as family:
        yield family


async def test_every_proxy_lists_the_models_of_the_fleet_for_the_discovery(family):
    await family.start(Kimi={}, GLM={"CONTEXT_WINDOW": "131072"})
    async with family.proxies["Kimi"].get("/v1/models?limit=1000") as response:
        rows = {row["id"]: row for row in (await response.json())["data"]}
    ids = [name for name in rows if name.startswith("anthropic/")]
    models = ["big", "middle", "small"]
    assert ids == [f"anthropic/{label}:{tier}" for label in ("Kimi", "GLM") for tier in models]
    row = rows["anthropic/GLM:big"]
    assert (row["display_name"], row["owned_by"]) == ("GLM · glm-big", "GLM")
    assert row["description"] == "big · 128K window"
    assert row["max_input_tokens"] == 131072
    for name in ids:
        answer = await family.proxies["Kimi"].ask(prompt(model=name))
        assert answer.text == "ok"
    assert family.requested() == {
        "Kimi": [f"kimi-{tier}" for tier in models],
        "GLM": [f"glm-{tier}" for tier in models],
    }


@pytest.mark.parametrize("streams", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize(
    ("name", "model"),
    [
        pytest.param("GLM-4.6:glm-5", "glm-5", id="a model, never substituted"),
        pytest.param("glm-4.6:big", "glm-4.6-big", id="a tier, the label in any case"),
        pytest.param("GLM-4.6:middle", "glm-4.6-middle", id="the middle tier"),
        pytest.param("GLM-4.6:small", "glm-4.6-small", id="the small tier"),
        pytest.param("GLM-4.6:claude-haiku-5", "glm-4.6-small", id="Claude's word for a tier"),
    ],
)
async def test_a_labelled_model_is_requested_from_its_entry(family, name, model, streams):
    await family.start(**{"Kimi": {}, "GLM-4.6": {}})
    answer = await family.proxies["Kimi"].ask(prompt(model=name, stream=streams))
    assert answer.text == "ok"
    assert answer.message["model"] == name
    assert answer.headers["x-ccproxy-route"] == f"GLM-4.6:{name.partition(':')[2]} (named)"
    assert family.requested() == {"GLM-4.6": [model]}


async def test_an_own_label_means_this_entry_exactly(family):
    await family.start(Kimi={}, GLM={})
    answer = await family.proxies["Kimi"].ask(prompt(model="kimi:some-model"))
    assert family.requested() == {"Kimi": ["some-model"]}
    assert answer.headers["x-ccproxy-route"] == "Kimi:some-model (named)"


async def test_a_colon_may_belong_to_a_model(family):
    await family.start(Kimi={"PASS_MODELS": "qwen*"})
    await family.proxies["Kimi"].ask(prompt(model="qwen3:8b"))
    assert family.requested() == {"Kimi": ["qwen3:8b"]}


async def test_an_unknown_label_before_a_tier_is_refused(family):
    await family.start(Kimi={}, GLM={})
    answer = await family.proxies["Kimi"].ask(prompt(model="GML:big"))
    assert answer.status == 404
    assert answer.error["message"] == (
        'GML:big: there is no proxy "GML" (did you mean "GLM"?); the labels are Kimi, GLM'
    )


@pytest.mark.parametrize("streams", [False, True], ids=["whole", "stream"])
async def test_a_tier_may_refer_to_another_entry(family, streams):
    await family.start(Kimi={"MIDDLE_MODEL": "GLM:small"}, GLM={})
    kimi = family.proxies["Kimi"]
    answer = await kimi.ask(prompt(model="claude-sonnet-5-5", stream=streams))
    assert answer.message["model"] == "claude-sonnet-5-5"
    assert answer.headers["x-ccproxy-route"] == "GLM:small (middle)"
    await kimi.ask(prompt(model="claude-opus-5-5"))
    assert family.requested() == {"GLM": ["glm-small"], "Kimi": ["kimi-big"]}


async def test_each_entry_uses_its_own_key_and_headers(family):
    await family.start(
        Kimi={"CUSTOM_HEADER_X_TEAM": "kimi"},
        GLM={"PROVIDER_API_KEY": "sk-of-glm-0123456789", "CUSTOM_HEADER_X_TEAM": "glm"},
    )
    await family.proxies["Kimi"].ask(prompt(model="GLM:big"))
    (call,) = family.providers["GLM"].calls
    assert (call.key, call.headers["x-team"]) == ("sk-of-glm-0123456789", "glm")
    assert KEY not in str(call.headers)
    assert [name for name in call.headers if name.startswith("x-ccproxy-")] == ["x-ccproxy-hop"]


async def test_the_fleets_token_replaces_the_peers_client_key(family):
    await family.start(
        Kimi={"ANTHROPIC_API_KEY": CLIENT_KEY}, GLM={"ANTHROPIC_API_KEY": "another-key-0123456"}
    )
    kimi = family.proxies["Kimi"]
    assert (await kimi.ask(prompt(model="GLM:big"))).status == 401
    answer = await kimi.ask(prompt(model="GLM:big"), headers={"x-api-key": CLIENT_KEY})
    assert answer.text == "ok"


@pytest.mark.parametrize(
    ("label", "age"),
    [
        pytest.param("GLM", 61, id="too old"),
        pytest.param("GLM", -61, id="of the future"),
        pytest.param("Kimi", 0, id="made for another entry"),
        pytest.param("", 0, id="signed with another key"),
    ],
)
async def test_a_wrong_token_is_refused(family, label, age):
    await family.start(GLM={"ANTHROPIC_API_KEY": CLIENT_KEY})
    key = load_signing_key(family.home / "state") if label else b"a stranger's key"
    now = family.proxies["GLM"].worker.started
    token = FleetToken(key, clock=lambda: now - age).issue(label or "GLM")
    answer = await family.proxies["GLM"].ask(prompt(), headers={"x-ccproxy-fleet": token})
    assert answer.status == 401
    assert family.requested() == {}


@pytest.mark.parametrize("token", ["", "x", "1", "1.", "999999999999.x", "²³.ff", "-1.ff"])
async def test_a_torn_token_is_refused(family, token):
    await family.start(GLM={"ANTHROPIC_API_KEY": CLIENT_KEY})
    headers = {"x-ccproxy-fleet": token}
    assert (await family.proxies["GLM"].ask(prompt(), headers=headers)).status == 401


async def test_the_siblings_error_is_returned_unchanged(family):
    await family.start(Kimi={}, GLM={})
    family.providers["GLM"].script(failure(429, "slow down", retry_after=7))
    answer = await family.proxies["Kimi"].ask(prompt(model="GLM:big"))
    assert (answer.status, answer.error["type"]) == (429, "rate_limit_error")
    assert answer.headers["retry-after"] == "7"
    line = await family.proxies["GLM"].logged("request.finished")
    assert answer.headers["request-id"] == line["request"]
    assert (await family.proxies["Kimi"].logged("request.finished"))["request"] == line["request"]


async def test_a_client_that_disconnects_stops_the_siblings_provider(family):
    await family.start(Kimi={}, GLM={})
    never = asyncio.Event()
    family.providers["GLM"].script(stream(chunk(content="He"), never))
    kimi = family.proxies["Kimi"]
    async with kimi.post("/v1/messages", prompt(model="GLM:big", stream=True)) as got:
        await got.content.readany()
    call = await family.providers["GLM"].called()
    await asyncio.wait_for(call.gone.wait(), 30)
    assert (await kimi.logged("request.finished"))["status"] == 499


async def test_a_sibling_that_is_cut_off_is_an_error_at_the_end(family):
    await family.start(Kimi={}, GLM={})
    never = asyncio.Event()
    family.providers["GLM"].script(stream(chunk(content="He"), never))
    kimi, glm = family.proxies["Kimi"], family.proxies["GLM"]
    async with kimi.post("/v1/messages", prompt(model="GLM:big", stream=True)) as got:
        begun = await got.content.readuntil(b"He")
        (connection,) = glm.lifecycle.http.connections
        connection.transport.abort()
        rest = await got.content.read()
    answer = read_answer(200, got.headers, begun + rest)
    assert answer.error["type"] == "overloaded_error"
    assert answer.error["message"].startswith("the answer of the proxy GLM was cut off")


async def test_a_refused_connection_to_a_peer_is_reported_with_a_fix(family):
    await family.start(Kimi={}, GLM={})
    family.move("GLM", free_port())
    answer = await family.proxies["Kimi"].ask(prompt(model="GLM:big"))
    assert answer.status == 502
    assert answer.error["message"].startswith("GLM does not answer (")
    assert answer.error["message"].endswith("); run: ccproxy start GLM")


async def test_the_health_probe_uses_the_connection_of_the_request(family):
    await family.start(Kimi={}, GLM={})
    connections: list[list[bytes]] = []

    async def answer(reader, writer):
        connections.append(paths := [])
        with suppress(asyncio.IncompleteReadError):  # it closes the connection after its answer
            while head := await reader.readuntil(b"\r\n\r\n"):
                paths.append(head.split()[1])
                if size := re.search(rb"Content-Length: (\d+)", head):
                    await reader.readexactly(int(size[1]))
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}")
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        family.move("GLM", server.sockets[0].getsockname()[1])
        for _ in range(2):
            async with family.proxies["Kimi"].post("/v1/messages", prompt(model="GLM:big")) as got:
                assert await got.read() == b"{}"
    assert connections == [[b"/livez", b"/v1/messages"]] * 2


async def test_no_request_is_sent_to_a_peer_beyond_loopback(family):
    await family.start(Kimi={}, GLM={})
    env = family.home / "GLM.env"
    env.write_text(env.read_text() + "HOST=192.0.2.1\nANTHROPIC_API_KEY=long-enough-0123456\n")
    answer = await family.proxies["Kimi"].ask(prompt(model="GLM:big"))
    assert answer.status == 502
    assert "192.0.2.1, not" in answer.error["message"]


# Request loops.


async def test_a_loop_of_tiers_ends_after_three_siblings(family):
    await family.start(A={"BIG_MODEL": "B:big"}, B={"BIG_MODEL": "A:big"})
    answer = await family.proxies["A"].ask(prompt())
    assert answer.status == 508
    assert answer.headers["x-should-retry"] == "false"
    assert "passed 4 proxies" in answer.error["message"]
    assert family.requested() == {}
    lines = [line for one in family.proxies.values() for line in one.lines("request.finished")]
    assert [line["status"] for line in lines if line["path"] == "/v1/messages"] == [508] * 5


async def test_a_tier_that_refers_to_itself_is_refused(family):
    await family.start(A={"BIG_MODEL": "A:big"})
    answer = await family.proxies["A"].ask(prompt())
    assert (answer.status, family.requested()) == (508, {})


@pytest.mark.parametrize(("hop", "status"), [("3", 200), ("4", 508), ("x", 200), ("-1", 200)])
async def test_the_hop_header_is_bounded_for_every_client(family, hop, status):
    await family.start(A={})
    answer = await family.proxies["A"].ask(prompt(), headers={"x-ccproxy-hop": hop})
    assert answer.status == status


@pytest.mark.parametrize("api", ["chat", "messages"])
async def test_a_base_url_that_leads_back_ends_after_three_proxies(family, api):
    """The host name hides from the configuration check that the address is the proxy's own."""
    await family.start(A={"PROVIDER_API": api})
    proxy = family.proxies["A"]
    own = proxy.url if api == "messages" else f"{proxy.url}/v1"
    proxy.worker.config = proxy.worker.config.at(own)
    answer = await proxy.ask(prompt())
    assert answer.status >= 500
    assert "has passed 4 proxies" in answer.error["message"]
    assert len(proxy.lines("request.finished")) == 5


# The other endpoints.


async def test_tokens_are_counted_where_the_model_is(family):
    await family.start(Kimi={}, GLM={})
    body = {"model": "GLM:big", "messages": [{"role": "user", "content": "Hi there"}]}
    async with family.proxies["Kimi"].post("/v1/messages/count_tokens", body) as got:
        assert (await got.json())["input_tokens"] > 0
    paths = [line["path"] for line in family.proxies["GLM"].lines("request.finished")]
    assert paths == ["/livez", "/v1/messages/count_tokens"]


async def test_openai_clients_name_models_the_same_way(family):
    await family.start(Kimi={}, GLM={})
    body = {"model": "GLM:glm-5", "messages": [{"role": "user", "content": "Hi"}]}
    async with family.proxies["Kimi"].post("/v1/chat/completions", body) as got:
        assert (await got.json())["choices"][0]["message"]["content"] == "ok"
    assert family.requested() == {"GLM": ["glm-5"]}


async def test_direct_mode_relays_to_a_sibling_and_answers_one(family):
    native = {"PROVIDER_API": "messages"}
    await family.start(Kimi=native, GLM=native)
    answer = await family.proxies["Kimi"].ask(prompt(model="GLM:big"))
    assert answer.message["model"] == "GLM:big"
    assert family.requested() == {"GLM": ["glm-big"]}
    await family.proxies["Kimi"].ask(prompt(model="Kimi:own"))
    assert family.requested()["Kimi"] == ["own"]


async def test_a_request_is_counted_once(family):
    await family.start(Kimi={}, GLM={})
    await family.proxies["Kimi"].ask(prompt(model="GLM:big"))
    totals = {
        label: proxy.worker.session.usage.totals.requests for label, proxy in family.proxies.items()
    }
    assert totals == {"Kimi": 0, "GLM": 1}


async def test_the_last_valid_table_is_used_in_spite_of_mistakes(family):
    await family.start(Kimi={}, GLM={})
    kimi = family.proxies["Kimi"]
    await kimi.ask(prompt(model="GLM:big"))
    family.write("[routes.Kimi]\nmain = 3")
    assert (await kimi.ask(prompt(model="GLM:big"))).text == "ok"
    assert "main must name a model" in (await kimi.logged("table.mistaken"))["mistake"]


async def test_many_concurrent_requests(family):
    await family.start(Kimi={}, GLM={})
    family.providers["GLM"].script(completion("x" * 50_000))
    asks = [family.proxies["Kimi"].ask(prompt(model="GLM:big", stream=True)) for _ in range(40)]
    assert {len(answer.text) for answer in await asyncio.gather(*asks)} == {50_000}


async def test_a_restarted_sibling_is_found_at_its_new_port(family, tmp_path):
    await family.start(Kimi={}, GLM={})
    kimi = family.proxies["Kimi"]
    assert (await kimi.ask(prompt(model="GLM:big"))).text == "ok"
    old = family.proxies["GLM"]
    await family.start(GLM={})
    assert family.proxies["GLM"].port != old.port
    old.lifecycle.stop()
    assert (await kimi.ask(prompt(model="GLM:big"))).text == "ok"
    assert len(family.providers["GLM"].calls) == 1


async def test_another_file_of_a_sibling_is_read_without_a_restart(family):
    await family.start(Kimi={}, GLM={})
    chooser = family.proxies["Kimi"].worker.chooser
    assert chooser.sibling("GLM").models.big == "glm-big"
    family.rename_file("GLM", "other.env")
    assert chooser.sibling("GLM").models.big == "glm-big"


async def test_the_token_is_sent_only_to_the_sibling(family):
    """Client headers with the names of the fleet's headers are not passed on, either."""
    await family.start(Kimi={"PROVIDER_API": "messages"})
    headers = {"x-ccproxy-fleet": "1.ff", "x-ccproxy-via": "GLM", "x-ccproxy-asked": "x"}
    await family.proxies["Kimi"].ask(prompt(), headers=headers)
    (call,) = family.providers["Kimi"].calls
    assert [name for name in call.headers if name.startswith("x-ccproxy-")] == ["x-ccproxy-hop"]


async def test_a_header_of_the_peers_provider_may_be_large(family):
    await family.start(Kimi={}, GLM={"PROVIDER_API": "messages"})
    family.providers["GLM"].script(
        completion("large", headers={"anthropic-ratelimit-note": "x" * 20_000})
    )
    body = json.dumps(prompt(model="GLM:big")).encode()
    head = "POST /v1/messages HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
    head += f"Content-Length: {len(body)}\r\n\r\n"
    received = await family.proxies["Kimi"].exchange(head.encode() + body)
    assert received.startswith(b"HTTP/1.1 200 ")
    assert b"large" in received

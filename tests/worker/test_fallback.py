"""A fallback answers for an entry with a failing provider, before the first byte and only once."""

from __future__ import annotations

import asyncio
import socket
from contextlib import contextmanager
from itertools import permutations

import pytest
from yarl import URL

from ccproxy.keys.sessions import SessionRef
from ccproxy.worker.peers.held_fallbacks import HeldFallbacks
from tests.fleet import eventually
from tests.messages import prompt
from tests.ports import free_port
from tests.provider import Provider, chunk, completion, failure, hang_up, raw, stream
from tests.worker.family import Family

TO_GLM = '[fallback]\nKimi = ["GLM"]'


@pytest.fixture
async def family(tmp_path):
    async with Family(tmp_path) as family:
        yield family


@pytest.mark.parametrize("api", ["chat", "messages"])
@pytest.mark.parametrize("streams", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        pytest.param(failure(429, "slow down", retry_after=30), "rate_limit_error", id="limited"),
        pytest.param(failure(503, "overloaded"), "overloaded_error", id="overloaded"),
        pytest.param(failure(500, "oops"), "api_error", id="broken"),
        pytest.param(failure(401, "no such key"), "authentication_error", id="key refused"),
        pytest.param(failure(402, "insufficient balance"), "billing_error", id="out of money"),
        pytest.param(hang_up(), "api_error", id="hangs up"),
    ],
)
async def test_a_failing_provider(family, answer, kind, streams, api):
    await family.start(TO_GLM, Kimi={"PROVIDER_API": api}, GLM={})
    family.providers["Kimi"].script(answer)
    kimi = family.proxies["Kimi"]
    got = await kimi.ask(prompt(stream=streams))
    assert (got.status, got.text, got.message["model"]) == (200, "ok", "claude-opus-4-1")
    assert got.headers["x-ccproxy-route"] == f"GLM:big (fallback: {kind})"
    assert family.requested() == {"Kimi": ["kimi-big"], "GLM": ["glm-big"]}
    line = await kimi.logged("request.finished")
    assert (line["status"], line["route"]) == (200, f"GLM:big (fallback: {kind})")
    assert "error" not in line
    assert (await kimi.logged("request.fell_back"))["sibling_request"].startswith("req_")


@pytest.mark.parametrize("streams", [False, True], ids=["whole", "stream"])
async def test_an_unreachable_provider(family, streams):
    url = f"http://127.0.0.1:{free_port()}/v1"
    await family.start(TO_GLM, Kimi={"PROVIDER_BASE_URL": url}, GLM={})
    got = await family.proxies["Kimi"].ask(prompt(stream=streams))
    assert (got.text, family.requested()) == ("ok", {"GLM": ["glm-big"]})


async def test_an_open_breaker_uses_the_fallback_immediately(family):
    await family.start(TO_GLM, Kimi={}, GLM={})
    family.providers["Kimi"].script(failure(500))
    for _ in range(7):
        assert (await family.proxies["Kimi"].ask()).text == "ok"
    assert len(family.providers["Kimi"].calls) == 5
    assert len(family.providers["GLM"].calls) == 7


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        pytest.param(failure(400, "messages.0: no"), 400, id="the client's mistake"),
        pytest.param(failure(404, "model not found"), 404, id="no such model"),
        pytest.param(failure(413, "too large"), 413, id="too large a request"),
    ],
)
async def test_errors_that_are_not_the_providers_fault(family, answer, status):
    await family.start(TO_GLM, Kimi={}, GLM={})
    family.providers["Kimi"].script(answer)
    got = await family.proxies["Kimi"].ask()
    assert got.status == status
    assert "x-ccproxy-route" not in got.headers
    assert list(family.requested()) == ["Kimi"]


@pytest.mark.parametrize(
    ("name", "model"),
    [
        pytest.param("claude-opus-5-5", "glm-big", id="opus"),
        pytest.param("claude-sonnet-5-5", "glm-middle", id="sonnet"),
        pytest.param("claude-haiku-5-5", "glm-small", id="haiku"),
        pytest.param("kimi-small", "glm-small", id="a tier's own name"),
        pytest.param("Kimi:middle", "glm-middle", id="a tier after the label"),
        pytest.param("whatever", "glm-big", id="the unknown"),
    ],
)
async def test_tiers_map_by_tier(family, name, model):
    await family.start(TO_GLM, Kimi={}, GLM={})
    family.providers["Kimi"].script(failure(500))
    await family.proxies["Kimi"].ask(prompt(model=name))
    assert family.requested()["GLM"] == [model]


@pytest.fixture
async def stopped(family):
    """Three entries; GLM is in the table but does not run."""
    await family.start(f"{TO_DEEP}", Kimi={}, GLM={}, Deep={})
    family.move("GLM", free_port())
    return family


TO_DEEP = '[routes.Kimi]\nsubagent = "GLM:small"\n[fallback]\nKimi = ["GLM", "Deep"]'


@pytest.mark.parametrize("streams", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize(
    ("name", "headers", "model"),
    [
        pytest.param("GLM:some-model", {}, "deep-big", id="a named model"),
        pytest.param("GLM:middle", {}, "deep-middle", id="a named tier"),
        pytest.param("claude-opus-5", {"x-claude-code-agent-id": "a"}, "deep-small", id="a rule"),
    ],
)
async def test_a_fallback_answers_for_a_stopped_entry(stopped, name, headers, model, streams):
    kimi = stopped.proxies["Kimi"]
    got = await kimi.ask(prompt(model=name, stream=streams), headers=headers)
    tier = model.removeprefix("deep-")
    assert (got.status, got.text) == (200, "ok")
    assert got.headers["x-ccproxy-route"] == f"Deep:{tier} (fallback: api_error)"
    assert stopped.requested() == {"Deep": [model]}
    assert kimi.lines("fallback.failed") == []


@contextmanager
def silence(family, label):
    """Keep the port of *label* open without answering, like between two crashes."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        for proxy in family.proxies.values():
            proxy.worker.peer_client.probe_seconds = 1.0
        family.move(label, listener.getsockname()[1])
        yield


@pytest.mark.parametrize("streams", [False, True], ids=["whole", "stream"])
async def test_an_unresponsive_fallback_is_skipped(family, streams):
    await family.start('[fallback]\nKimi = ["GLM", "Deep"]', Kimi={}, GLM={}, Deep={})
    family.providers["Kimi"].script(failure(500))
    with silence(family, "GLM"):
        got = await family.proxies["Kimi"].ask(prompt(stream=streams))
    assert got.headers["x-ccproxy-route"] == "Deep:big (fallback: api_error)"
    line = await family.proxies["Kimi"].logged("fallback.failed")
    assert (line["label"], "no worker responds" in line["reason"]) == ("GLM", True)


@pytest.mark.parametrize("streams", [False, True], ids=["whole", "stream"])
async def test_an_unresponsive_named_entry_is_reported(family, streams):
    await family.start(Kimi={}, GLM={})
    with silence(family, "GLM"):
        got = await family.proxies["Kimi"].ask(prompt(model="GLM:big", stream=streams))
    assert got.status == 502
    assert got.error["message"].startswith("GLM does not answer: its port is open")
    assert got.error["message"].endswith(": see ccproxy status and ccproxy logs GLM")


async def test_an_error_does_not_answer_the_health_probe(family):
    """The supervisor answers with errors for a worker in a crash loop."""
    await family.start(Kimi={}, GLM={})
    async with Provider() as other:
        other.script(failure(503, "down"))
        family.move("GLM", URL(other.url).port)
        got = await family.proxies["Kimi"].ask(prompt(model="GLM:big"))
    assert (got.status, [call for call in other.calls if call.body]) == (502, [])
    assert got.error["message"].startswith("GLM does not answer: its port is open")


async def test_a_whole_answer_may_take_longer_than_the_health_probe(family):
    await family.start(Kimi={}, GLM={}, Deep={})
    kimi, gate = family.proxies["Kimi"], asyncio.Event()
    family.providers["GLM"].script(completion("late", gate=gate))
    with silence(family, "Deep"):
        asking = asyncio.ensure_future(kimi.ask(prompt(model="GLM:big")))
        await family.providers["GLM"].called()
        assert (await kimi.ask(prompt(model="Deep:big"))).status == 502  # after the timeout
    gate.set()
    assert (await asking).text == "late"


async def test_a_stopped_entry_without_fallback_is_reported_with_its_fix(stopped):
    stopped.write("")
    stopped.move("GLM", free_port())
    got = await stopped.proxies["Kimi"].ask(prompt(model="GLM:big"))
    assert (got.status, got.error["message"].endswith("ccproxy start GLM")) == (502, True)
    line = await stopped.proxies["Kimi"].logged("request.finished")
    assert line["route"] == "GLM:big (named)"
    assert stopped.proxies["Kimi"].worker.session.usage.totals.errors == 1


async def test_no_fallback_answers_after_the_first_byte(family):
    await family.start(TO_GLM, Kimi={}, GLM={})
    family.providers["Kimi"].script(stream(chunk(content="He"), end="cut"))
    got = await family.proxies["Kimi"].ask(prompt(stream=True))
    assert got.error is not None
    assert list(family.requested()) == ["Kimi"]


async def test_pings_are_not_an_answer(family):
    """A stream that has sent its status 200 can still be answered by another entry."""
    await family.start(TO_GLM, Kimi={"EARLY_COMMIT": "0.05"}, GLM={})
    gate = asyncio.Event()
    family.providers["Kimi"].script(failure(500, gate=gate))
    async with family.proxies["Kimi"].post("/v1/messages", prompt(stream=True)) as got:
        begun = await got.content.readuntil(b"ping")
        gate.set()
        rest = await got.content.read()
    assert got.status == 200
    assert b"message_start" not in begun
    assert b"message_start" in rest
    assert b"message_stop" in rest
    assert family.requested()["GLM"] == ["glm-big"]


async def test_without_a_fallback_the_client_gets_the_error(family):
    await family.start(Kimi={}, GLM={})
    family.providers["Kimi"].script(failure(500))
    assert (await family.proxies["Kimi"].ask()).status == 500


async def test_the_first_available_fallback_answers(family):
    await family.start('[fallback]\nA = ["B", "C"]', A={}, B={}, C={})
    family.providers["A"].script(failure(500))
    family.providers["B"].script(failure(400, "not with me"))
    got = await family.proxies["A"].ask()
    assert got.headers["x-ccproxy-route"] == "C:big (fallback: api_error)"
    line = await family.proxies["A"].logged("fallback.failed")
    assert (line["label"], "not with me" in line["reason"]) == ("B", True)


async def test_a_fallback_has_a_fallback(family):
    await family.start('[fallback]\nA = ["B"]\nB = ["A", "C"]', A={}, B={}, C={})
    family.providers["A"].script(failure(500))
    family.providers["B"].script(failure(429, "later"))
    got = await family.proxies["A"].ask()
    assert got.text == "ok"
    assert got.headers["x-ccproxy-route"] == (
        "B:big (fallback: api_error); C:big (fallback: rate_limit_error)"
    )
    assert family.requested() == {"A": ["a-big"], "B": ["b-big"], "C": ["c-big"]}


async def test_if_every_entry_fails_the_first_error_is_returned(family):
    """Each entry gets one request, even if the entries name each other."""
    await family.start('[fallback]\nA = ["B"]\nB = ["A"]', A={}, B={})
    family.providers["A"].script(failure(429, "A is tired", retry_after=9))
    family.providers["B"].script(failure(500, "B is broken"))
    got = await family.proxies["A"].ask()
    assert (got.status, got.headers["retry-after"]) == (429, "9")
    message = got.error["message"]
    assert "A is tired" in message
    assert "; no fallback answered: B answers 500: " in message
    assert "B is broken" in message
    assert {label: len(models) for label, models in family.requested().items()} == {"A": 1, "B": 1}


@pytest.mark.parametrize("api", ["chat", "messages"])
@pytest.mark.parametrize("streams", [False, True], ids=["whole", "stream"])
async def test_a_stopped_fallback_is_named_in_the_error(family, streams, api):
    await family.start(TO_GLM, Kimi={"PROVIDER_API": api}, GLM={})
    family.move("GLM", free_port())
    family.providers["Kimi"].script(failure(500, "oops"))
    kimi = family.proxies["Kimi"]
    got = await kimi.ask(prompt(stream=streams))
    assert (got.status, got.error["type"]) == (500, "api_error")
    assert "oops; no fallback answered: GLM does not answer" in got.error["message"]
    assert got.error["message"].endswith(": ccproxy start GLM")
    assert "answered_by" not in await kimi.logged("request.finished")


@pytest.mark.parametrize("streams", [False, True], ids=["whole", "stream"])
async def test_a_fallback_that_breaks_off_before_its_first_content_has_not_answered(
    family, streams
):
    """The fallback's proxy is killed in the middle of its answer."""
    await family.start(TO_GLM, Kimi={}, GLM={})
    family.providers["Kimi"].script(failure(500, "oops"))
    kind = b"text/event-stream" if streams else b"application/json"
    head = b"HTTP/1.1 200 OK\r\nContent-Type: %b\r\nContent-Length: 99\r\n\r\n" % kind
    alive = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

    async def serve(reader, writer):
        for answer in (alive, head):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(answer)
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        family.move("GLM", server.sockets[0].getsockname()[1])
        got = await family.proxies["Kimi"].ask(prompt(stream=streams))
    assert got.status == 500
    assert "no fallback answered: the answer of the proxy GLM was cut off" in got.error["message"]
    line = await family.proxies["Kimi"].logged("request.finished")
    assert "answered_by" not in line


async def test_a_client_that_disconnects_stops_the_fallback(family):
    await family.start(TO_GLM, Kimi={}, GLM={})
    never = asyncio.Event()
    family.providers["Kimi"].script(failure(500))
    family.providers["GLM"].script(stream(chunk(content="He"), never))
    async with family.proxies["Kimi"].post("/v1/messages", prompt(stream=True)) as got:
        await got.content.readuntil(b"He")
    call = await family.providers["GLM"].called()
    await asyncio.wait_for(call.gone.wait(), 30)


ENTRIES = {
    "Chat": {"PROVIDER_API_KEY": "sk-chat-0123456789", "CUSTOM_HEADER_X_WHO": "chat"},
    "Native": {
        "PROVIDER_API": "messages",
        "PROVIDER_API_KEY": "sk-native-0123456789",
        "CUSTOM_HEADER_X_WHO": "native",
    },
    "Azure": {
        "AZURE_API_VERSION": "2025-01-01",
        "PROVIDER_API_KEY": "sk-azure-0123456789",
        "CUSTOM_HEADER_X_WHO": "azure",
    },
}


@pytest.mark.parametrize(("first", "second"), list(permutations(ENTRIES, 2)))
async def test_url_key_model_and_headers_switch_together(family, first, second):
    """No data of the failing provider reaches the other one."""
    names = {label: ENTRIES[label] for label in (first, second)}
    await family.start(f'[fallback]\n{first} = ["{second}"]', **names)
    family.providers[first].script(failure(401, "no"))
    family.providers[second].script(completion("fine"))
    assert (await family.proxies[first].ask()).text == "fine"
    for label in (first, second):
        (call,) = family.providers[label].calls
        settings = ENTRIES[label]
        assert call.key == settings["PROVIDER_API_KEY"]
        assert call.headers["x-who"] == settings["CUSTOM_HEADER_X_WHO"]
        assert call.json["model"] == f"{label.lower()}-big"
        assert call.path.endswith("/messages") == ("PROVIDER_API" in settings)
        assert ("api-version" in call.query) == ("AZURE_API_VERSION" in settings)


# Sessions that stay with a fallback.


@pytest.mark.parametrize("streams", [False, True], ids=["whole", "stream"])
async def test_a_session_stays_with_its_fallback_until_its_prompt_has_a_new_prefix(family, streams):
    await family.start(TO_GLM, Kimi={}, GLM={})
    kimi, provider, now = family.proxies["Kimi"], family.providers["Kimi"], [0.0]
    kimi.worker.held_fallbacks = HeldFallbacks(600.0, clock=lambda: now[0])

    async def route(kind="main"):
        headers = {"x-claude-code-session-id": "s1", "x-claude-code-request-class": kind}
        got = await kimi.ask(prompt(stream=streams), headers=headers)
        assert got.text == "ok"
        return got.headers.get("x-ccproxy-route", "")

    failing = "GLM:big (fallback: overloaded_error)"
    provider.script(failure(503, "overloaded"))
    assert [await route(), await route()] == [failing] * 2
    now[0] += 300
    calls = len(provider.calls)
    provider.script(completion("ok"))
    held = "GLM:big (fallback: until the prompt changes)"
    assert [await route(), await route("compaction")] == [held] * 2
    assert len(provider.calls) == calls
    assert [await route(), await route()] == ["", ""]
    line = await kimi.logged("request.finished")
    assert line["status"] == 200


async def test_a_held_fallback_that_fails_is_left_immediately(family):
    await family.start(TO_GLM, Kimi={}, GLM={})
    kimi = family.proxies["Kimi"]
    kimi.worker.held_fallbacks = held = HeldFallbacks(600.0, clock=lambda: 0.0)
    headers = {"x-claude-code-session-id": "s1"}
    family.providers["Kimi"].script(failure(503, "overloaded"))
    await kimi.ask(headers=headers)
    held._clock = lambda: 300.0
    family.providers["Kimi"].script(completion("own"))
    for failing in (failure(503, "overloaded"), None):
        if failing is not None:
            family.providers["GLM"].script(failing)
        else:
            family.move("GLM", free_port())
            held.note(SessionRef(id=next(iter(held._sessions)), name="s1"), "GLM")
        got = await kimi.ask(headers=headers)
        assert (got.text, got.headers.get("x-ccproxy-route")) == ("own", None)
        assert (await kimi.logged("fallback.failed"))["label"] == "GLM"


@pytest.mark.parametrize(
    ("hold", "headers"),
    [
        pytest.param("0", {"x-claude-code-session-id": "s1"}, id="turned off"),
        pytest.param("600", {}, id="no session"),
    ],
)
async def test_without_a_session_to_hold_each_request_tries_its_own_entry(family, hold, headers):
    await family.start(TO_GLM, Kimi={"FALLBACK_HOLD": hold}, GLM={})
    family.providers["Kimi"].script(failure(503, "overloaded"))
    await family.proxies["Kimi"].ask(headers=headers)
    assert not family.proxies["Kimi"].worker.held_fallbacks


@pytest.mark.parametrize("streams", [False, True], ids=["whole", "stream"])
async def test_the_bodies_of_a_request_that_another_entry_answers_are_not_kept(family, streams):
    """The list of finished requests keeps its record, and no feature of this entry reads them."""
    await family.start(TO_GLM, Kimi={"INSPECT": "on"}, GLM={})
    kimi, records = family.proxies["Kimi"], []
    kimi.worker.activity.on_finish.append(records.append)
    await kimi.worker.session.switches.switch_recording(on=True)
    body = b'{"choices": [{"message": {"content": "incomplete'
    family.providers["Kimi"].script(stream(end="cut") if streams else raw(body))
    for model in ("claude-opus-4-1", "GLM:glm-big"):
        assert (await kimi.ask(prompt(stream=streams, model=model))).text == "ok"
    await eventually(lambda: len(records) == 2)
    assert [record.answered_by for record in records] == ["GLM", "GLM"]
    assert [(record.held, record.recorded_answers) for record in records] == [(0, []), (0, [])]

"""The measurement of a model over HTTP, and the effects of its profile."""

from __future__ import annotations

import msgspec
import pytest

from ccproxy.config.catalogue.measured_profiles import profiles_path, read_profiles
from ccproxy.ipc.control_messages import ProbeReply, Refusal
from ccproxy.providers.quirks import Quirks
from ccproxy.worker.probing.probe import probe
from tests.messages import prompt
from tests.provider import completion, failure, raw
from tests.quirky_provider import QuirkyProvider

QUIRKS = Quirks(
    max_tokens_field="max_completion_tokens",
    sampling=False,
    reasoning="effort",
    efforts=("none", "low", "high"),
    parallel_tool_calls=False,
    images=False,
    max_tools=128,
)


def played(quirks, *, long_answer=None, long_prompt=None):
    """
    Answer according to *quirks*, whole or as a stream.

    *long_answer* and *long_prompt* are the refusals of overlong answers and prompts, which are
    accepted by default.
    """
    provider = QuirkyProvider(quirks)

    def answer(call):
        if long_answer is not None and call.json.get(quirks.max_tokens_field, 0) > 1_000_000:
            return long_answer
        if long_prompt is not None and len(call.body) > 100_000:
            return long_prompt
        problems = list(provider.problems(call.json))
        if problems:
            text = f"Unsupported parameter: '{problems[0]}' is not supported with this model."
            return failure(400, f"{text} Use 'max_completion_tokens' instead.")
        outcome = provider.answer(call.json)
        usage = {"prompt_tokens": 20, **outcome.usage}
        if not call.json.get("stream"):
            message = {"role": "assistant", **outcome.message}
            body = {"choices": [{"message": message, "finish_reason": "stop"}], "usage": usage}
            return raw(msgspec.json.encode(body))
        chunk = {"choices": [{"index": 0, "delta": outcome.message}], "usage": usage}
        data = b"data: %b\n\ndata: [DONE]\n\n" % msgspec.json.encode(chunk)
        return raw(data, headers={"Content-Type": "text/event-stream"})

    return answer


async def test_a_profile_overrides_the_catalogue(start, provider, tmp_path):
    provider.script(played(QUIRKS))
    proxy = await start(BIG_MODEL="odd-model")
    estimate = await probe(proxy.worker, "", most=None)
    assert isinstance(estimate, ProbeReply)
    assert (estimate.model, estimate.dollars, provider.calls) == ("odd-model", None, [])
    reply = await probe(proxy.worker, "", most=0.01)
    assert isinstance(reply, ProbeReply), reply
    assert not reply.stopped
    assert 'max_tokens_field: "max_completion_tokens"' in reply.differs
    assert proxy.lines("model.measured")[0]["requests"] == reply.requests == len(provider.calls)
    saved = read_profiles(profiles_path(tmp_path / "state", proxy.worker.config.base_url))
    assert saved is not None
    measured = msgspec.convert(saved.models["odd-model"].quirks, Quirks)
    for name in saved.models["odd-model"].quirks:
        assert getattr(measured, name) == getattr(QUIRKS, name), name
    again = await start(BIG_MODEL="odd-model")
    provider.script(completion("ok"))
    await again.ask(prompt(temperature=0.5, tool_choice={"type": "auto"}))
    request_body = provider.calls[-1].json
    assert request_body["max_completion_tokens"] == 100
    assert "temperature" not in request_body


async def test_the_cost_limit_ends_a_measurement(start, provider):
    provider.script(played(QUIRKS))
    proxy = await start(PRICES="odd-model=1000/1000", BIG_MODEL="odd-model")
    reply = await probe(proxy.worker, "odd-model", most=0.1)
    assert isinstance(reply, ProbeReply)
    assert reply.stopped
    assert 0.1 <= (reply.dollars or 0) < 0.2
    assert len(provider.calls) < 20


async def test_a_measurement_that_is_stopped_keeps_the_earlier_profile(start, provider, tmp_path):
    provider.script(played(QUIRKS))
    proxy = await start(PRICES="odd-model=1000/1000", BIG_MODEL="odd-model")
    path = profiles_path(tmp_path / "state", proxy.worker.config.base_url)
    await probe(proxy.worker, "odd-model", most=100.0)
    before = read_profiles(path)
    reply = await probe(proxy.worker, "odd-model", most=0.1)
    assert isinstance(reply, ProbeReply)
    assert reply.stopped
    assert read_profiles(path) == before


async def test_the_requests_count_in_usage_and_budgets(start, provider):
    provider.script(played(QUIRKS))
    proxy = await start(PRICES="*=1000/1000", BIG_MODEL="odd-model", BUDGET="0.3 USD/day")
    reply = await probe(proxy.worker, "odd-model", most=0.1)
    assert isinstance(reply, ProbeReply)
    (row,) = proxy.worker.payers.rows()
    totals = proxy.worker.session.usage.totals
    assert row.spent == pytest.approx(totals.cost) == pytest.approx(reply.dollars)
    assert totals.requests < reply.requests, "refused requests are not counted"
    assert row.reserved == 0
    reply = await probe(proxy.worker, "odd-model", most=10)
    assert isinstance(reply, Refusal)
    assert "The budget of the proxy Test is spent" in reply.error


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (failure(401), "the provider does not answer"),
        (failure(400, "Unsupported parameter"), "refuses the smallest request"),
        (failure(400, "prompt is too long"), "the model's window is too small"),
    ],
    ids=["a wrong key", "everything refused", "everything too long"],
)
async def test_models_that_cannot_be_measured(start, provider, tmp_path, answer, reason):
    provider.script(answer)
    proxy = await start(BIG_MODEL="m")
    reply = await probe(proxy.worker, "m", most=0.01)
    assert isinstance(reply, Refusal)
    assert reason in reply.error
    assert not (tmp_path / "state" / "profiles").exists()


@pytest.mark.parametrize(
    "body",
    [
        b'{"choices": 5, "usage": [1]}',
        b'{"choices": [5, {"message": "ok"}]}',
        b'{"choices": [{"message": {"content": [], "tool_calls": 5}}]}',
    ],
)
async def test_unusual_answers_end_in_a_reply(start, provider, body):
    provider.script(raw(body))
    proxy = await start(BIG_MODEL="m")
    assert isinstance(await probe(proxy.worker, "m", most=0.01), ProbeReply | Refusal)


async def test_a_limit_that_reasoning_exhausts_is_not_a_refusal(start, provider):
    text = "Could not finish the message because max_tokens or model output limit was reached."
    provider.script(failure(400, text))
    proxy = await start(BIG_MODEL="m")
    reply = await probe(proxy.worker, "m", most=0.01)
    assert isinstance(reply, ProbeReply)


async def test_a_request_that_is_too_long_leaves_only_its_step_unknown(start, provider, tmp_path):
    """The window of a small model is too short for 129 tools."""
    small = played(QUIRKS)

    def answer(call):
        return failure(400, WINDOW) if len(call.json.get("tools", ())) > 99 else small(call)

    _, _, saved = await measured(start, provider, tmp_path, script=answer)
    assert "max_tools" not in saved.quirks
    assert saved.quirks["parallel_tool_calls"] is False
    assert saved.quirks["images"] is False


# The limits.

CAP = "max_completion_tokens is too large: 10000000. This model supports at most 4096 completion "
WINDOW = "This model's maximum context length is 2000 tokens, but 10000020 were requested."
CREDIT = "This request requires more credits. You requested up to 10000000 tokens."


async def measured(start, provider, tmp_path, *, overflow=False, script=None, **refusals):
    """Return the proxy, the lines about the limits, and the model's saved profile."""
    provider.script(script or played(QUIRKS, **refusals))
    proxy = await start(BIG_MODEL="odd-model", CONTEXT_WINDOW="20000")
    reply = await probe(proxy.worker, "", most=0.01, overflow=overflow)
    assert isinstance(reply, ProbeReply), reply
    assert reply.requests == len(provider.calls)
    saved = read_profiles(profiles_path(tmp_path / "state", proxy.worker.config.base_url))
    assert saved is not None
    return proxy, "\n".join(reply.limits), saved.models["odd-model"]


@pytest.mark.parametrize(
    ("refusal", "line", "limit"),
    [
        pytest.param(failure(400, CAP), "longest answer: 4096 tokens", 4096, id="named"),
        pytest.param(failure(400, WINDOW), "not named by the refusal", None, id="the window"),
        pytest.param(failure(400, "no"), "not named by the refusal: no", None, id="not named"),
        pytest.param(failure(402, CREDIT), "not named by the refusal", None, id="too expensive"),
        pytest.param(failure(429, "slow"), "not named by the refusal", None, id="a rate limit"),
        pytest.param(None, "unknown, any limit is accepted", None, id="accepted"),
        pytest.param(completion("ok"), "any limit is accepted", None, id="answered as a whole"),
    ],
)
async def test_the_longest_answer(start, provider, tmp_path, refusal, line, limit):
    """The key remains usable after any response."""
    proxy, lines, saved = await measured(start, provider, tmp_path, long_answer=refusal)
    assert line in lines
    assert saved.max_output == limit
    assert "too-long request" not in lines
    provider.script(completion("ok"))
    assert (await proxy.ask(prompt())).status == 200


async def test_the_measured_longest_answer_is_used(start, provider, tmp_path):
    await measured(start, provider, tmp_path, long_answer=failure(400, CAP))
    again = await start(BIG_MODEL="odd-model")
    provider.script(completion("ok"))
    await again.ask(prompt(max_tokens=9000))
    assert provider.calls[-1].json["max_completion_tokens"] == 4096


@pytest.mark.parametrize(
    ("refusal", "line", "wording"),
    [
        pytest.param(failure(400, WINDOW), "recognized, so that Claude Code", "", id="known"),
        pytest.param(
            failure(400, "Your tale\n is " + "very " * 100),
            "NOT recognized as such: Your tale is very",
            ("Your tale is " + "very " * 100)[:300],
            id="unknown, in one line of 300 characters",
        ),
        pytest.param(failure(402, CREDIT), "too-long request: not measured", "", id="no credit"),
        pytest.param(None, "too-long request: accepted", "", id="accepted"),
    ],
)
async def test_the_refusal_of_a_too_long_request(start, provider, tmp_path, refusal, line, wording):
    _, lines, saved = await measured(start, provider, tmp_path, overflow=True, long_prompt=refusal)
    assert line in lines
    assert saved.overflow == wording
    assert len(provider.calls[-1].body) > 24_000 * 5


async def test_a_too_long_request_is_estimated_first(start, provider):
    proxy = await start(PRICES="*=10/10", BIG_MODEL="odd-model", CONTEXT_WINDOW="100000")
    plan = await probe(proxy.worker, "", most=None, overflow=True)
    assert isinstance(plan, ProbeReply)
    assert plan.overflow_tokens == 120_000
    assert plan.overflow_dollars == pytest.approx(1.2, rel=0.01)
    plan = await probe(proxy.worker, "", most=None)
    assert isinstance(plan, ProbeReply)
    assert plan.overflow_tokens is None
    assert provider.calls == []


async def test_an_unknown_window_is_not_exceeded(start, provider):
    provider.script(played(QUIRKS))
    proxy = await start(BIG_MODEL="odd-model")
    reply = await probe(proxy.worker, "", most=0.01, overflow=True)
    assert isinstance(reply, ProbeReply)
    assert "too-long request: not sent, the model's window is unknown" in reply.limits


async def test_a_spent_budget_is_not_a_refusal(start, provider, tmp_path):
    """The measured quirks are saved although the last request could not be sent."""
    usage = {"prompt_tokens": 1_000_000, "completion_tokens": 1}
    answer = {"choices": [{"message": {"content": "ok"}}], "usage": usage}
    provider.script(played(QUIRKS, long_answer=raw(msgspec.json.encode(answer))))
    proxy = await start(
        PRICES="*=1/1", BIG_MODEL="odd-model", CONTEXT_WINDOW="20000", BUDGET="0.01 USD/day"
    )
    reply = await probe(proxy.worker, "", most=10, overflow=True)
    assert isinstance(reply, ProbeReply), reply
    assert "too-long request: not measured: The budget" in "\n".join(reply.limits)
    assert (tmp_path / "state" / "profiles").exists()


FINISH: dict[str, object] = {"index": 0, "delta": {"content": "ok"}, "finish_reason": "stop"}
OPEN: dict[str, object] = {"index": 0, "delta": {"content": "ok"}}
USAGE = {"prompt_tokens": 20, "completion_tokens": 1}


@pytest.mark.parametrize(
    ("chunks", "end", "line"),
    [
        pytest.param(
            [{"choices": [FINISH]}, {"choices": [], "usage": USAGE}],
            b"data: [DONE]\n\n",
            "[DONE], finish_reason, usage in its own chunk",
            id="OpenAI",
        ),
        pytest.param(
            [{"choices": [OPEN]}, {"choices": [FINISH], "usage": USAGE}],
            b"",
            "no [DONE], finish_reason, usage in the last chunk",
            id="no DONE",
        ),
        pytest.param(
            [{"choices": [OPEN], "usage": USAGE}, {"choices": [FINISH]}],
            b"data: [DONE]\n\n",
            "[DONE], finish_reason, usage in an earlier chunk",
            id="usage before the end",
        ),
        pytest.param(
            [{"choices": [OPEN]}],
            b"",
            "no [DONE], no finish_reason, usage absent: ccproxy treats such an answer as cut off",
            id="neither",
        ),
    ],
)
async def test_the_ends_of_streams(start, provider, tmp_path, chunks, end, line):
    whole = played(QUIRKS)
    data = b"".join(b"data: %b\n\n" % msgspec.json.encode(chunk) for chunk in chunks) + end

    def answer(call):
        if call.json.get("stream"):
            return raw(data, headers={"Content-Type": "text/event-stream"})
        return whole(call)

    _, lines, _ = await measured(start, provider, tmp_path, script=answer)
    assert f"end of a stream: {line}" in lines


WRONG = '{"base_url": "x", "models": {"m": {"date": "d", "quirks": {"stop": 5}}}}'


@pytest.mark.parametrize("text", ["", "{", WRONG])
def test_a_damaged_profile_is_ignored(tmp_path, text):
    (tmp_path / "x.json").write_text(text)
    assert read_profiles(tmp_path / "x.json") is None

"""The measurement of a model over HTTP, and what follows from its profile."""

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


def played(quirks):
    """Answer according to *quirks*, whole or as a stream."""
    provider = QuirkyProvider(quirks)

    def answer(call):
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


async def test_the_limit_of_the_cost_ends_it(start, provider):
    provider.script(played(QUIRKS))
    proxy = await start(PRICES="odd-model=1000/1000", BIG_MODEL="odd-model")
    reply = await probe(proxy.worker, "odd-model", most=0.1)
    assert isinstance(reply, ProbeReply)
    assert reply.stopped
    assert 0.1 <= (reply.dollars or 0) < 0.2
    assert len(provider.calls) < 20


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
    ],
    ids=["a wrong key", "everything refused"],
)
async def test_what_cannot_be_measured(start, provider, tmp_path, answer, reason):
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
async def test_odd_answers_end_in_a_reply(start, provider, body):
    provider.script(raw(body))
    proxy = await start(BIG_MODEL="m")
    assert isinstance(await probe(proxy.worker, "m", most=0.01), ProbeReply | Refusal)


async def test_a_limit_that_reasoning_uses_up_is_no_refusal(start, provider):
    text = "Could not finish the message because max_tokens or model output limit was reached."
    provider.script(failure(400, text))
    proxy = await start(BIG_MODEL="m")
    reply = await probe(proxy.worker, "m", most=0.01)
    assert isinstance(reply, ProbeReply)


WRONG = '{"base_url": "x", "models": {"m": {"date": "d", "quirks": {"stop": 5}}}}'


@pytest.mark.parametrize("text", ["", "{", WRONG])
def test_a_damaged_profile_is_ignored(tmp_path, text):
    (tmp_path / "x.json").write_text(text)
    assert read_profiles(tmp_path / "x.json") is None

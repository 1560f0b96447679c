"""Measurements in the background: their start, their limits and their effects."""

from __future__ import annotations

import msgspec
import pytest

from ccproxy.config.catalogue.measured_profiles import profiles_path, read_profiles
from ccproxy.worker.probing import auto_probe
from tests.fleet import eventually
from tests.messages import prompt
from tests.provider import completion, failure
from tests.worker.probing.test_probe import QUIRKS, played

READ = {"name": "Read", "input_schema": {"type": "object"}}
FORCED = {"tools": [READ], "tool_choice": {"type": "any"}}


@pytest.fixture(autouse=True)
def no_pause(monkeypatch):
    monkeypatch.setattr(auto_probe, "PAUSE_SECONDS", 0.0)


async def test_an_unknown_model_is_measured_once_after_its_answer(start, provider, tmp_path):
    provider.script(played(QUIRKS))
    proxy = await start(BIG_MODEL="odd-model", AUTO_PROBE="0.05")
    await proxy.ask(prompt())
    begun = await proxy.logged("model.measuring")
    assert (begun["model"], begun["because"]) == ("odd-model", "the model is unknown")
    ended = await proxy.logged("model.measured")
    path = profiles_path(tmp_path / "state", proxy.worker.config.base_url)
    profiles = read_profiles(path)
    assert profiles is not None
    assert profiles.models["odd-model"].quirks["max_tokens_field"] == "max_completion_tokens"
    # The measured quirks apply immediately.
    await proxy.ask(prompt(temperature=0.5))
    sent = provider.calls[-1].json
    assert (sent["max_completion_tokens"], "temperature" in sent) == (100, False)
    assert len(provider.calls) == ended["requests"] + 3  # the first request was retried
    assert len(proxy.lines("model.measuring")) == 1


async def test_a_refusal_is_explained_by_its_cause_only(start, provider, tmp_path):
    """The refusal names "tool_choice", although only one of its values is rejected."""
    proxy = await start(PROVIDER="mistral", BIG_MODEL="mistral-large-latest", AUTO_PROBE="0.05")
    known = proxy.worker.config.target("mistral-large-latest").quirks
    choices = ("auto", "function", "none")
    provider.script(played(msgspec.structs.replace(known, tool_choices=choices)))
    answer = await proxy.ask(prompt(**FORCED))
    assert answer.status == 200, answer.error
    begun = await proxy.logged("model.measuring")
    assert list(begun["parts"]) == ["tools"]
    await proxy.logged("model.measured")
    path = profiles_path(tmp_path / "state", proxy.worker.config.base_url)
    profiles = read_profiles(path)
    assert profiles is not None
    (measured,) = profiles.models.values()
    assert measured.quirks["tool_choices"] == ["auto", "function", "none"]
    assert "stop" not in measured.quirks
    named = {"type": "tool", "name": "Read"}
    await proxy.ask(prompt(tools=[READ], tool_choice=named))
    assert provider.calls[-1].json["tool_choice"]["function"] == {"name": "Read"}


@pytest.mark.parametrize(
    ("settings", "limit"),
    [({"AUTO_PROBE": "0.05", "PRICES": "*=1000/1000"}, 300), ({"AUTO_PROBE": "1"}, 3)],
    ids=["dollars", "requests"],
)
async def test_the_limits_of_a_day(start, provider, monkeypatch, settings, limit):
    monkeypatch.setattr(auto_probe, "MOST_A_DAY", limit)
    provider.script(played(QUIRKS))
    proxy = await start(BIG_MODEL="odd-model", **settings)
    await proxy.ask(prompt())
    ended = await proxy.logged("model.unmeasured")
    assert ended["reason"] == "the limit of AUTO_PROBE"
    assert len(provider.calls) < 12
    # The results so far are used, and nothing more is measured.
    await proxy.ask(prompt(model="claude-haiku-4-5"))
    assert len(proxy.lines("model.measuring")) == 1


async def test_a_model_without_any_request_has_no_profile(start, provider, monkeypatch, tmp_path):
    """A profile would make every later process treat the model as measured."""
    monkeypatch.setattr(auto_probe, "MOST_A_DAY", 3)
    provider.script(played(QUIRKS))
    proxy = await start(BIG_MODEL="first", SMALL_MODEL="second", AUTO_PROBE="1")
    for name in ("first", "second"):  # both begin before the first one reaches the limit
        proxy.worker.auto_probe.note_answer(name, "chat")
    await eventually(lambda: len(proxy.lines("model.unmeasured")) == 2)
    profiles = read_profiles(profiles_path(tmp_path / "state", proxy.worker.config.base_url))
    assert profiles is not None
    assert set(profiles.models) == {"first"}
    assert [line["model"] for line in proxy.lines("model.measured")] == ["first"]


async def test_a_new_day_has_new_limits(start, provider, monkeypatch):
    monkeypatch.setattr(auto_probe, "MOST_A_DAY", 1)
    now = [0.0]
    proxy = await start(BIG_MODEL="a", AUTO_PROBE="1")
    probing = auto_probe.AutoProbe(proxy.worker, clock=lambda: now[0])
    for model, day in (("b", 0), ("c", 0), ("d", 1)):
        now[0] = day * 86400.0
        probing.note_answer(model, "chat")
        await eventually(lambda: not probing._tasks)
    assert [line["model"] for line in proxy.lines("model.measuring")] == ["b", "d"]


@pytest.mark.parametrize(
    ("settings", "body"),
    [
        ({"BIG_MODEL": "odd-model"}, prompt()),
        ({"BIG_MODEL": "odd-model", "AUTO_PROBE": "0"}, prompt()),
        ({"BIG_MODEL": "odd-model", "AUTO_PROBE": "1", "PROVIDER_API": "messages"}, prompt()),
        ({"BIG_MODEL": "odd-model", "AUTO_PROBE": "1", "PROVIDER_API": "responses"}, prompt()),
        ({"PROVIDER": "deepseek", "PROVIDER_API": "chat", "AUTO_PROBE": "1"}, prompt()),
    ],
    ids=["not set", "zero", "direct", "responses", "a known model"],
)
async def test_cases_without_a_measurement(start, provider, settings, body):
    provider.script(completion("ok"))
    proxy = await start(**settings)
    assert (await proxy.ask(body)).status == 200
    await proxy.logged("request.finished")
    assert proxy.lines("model.measuring") == []
    assert len(provider.calls) == 1


async def test_a_provider_that_fails_ends_the_measurement(start, provider):
    answers = iter([completion("ok"), completion("ok")])
    provider.script(lambda _call: next(answers, failure(401)))
    proxy = await start(BIG_MODEL="odd-model", AUTO_PROBE="1")
    await proxy.ask(prompt())
    assert (await proxy.logged("model.unmeasured"))["model"] == "odd-model"
    assert (await proxy.ask(prompt())).status != 200


async def test_the_workers_exit_cancels_a_measurement(start, provider):
    proxy = await start(BIG_MODEL="odd-model", AUTO_PROBE="1")
    auto_probe.PAUSE_SECONDS = 3600.0
    await proxy.ask(prompt())
    await proxy.logged("model.measuring")
    probing = proxy.worker.auto_probe
    await probing.close()
    assert probing._tasks == set()

"""The reasoning effort, sent in each provider's own parameters."""

from __future__ import annotations

import pytest

from tests.messages import prompt

THINKS = {"thinking": {"type": "enabled", "budget_tokens": 8000}, "max_tokens": 16000}


@pytest.mark.parametrize("streams", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize(
    ("settings", "fields", "expected"),
    [
        pytest.param(
            {"PROVIDER": "openai", "BIG_MODEL": "gpt-5"},
            THINKS | {"output_config": {"effort": "high"}},
            {"reasoning_effort": "high"},
            id="an effort where there are efforts",
        ),
        pytest.param(
            {"PROVIDER": "doubao"},
            THINKS,
            {"thinking": {"type": "enabled"}},
            id="Doubao gets thinking enabled",
        ),
        pytest.param(
            {"PROVIDER": "doubao"},
            {"thinking": {"type": "disabled"}},
            {"thinking": {"type": "disabled"}},
            id="Doubao gets thinking disabled",
        ),
        pytest.param(
            {"EXTRA_BODY": '{"reasoning_effort": "low", "top_k": 5}'},
            {},
            {"reasoning_effort": "low", "top_k": 5},
            id="the entry's own word wins",
        ),
    ],
)
async def test_efforts(start, provider, settings, fields, expected, streams):
    proxy = await start(**settings)
    assert (await proxy.ask(prompt(stream=streams, **fields))).text == "ok"
    (call,) = provider.calls
    assert {name: call.json.get(name) for name in expected} == expected


@pytest.mark.parametrize("model", ["gemini-3.1-pro-preview", "gemini-2.5-pro"])
@pytest.mark.parametrize(("budget", "effort"), [(1024, "low"), (8000, "medium"), (31999, "high")])
async def test_gemini_gets_the_budget_as_an_effort(start, provider, model, budget, effort):
    """Google maps the effort to the model's thinking level or budget."""
    proxy = await start(PROVIDER="gemini", BIG_MODEL=model)
    thinking = {"type": "enabled", "budget_tokens": budget}
    await proxy.ask(prompt(thinking=thinking, max_tokens=60000))
    (call,) = provider.calls
    assert (call.json["model"], call.json["reasoning_effort"]) == (model, effort)

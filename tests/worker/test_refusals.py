"""Tests of refused features: one retry without them, remembered even across restarts."""

from __future__ import annotations

import pytest

from tests.asking import assistant, image, result, thinking, use, user
from tests.messages import prompt
from tests.provider import completion, failure

REFUSED_IMAGE = {"error": {"message": "image input is not supported - hint: provide the mmproj"}}


def refusal(text):
    return {"error": {"message": text, "type": "invalid_request_error"}}


async def test_a_refused_effort_costs_one_call(start, provider):
    proxy = await start(BIG_MODEL="new-model")
    text = "Unrecognized request argument supplied: reasoning_effort"
    provider.script(failure(400, refusal(text)), completion("ok"))
    body = prompt(output_config={"effort": "high"})
    for _ in range(2):
        assert (await proxy.ask(body)).text == "ok"
    outgoing = [call.json.get("reasoning_effort") for call in provider.calls]
    assert outgoing == ["high", None, None]


async def test_a_refused_effort_moves_to_a_supported_one(start, provider):
    proxy = await start(BIG_MODEL="new-model")
    text = "Invalid value for reasoning_effort. Supported values are: 'low' and 'medium'."
    provider.script(failure(400, refusal(text)), completion("ok"))
    assert (await proxy.ask(prompt(output_config={"effort": "max"}))).text == "ok"
    assert [call.json["reasoning_effort"] for call in provider.calls] == ["max", "medium"]


@pytest.mark.parametrize("status", [400, 500])
async def test_an_image_that_is_refused_becomes_a_note(start, provider, status):
    proxy = await start(BIG_MODEL="blind", MAX_RETRIES="0")
    provider.script(failure(status, REFUSED_IMAGE), completion("ok"))
    body = prompt(messages=[user("Look", image())])
    for _ in range(2):
        assert (await proxy.ask(body)).text == "ok"
    outgoing = ["image_url" in call.body.decode() for call in provider.calls]
    assert outgoing == [True, False, False]


async def test_thinking_that_is_refused_in_the_history_is_dropped(start, provider):
    proxy = await start(BIG_MODEL="strict")
    text = "messages.1.reasoning_content: Extra inputs are not permitted"
    provider.script(failure(400, refusal(text)), completion("ok"))
    turns = [user("a"), assistant(thinking("Hm"), use("t1")), user(result("t1"))]
    for _ in range(2):
        assert (await proxy.ask(prompt(messages=turns))).text == "ok"
    outgoing = ["reasoning_content" in call.body.decode() for call in provider.calls]
    assert outgoing == [True, False, False]


async def test_templates_with_alternating_roles_are_learned(start, provider):
    proxy = await start(PROVIDER="openrouter", PROVIDER_API_KEY="sk-1", BIG_MODEL="x/y")
    text = "Jinja Exception: conversation roles must alternate user/assistant"
    provider.script(failure(400, refusal(text)), completion("ok"))
    assert (await proxy.ask(prompt(messages=[user("a"), user("b")]))).text == "ok"
    roles = [[each["role"] for each in call.json["messages"]] for call in provider.calls]
    assert roles == [["user", "user"], ["user"]]


async def test_a_refusal_that_names_nothing_is_returned_to_the_client(start, provider):
    proxy = await start(BIG_MODEL="new-model")
    provider.script(failure(400, refusal("The request is invalid")))
    assert (await proxy.ask(prompt(output_config={"effort": "high"}))).status == 400
    assert len(provider.calls) == 1

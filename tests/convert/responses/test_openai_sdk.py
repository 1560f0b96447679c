"""
The scripted answers of the Responses API, checked with the `openai` SDK.

Conversion tests depend on realistic answers: the SDK's types must accept them, and its accumulator
must produce the same response.
"""

from __future__ import annotations

import json

import pytest

from tests.responses_answers import (
    call,
    events_of,
    failed,
    incomplete,
    message,
    open_reasoning,
    reasoning,
    refusal,
    response,
    search,
)

openai = pytest.importorskip("openai", reason="installed with the group `test`")

ANSWERS = [
    pytest.param(response(), id="empty"),
    pytest.param(response(message("Hello ☃", "again")), id="text"),
    pytest.param(response(refusal("No.")), id="a refusal"),
    pytest.param(response(reasoning("One.", "Two.", encrypted="gA"), message("x")), id="reasoning"),
    pytest.param(response(open_reasoning("Hm"), message("x")), id="open reasoning"),
    pytest.param(response(message("I look."), call("Read", {"path": "ä"})), id="a call"),
    pytest.param(response(search("x", "https://e.org"), message("x")), id="a search"),
    pytest.param(incomplete(message("Half a")), id="incomplete"),
    pytest.param(failed("server_error", "It failed."), id="failed"),
]


@pytest.fixture
async def client(provider):
    """The SDK as a client of the scripted provider."""
    http_client = openai.DefaultAsyncHttpxClient(verify=False)  # avoids reading root certificates
    async with openai.AsyncOpenAI(
        base_url=provider.url, api_key="any", max_retries=0, http_client=http_client
    ) as client:
        yield client


@pytest.mark.parametrize("whole", ANSWERS)
def test_the_types_of_the_sdk_accept_the_response(whole):
    from openai.types.responses import Response

    read = Response.model_validate(whole)
    assert [item.type for item in read.output] == [item["type"] for item in whole["output"]]


@pytest.mark.parametrize("whole", ANSWERS)
def test_the_types_of_the_sdk_accept_the_events(whole):
    from openai.types.responses import ResponseStreamEvent
    from pydantic import TypeAdapter

    adapter = TypeAdapter(ResponseStreamEvent)
    for each in events_of(whole):
        assert adapter.validate_python(each).type == each["type"]


@pytest.mark.parametrize("whole", ANSWERS[:-2])
async def test_the_accumulator_of_the_sdk_ends_in_the_same_response(client, provider, whole):
    from tests.provider import stream
    from tests.responses_answers import sse

    provider.script(stream(*[sse([each]) for each in events_of(whole)], end="eof"))
    async with client.responses.stream(model="m", input="Hi") as answer:
        observed = [each.type async for each in answer]
        final = await answer.get_final_response()
    assert observed[-1] == f"response.{whole['status']}"
    assert json.loads(final.model_dump_json())["status"] == whole["status"]
    assert [item.type for item in final.output] == [item["type"] for item in whole["output"]]

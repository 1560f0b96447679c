"""
A worker in front of a real llama.cpp server with a tiny model (SmolLM2 135M).

The model's text is arbitrary; the tests check the protocol: usage, output by grammar, errors that
trigger compaction, cancelled and broken streams, and direct mode.
"""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from ccproxy.config.catalogue.measured_profiles import profiles_path, read_profiles
from ccproxy.ipc.control_messages import ProbeReply
from ccproxy.worker.probing.probe import probe
from tests.fleet import eventually
from tests.llama.conftest import LlamaServer
from tests.llama.server import CONTEXT_WINDOW
from tests.messages import Answer, prompt
from tests.worker.proxy import running

pytestmark = pytest.mark.xdist_group("llama")

SETTINGS = {"PROVIDER": "llamacpp", "BIG_MODEL": "smollm2", "SMALL_MODEL": "smollm2"}
TOOL = {
    "name": "read_file",
    "description": "Read a file",
    "input_schema": {
        "type": "object",
        "properties": {"path": {"type": "string", "maxLength": 12}, "limit": {"type": "integer"}},
        "required": ["path"],
        "additionalProperties": False,
    },
}
CITY = {
    "format": {
        "type": "json_schema",
        "schema": {
            "type": "object",
            "properties": {"name": {"type": "string", "maxLength": 12}},
            "required": ["name"],
            "additionalProperties": False,
        },
    }
}
MODES = pytest.mark.parametrize("mode", ["chat", "messages"])
FORMS = pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])


async def ask(tmp_path: Path, llama: LlamaServer, mode: str, body: dict[str, Any]) -> Answer:
    async with running(tmp_path, llama.url, PROVIDER_API=mode, **SETTINGS) as proxy:
        return await proxy.ask(body)


@MODES
@FORMS
async def test_a_text_answer_has_the_server_s_token_counts(tmp_path, llama, mode, stream):
    answer = await ask(tmp_path, llama, mode, prompt("Say hello.", max_tokens=8, stream=stream))
    assert answer.error is None
    assert answer.message is not None
    usage = answer.message["usage"]
    assert 10 < usage["input_tokens"] + (usage.get("cache_read_input_tokens") or 0) < 100
    assert 1 <= usage["output_tokens"] <= 8
    assert answer.message["stop_reason"] in ("end_turn", "max_tokens")


@FORMS
async def test_structured_output_is_valid_for_its_schema(tmp_path, llama, stream):
    body = prompt("Name a city.", max_tokens=60, stream=stream, output_config=CITY)
    answer = await ask(tmp_path, llama, "chat", body)
    city = json.loads(answer.text)
    assert set(city) == {"name"}
    assert len(city["name"]) <= 12


async def test_a_tool_turn_is_accepted(tmp_path, llama):
    """The server renders calls and results with the model's template and rejects invalid orders."""
    call = {"type": "tool_use", "id": "toolu_1", "name": "read_file", "input": {"path": "a.txt"}}
    result = {"type": "tool_result", "tool_use_id": "toolu_1", "content": "one\ntwo"}
    body = prompt("Read a.txt", max_tokens=8, tools=[TOOL])
    body["messages"] += [
        {"role": "assistant", "content": [call]},
        {"role": "user", "content": [result, {"type": "text", "text": "How many lines?"}]},
    ]
    answer = await ask(tmp_path, llama, "chat", body)
    assert answer.error is None


@MODES
async def test_an_overlong_prompt_gets_the_error_that_triggers_compaction(tmp_path, llama, mode):
    body = prompt("word " * (CONTEXT_WINDOW + 1000), max_tokens=8)
    answer = await ask(tmp_path, llama, mode, body)
    assert answer.status == 400
    assert answer.error is not None
    assert answer.error["message"].startswith("prompt is too long")


@MODES
async def test_a_cancelled_stream_frees_the_only_slot(tmp_path, llama, mode):
    async with running(tmp_path, llama.url, PROVIDER_API=mode, **SETTINGS) as proxy:
        body = prompt("Count to one thousand.", max_tokens=2000, stream=True)
        async with proxy.post("/v1/messages", body) as response:
            await response.content.readuntil(b"content_block_delta")
        answer = await asyncio.wait_for(proxy.ask(prompt("Hi", max_tokens=4)), 60)
        assert answer.error is None


async def test_the_probe_distinguishes_supported_from_ignored_fields(tmp_path, llama, monkeypatch):
    """llama.cpp accepts every field, and this model's template does not support tools."""
    monkeypatch.setattr("ccproxy.providers.measurement.ANSWER_TOKENS", 4)
    async with running(tmp_path, llama.url, **SETTINGS) as proxy:
        reply = await probe(proxy.worker, "", most=0.01)
        assert isinstance(reply, ProbeReply)
        profiles = read_profiles(profiles_path(tmp_path / "state", proxy.worker.config.base_url))
    assert profiles is not None
    quirks = profiles.models["smollm2"].quirks
    assert reply.measured == len(quirks)
    expected = {
        "max_tokens_field": "max_tokens",
        "sampling": True,
        "stop": True,
        "max_stops": 16,
        "images": False,
        "pdf": "text",
        "tool_choices": ["auto"],
        "parallel_tool_calls": True,
        "response_format": "json_schema",
        "stream_options": True,
        "obfuscation": False,
        "flat_text": False,
        "prefill": "plain",
        "max_tools": 0,
    }
    assert {name: quirks.get(name) for name in expected} == expected
    ignored = {"cache_control", "cache_key", "user_field", "history", "reasoning", "efforts"}
    assert not ignored & quirks.keys()


async def test_a_killed_server_ends_the_stream_with_an_error(tmp_path, llama):
    """This is the last test, because it kills the server."""
    async with running(tmp_path, llama.url, **SETTINGS) as proxy:
        body = prompt("Count to one thousand.", max_tokens=2000, stream=True)
        async with proxy.post("/v1/messages", body) as response:
            received = await response.content.readuntil(b"content_block_delta")
            llama.process.kill()
            received += await asyncio.wait_for(response.content.read(), 30)
        assert b"event: error" in received
        assert b"message_stop" not in received
        await eventually(lambda: llama.process.poll() is not None)

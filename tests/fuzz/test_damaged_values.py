"""Readers of JSON from providers and clients raise only Problem, for any values."""

from __future__ import annotations

import contextlib
import json
import random
from dataclasses import replace

import pytest

from ccproxy.convert.added_features import image_descriptions
from ccproxy.convert.added_features.deferred_tools import tool_plan
from ccproxy.convert.added_features.media_blocks import MediaBody
from ccproxy.convert.added_features.search_answer import without_own_searches
from ccproxy.convert.added_features.search_results import failed, read_results
from ccproxy.convert.added_features.search_tool import SearchTool, search_tool, side_query
from ccproxy.convert.added_features.tool_search_loop import ToolSearchLoop
from ccproxy.convert.added_features.web_search_loop import WebSearchLoop
from ccproxy.convert.direct.message_events import message_events
from ccproxy.convert.direct.passthrough import Passthrough
from ccproxy.convert.exchange import Exchange
from ccproxy.convert.openai_clients.completions_passthrough import CompletionsPassthrough
from ccproxy.convert.openai_clients.messages_form import MessagesForm
from ccproxy.convert.openai_clients.response_stream import ResponseStream, whole_response
from ccproxy.convert.openai_clients.response_writer import ResponseWriter
from ccproxy.convert.openai_clients.responses_passthrough import ResponsesPassthrough
from ccproxy.convert.openai_clients.sealed_reasoning import ReasoningSeal
from ccproxy.convert.responses.answer import to_message
from ccproxy.convert.responses.relay import ResponsesRelay
from ccproxy.errors import Problem
from ccproxy.protocol import sse
from ccproxy.protocol.messages import blocks_of, read_request, tools_of
from ccproxy.protocol.responses_request import read_responses_outline, read_responses_request
from ccproxy.providers.search_backends import search_backends
from tests import responses_answers as answers
from tests.chat_answers import context
from tests.convert.contexts import rules

ODD = [
    None,
    True,
    5,
    -1,
    1.5,
    "",
    "x",
    [],
    {},
    [None],
    [{}],
    {"type": 5},
    "\ud800",
    10**30,
    [[["a"]]],
]
RULES = rules()

RESPONSE = answers.response(
    answers.reasoning("A", "B", encrypted="gA"), answers.message("Hello"),
    answers.call("Read", {"a": 1}), answers.search("x"), answers.refusal("no"),
)  # fmt: skip
COMPLETION = {
    "choices": [{"delta": {"content": "a", "tool_calls": [{"function": {"arguments": "{}"}}]},
                 "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 1, "completion_tokens": 2},
}  # fmt: skip
IMAGE = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}}
SEARCH = {"type": "web_search_20250305", "name": "web_search", "allowed_domains": ["a.example"]}
MESSAGE = {
    "id": "m", "type": "message", "role": "assistant", "model": "m", "stop_reason": "tool_use",
    "content": [
        {"type": "thinking", "thinking": "Hm", "signature": "s"},
        {"type": "redacted_thinking", "data": "x"},
        {"type": "text", "text": "Yes", "citations": []},
        {"type": "server_tool_use", "id": "srvtoolu_ccp_1_call_6331", "name": "web_search",
         "input": {"query": "x"}},
        {"type": "web_search_tool_result", "tool_use_id": "srvtoolu_ccp_1_call_6331",
         "content": [{"type": "web_search_result", "url": "u", "encrypted_content": "ccproxy.Q"}]},
        {"type": "tool_search_tool_result", "tool_use_id": "s2",
         "content": {"tool_references": [{"type": "tool_reference", "tool_name": "t_1"}]}},
        {"type": "tool_use", "id": "t1", "name": "web_search", "input": {"query": "x"}},
        {"type": "tool_use", "id": "t2", "name": "patch", "input": {"input": "x"}},
        {"type": "tool_use", "id": "t3", "name": "local_shell", "input": {"command": ["x"]}},
    ],
    "usage": {"input_tokens": 1, "output_tokens": 2},
}  # fmt: skip
REQUEST = {
    "model": "up-big", "max_tokens": 5, "tool_choice": {"type": "tool", "name": "t_0"},
    "tools": [SEARCH, {"type": "tool_search_tool_bm25_20251119", "name": "find"}] + [
        {"name": f"t_{n}", "description": "d", "input_schema": {}, "defer_loading": n > 1}
        for n in range(9)
    ],
    "messages": [
        {"role": "user", "content": [{"type": "text", "text": "look"}, IMAGE]},
        {"role": "assistant", "content": MESSAGE["content"]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t1",
                                      "content": [IMAGE, {"type": "text", "text": "r"}]}]},
        {"role": "user", "content": "what is in the picture [Image #1]?"},
    ],
}  # fmt: skip
CLIENT_REQUEST = {
    "model": "up-big", "instructions": "Be brief", "store": False, "metadata": {"a": "b"},
    "input": [
        {"role": "developer", "content": "x"},
        {"role": "user", "content": [
            {"type": "input_text", "text": "a"},
            {"type": "input_image", "image_url": "data:image/png;base64,AAAA"},
            {"type": "input_file", "file_data": "data:text/plain;base64,QUE=", "filename": "a"}]},
        {"type": "reasoning", "summary": [{"text": "Hm"}], "encrypted_content": "x"},
        {"type": "function_call", "call_id": "c1", "name": "f", "arguments": '{"a":1}'},
        {"type": "function_call_output", "call_id": "c1", "output": [{"text": "r"}]},
        {"type": "local_shell_call", "call_id": "c2", "action": {"command": ["ls"], "env": {}}},
        {"type": "custom_tool_call", "call_id": "c3", "name": "patch", "input": "abc"},
        {"type": "tool_search_call", "call_id": "c4", "arguments": {"q": "x"}},
        {"type": "tool_search_output", "call_id": "c4", "tools": [{"type": "function"}]},
    ],
    "tools": [
        {"type": "function", "name": "f", "parameters": {"type": "object"}},
        {"type": "custom", "name": "patch", "format": {"syntax": "lark", "definition": "s"}},
        {"type": "local_shell"}, {"type": "web_search", "filters": {"allowed_domains": ["a"]}},
        {"type": "namespace", "name": "n", "tools": [{"type": "function", "name": "h"}]},
    ],
    "tool_choice": {"type": "allowed_tools", "mode": "auto", "tools": [{"name": "f"}]},
    "reasoning": {"effort": "low"}, "text": {"format": {"type": "json_schema", "schema": {}}},
}  # fmt: skip
FOUND = {
    "results": [{"url": "https://a.example/x", "title": "[A", "content": "t"}],
    "organic": [{"link": "https://a.example/", "title": "t", "snippet": "s"}],
    "web": {"results": [{"url": "https://a.example/x", "title": "A"}]},
    "costDollars": {"total": 0.01}, "usage": {"input_tokens": 1}, "code": 200, "answer": "x",
    "unresponsive_engines": [["a", "b"]], "base_resp": {"status_code": 0},
    "output": [{"type": "message", "content": [{"text": "x", "annotations": [{"url": "u"}]}]}],
    "choices": [{"message": {"content": "x https://a.example/"}}],
    "candidates": [{"groundingMetadata": {"groundingChunks": [{"web": {"uri": "https://a/"}}]}}],
}  # fmt: skip


class Damage:
    """Replaces and removes values of JSON, at random but reproducibly."""

    def __init__(self, seed: int) -> None:
        self._chance = random.Random(seed)
        self._rate = self._chance.choice([0.005, 0.02, 0.1])

    def __call__(self, value):
        return json.dumps(self._damaged(value)).encode()

    def _damaged(self, value):
        if self._chance.random() < self._rate:
            return self._chance.choice(ODD)
        if isinstance(value, dict):
            return {name: self._damaged(each) for name, each in value.items() if self._stays()}
        return (
            [self._damaged(each) for each in value if self._stays()]
            if (isinstance(value, list))
            else value
        )

    def _stays(self):
        return self._chance.random() >= self._rate


def pass_through(converter, events):
    """Feed *events* to the converter and read the answer, like the worker."""
    try:
        for data in events:
            converter.feed(data)
        converter.close()
    except Problem as problem:
        converter.fail(problem)


def lines(damage, events):
    return [b"data: " + damage(event) + b"\n\n" for event in events]


def messages_stream(damage):
    return [
        sse.encode(event.event, damage(json.loads(event.data)))
        for event in sse.Decoder().feed(message_events(json.dumps(MESSAGE).encode()))
    ]


def responses_stream(damage):
    relay = ResponsesRelay(context())
    pass_through(relay, lines(damage, answers.events_of(RESPONSE)))
    assert isinstance(relay.usage, dict)


def responses_whole(damage):
    to_message(damage(RESPONSE), context())


def passed_responses(damage):
    body = damage(CLIENT_REQUEST)
    outline = read_responses_outline(body)
    exchange = ResponsesPassthrough(body, outline, rules=RULES, response_id="r", created_at=1)
    pass_through(exchange, lines(damage, answers.events_of(RESPONSE)))
    exchange.whole(damage(RESPONSE))
    assert isinstance(exchange.usage, dict)


def passed_completions(damage):
    exchange = CompletionsPassthrough(damage({"model": "up-big"}), rules=RULES, request_id="r")
    pass_through(exchange, lines(damage, [COMPLETION] * 3))
    exchange.whole(damage(COMPLETION))
    assert isinstance(exchange.usage, dict)


def client_request(damage):
    request = read_responses_request(damage(CLIENT_REQUEST))
    seal = ReasoningSeal(RULES.signer, RULES.target("up-big"))
    form = MessagesForm(request, seal=seal, max_tokens=5, with_search=True)
    assert isinstance(form.dropped, tuple)
    Exchange(form.body, rules=RULES, message_id="m")


def writer(api="messages"):
    request = read_responses_request(json.dumps(CLIENT_REQUEST).encode())
    seal = ReasoningSeal(RULES.signer, replace(RULES.target("up-big"), api=api))
    tools = MessagesForm(request, seal=seal, max_tokens=5, with_search=True).tools
    return ResponseWriter(request, tools=tools, seal=seal, response_id="resp_1", created_at=1)


def direct_answer(damage):
    body = b'{"model":"up-big","stream":true,"messages":[{"role":"user","content":"x"}]}'
    passed = Passthrough(body, rules=RULES, request_id="r")
    pass_through(ResponseStream(passed, writer()), messages_stream(damage))
    assert isinstance(passed.usage, dict)
    whole_response(damage(MESSAGE), writer())


def scanned(damage):
    """Read a request like all of its readers, up to the additions to it."""
    body = RULES.cache.scans.scan(damage(REQUEST)).body
    request = read_request(body)
    tools_of(request.tools)
    for message in request.messages:
        blocks_of(message.content)
    return body, request


def searches(damage):
    body, request = scanned(damage)
    found = search_tool(request.tools)
    side_query(request)
    without_own_searches(body)
    if found is not None:
        loop = WebSearchLoop(body, found[0], new_id=lambda: "srvtoolu_ccp1")
        assert loop.body
        loop.feed(b"".join(messages_stream(damage)))
        loop.end_round()
        loop.resolve([failed("no") for _ in loop.allowed()])
        assert loop.close()


def tool_searches(damage):
    body, _ = scanned(damage)
    plan = tool_plan(body, 8)
    if plan is not None:
        loop = ToolSearchLoop(body, plan, new_id=lambda: "srvtoolu_ccp1")
        assert loop.body
        loop.feed(b"".join(messages_stream(damage)))
        loop.end_round()
        loop.search()
        assert loop.close()


def images(damage):
    media = MediaBody(scanned(damage)[0])
    images = image_descriptions.images_of(media)
    for question in image_descriptions.questions_of(media, images):
        block = image_descriptions.answered(question, "x", "d")
        image_descriptions.add_block(media.message(question.message), block)
    media.replace(lambda _: [])
    assert media.body()


def search_results(damage):
    for backend in search_backends().values():
        read_results(backend, damage(FOUND), SearchTool(allowed_domains=["a.example", "["]))


def converted_request(damage):
    exchange = Exchange(damage(REQUEST), rules=RULES, message_id="m")
    assert isinstance(exchange.dropped, tuple)


READERS = [
    responses_stream, responses_whole, passed_responses, passed_completions, client_request,
    direct_answer, searches, tool_searches, images, search_results, converted_request,
]  # fmt: skip


@pytest.mark.parametrize("reader", READERS, ids=lambda reader: reader.__name__)
def test_damaged_values_raise_only_problems(reader):
    for seed in range(150):
        with contextlib.suppress(Problem):
            reader(Damage(seed))

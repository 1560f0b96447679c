"""
Every reader of a provider's answer, and of images and domains in requests, takes linear time.

Each input is the worst case for one reader and is read at two sizes. The test compares CPU time, so
that a busy machine does not matter: for 8 times the input, a quadratic reader takes 64 times as
long, a linear one 8 times.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import pytest

from ccproxy.convert.added_features.image_descriptions import images_of, questions_of
from ccproxy.convert.added_features.media_blocks import MediaBody
from ccproxy.convert.added_features.search_tool import SearchTool
from ccproxy.convert.chat.relay import ChatRelay
from ccproxy.convert.chat.text_calls import TextCalls
from ccproxy.convert.chat.think_tags import ThinkTags
from ccproxy.convert.chat.tool_calls import ToolCall, to_input
from ccproxy.convert.common.stop_sequences import StopCutter
from ccproxy.convert.direct.learning import Lessons
from ccproxy.convert.direct.passthrough import WholeEvents
from ccproxy.convert.errors.body import mask_keys, parse_error_body
from ccproxy.convert.errors.classify import classify_error
from ccproxy.convert.errors.retry_after import duration, wait_in_body
from ccproxy.convert.openai_clients.response_writer import (
    BlockDelta,
    ContentBlock,
    MessageEvent,
    ResponseWriter,
)
from ccproxy.convert.openai_clients.sealed_reasoning import ReasoningSeal
from ccproxy.convert.openai_clients.tool_kinds import ToolKinds
from ccproxy.convert.prompt_prefix import Prompt, first_change, read_prompt
from ccproxy.convert.responses.relay import ResponsesRelay
from ccproxy.errors import Problem
from ccproxy.protocol.json_splice import replace_value
from ccproxy.protocol.responses_request import read_responses_request
from ccproxy.providers.quirks import PLAIN, Target
from ccproxy.worker.admin.turn_text import user_turn, without_reminders
from tests import responses_answers
from tests.chat_answers import SIGNER, call, context, end, say, sse

CALL = {"index": 0, "id": "c", "name": "Read"}
SMALL, LARGE = 8_000, 64_000
MARGIN = 3
"""The factor by which a linear reader may exceed the ratio of the sizes."""
NOISE_SECONDS = 0.05

Work = Callable[[int], object]


def relay(chunks: list[Any], **settings: Any) -> None:
    """Convert a stream of *chunks*."""
    converted = ChatRelay(context(**settings))
    converted.feed(sse(chunks, done=False))


def feed_in_pieces(feed: Callable[[str], object], text: str, size: int = 10) -> None:
    for start in range(0, len(text), size):
        feed(text[start : start + size])


def arguments_that_look_complete(size: int) -> None:
    pieces = [call(f'"{number}",', index=0) for number in range(size // 40)]
    relay([call('["', **CALL), *pieces, say("text"), *pieces])


def repeated_completeness(size: int) -> None:
    assembled = ToolCall()
    for number in range(size // 10):
        assembled.add(f'{{"k{number}": "}}" ')
        assert not assembled.is_settled


def completeness(arguments: str, more: str, pieces: int) -> None:
    assembled = ToolCall()
    for piece in [arguments, *[more] * pieces]:
        assembled.add(piece)
        assembled.is_settled  # noqa: B018 - scans the received part


def reasoning_next_to_tags(size: int) -> None:
    text = f"{'x' * 15}y{'x' * 15}"
    fields = [say(reasoning_content=text), say(reasoning=text)]  # alternate, so that none is copied
    relay([say(f"<think>{'x' * 4 * size}</think>a"), *fields * (size // 64)])


def empty_text_after_white_space(size: int) -> None:
    tags = ThinkTags()
    for piece in [" " * size, *[""] * size]:
        tags.feed(piece)


def renamed_tools(size: int) -> None:
    def prompt(name: str) -> Prompt:
        tools = [{"name": f"{name}{number}"} for number in range(size // 20)]
        body = {"messages": [{"role": "user", "content": "a"}], "tools": tools}
        read = read_prompt(json.dumps(body).encode(), keeps_attribution=False)
        assert read is not None
        return read

    first_change(prompt("a").condense(), prompt("b"))


def error_tree(size: int) -> object:
    leaf = {"message": "m"}
    return {"error": [[[dict(leaf) for _ in range(20)]] * (size // 400)] * 20}


def respond(events: list[dict[str, Any]]) -> None:
    """Convert a stream of the Responses API."""
    ResponsesRelay(context()).feed(responses_answers.sse(events))


def items(kind: str, count: int) -> list[dict[str, Any]]:
    return [{"type": kind, "id": f"i_{number}", "content": []} for number in range(count)]


def added(kind: str, count: int, step: int | None = None) -> list[dict[str, Any]]:
    """Return the events of new items, with indexes in steps of *step*, or without indexes."""
    return [
        responses_answers.event(
            "response.output_item.added", item=item, output_index=step and 10**6 + step * number
        )
        for number, item in enumerate(items(kind, count))
    ]


def final(output: list[dict[str, Any]]) -> dict[str, Any]:
    whole = {"status": "completed", "output": output}
    return responses_answers.event("response.completed", response=whole)


def a_call_that_stays_doubtful(size: int) -> None:
    args = '{"a": ' + "1" * size
    call_item = {"type": "function_call", "name": "Read", "call_id": "c", "arguments": args}
    done = responses_answers.event("response.output_item.done", item=call_item, output_index=0)
    text = responses_answers.event("response.output_text.delta", delta="a", output_index=1)
    respond([done, *[text] * (size // 16)])


def signature_in_pieces(size: int) -> None:
    seal = ReasoningSeal(SIGNER, Target(provider="p", model="m"))
    request = read_responses_request(b'{"model":"m","input":"Hi"}')
    tools = ToolKinds((), with_search=False)
    writer = ResponseWriter(request, tools=tools, seal=seal, response_id="resp_1", created_at=0)
    thinking = ContentBlock(type="thinking")
    writer.take(MessageEvent(type="content_block_start", content_block=thinking))
    piece = BlockDelta(type="signature_delta", signature="word " * 20)
    for _ in range(size):
        writer.take(MessageEvent(type="content_block_delta", delta=piece))
    writer.take(MessageEvent(type="content_block_stop"))


def questions_about_images(size: int) -> None:
    source = {"type": "base64", "media_type": "image/png"}
    images = [
        {"type": "image", "source": {**source, "data": f"{number:08}"}}
        for number in range(size // 40)
    ]
    questions = [{"role": "user", "content": "Which picture?"}] * (size // 40)
    messages = [{"role": "user", "content": images}, *questions]
    body = MediaBody(json.dumps({"messages": messages}).encode())
    assert len(list(questions_of(body, images_of(body)))) == len(questions)


def results_and_domains(size: int) -> None:
    domains = [f"d{number}.example" for number in range(size // 8)]
    admits = SearchTool(blocked_domains=domains).url_filter()
    assert all(admits(f"https://e{number}.example/") for number in range(size // 8))


WORKS: dict[str, Work] = {
    "a signature in pieces": signature_in_pieces,
    "questions about images": questions_about_images,
    "results and domains": results_and_domains,
    "items in falling order": lambda n: respond(added("message", n // 8, -1)),
    "items without a number": lambda n: respond(added("message", n // 8)),
    "a final answer with other items": lambda n: respond(
        [*added("message", n // 16, 1), final(items("web_search_call", n // 16))]
    ),
    "a call that stays doubtful": a_call_that_stays_doubtful,
    "an HTML error of tags without end": lambda n: parse_error_body(b"<" * n),
    "an HTML error of scripts without end": lambda n: parse_error_body(b"<script" * (n // 7)),
    "an HTML error of comments": lambda n: parse_error_body(b"<!---->" * (n // 7)),
    "a tree of errors": lambda n: parse_error_body(json.dumps(error_tree(n)).encode()),
    "a text of many errors": lambda n: parse_error_body(
        json.dumps({"errors": [f"error {number}" for number in range(n // 10)]}).encode()
    ),
    "a code of many digits": lambda n: parse_error_body(b'{"code":"%b"}' % (b"4" * n)),
    "an overflow text": lambda n: classify_error(
        400, {}, b"context length 1 tokens (" * (n // 25), quirks=PLAIN
    ),
    "keys in a text": lambda n: mask_keys("sk-0123456789 " * (n // 14), ["sk-0123456789abcdef"]),
    "a duration": lambda n: duration("1h " * (n // 3) + "x"),
    "digits of a duration": lambda n: duration("1" * n),
    "times in a text": lambda n: wait_in_body("retry after 1 h, 1" * (n // 18), ()),
    "white space deltas": lambda n: relay([say(" ")] * (n // 8)),
    "white space reasoning": lambda n: relay([say(reasoning_content="\n")] * (n // 8)),
    "beginnings of think tags": lambda n: relay([say("<")] * (n // 8)),
    "beginnings of closing tags": lambda n: relay([say("<think>"), *[say("</")] * (n // 8)]),
    "empty reasoning details": lambda n: relay([say(reasoning_details=[{}] * (n // 4))]),
    "fragments of reasoning details": lambda n: relay(
        [say(reasoning_details=[{"type": "t", "index": 0, "text": "word "}])] * (n // 40)
    ),
    "entries of reasoning details": lambda n: relay(
        [say(reasoning_details=[{"type": "t", "index": i, "data": "x"}]) for i in range(n // 40)]
    ),
    "white space arguments": lambda n: relay([call("", **CALL), *[call(" ", index=0)] * (n // 8)]),
    "arguments that look complete": arguments_that_look_complete,
    "arguments that are never complete": repeated_completeness,
    "arguments that are no object": lambda n: completeness("a", "a", n),
    "white space after arguments": lambda n: completeness('{"a":1}', " ", n),
    "a name in pieces": lambda n: feed_in_pieces(ToolCall().add_name, "abc" * n, 2),
    "reasoning next to tags": reasoning_next_to_tags,
    "empty text after white space": empty_text_after_white_space,
    "renamed tools": renamed_tools,
    "calls with one id": lambda n: relay(
        [call('{"a":1}', index=i, id="c", name="Read") for i in range(n // 100)]
    ),
    "calls that are never named": lambda n: relay(
        [call("", index=i, id=f"c{i}") for i in range(n // 100)]
    ),
    "beginnings of a stop sequence": lambda n: relay(
        [say("a")] * (n // 10), stop_sequences=("a" * 50 + "b",)
    ),
    "a stop sequence": lambda n: feed_in_pieces(StopCutter(["a" * 50 + "b"]).feed, "a" * n),
    "markup of calls in the text": lambda n: feed_in_pieces(
        TextCalls().feed, '<｜DSML｜invoke name="' * (n // 21)
    ),
    "arguments that were cut": lambda n: to_input('{"a":[' + '"x",' * (n // 4), is_cut=True),
    "finish reasons": lambda n: relay([end("stop")] * (n // 20)),
    "reminders without end": lambda n: without_reminders("<system-reminder>" * (n // 17)),
    "reminders": lambda n: without_reminders(
        "<system-reminder></system-reminder>" * (n // 36) + "<ide_selection>" * (n // 15)
    ),
    "a request of reminders": lambda n: user_turn(
        json.dumps(
            {"messages": [{"role": "user", "content": "<system-reminder>" * (n // 17)}]}
        ).encode()
    ),
    "a refusal of paths": lambda n: Lessons().learn(
        Problem("invalid_request_error", "unknown " + "a.-" * (n // 3)), b'{"a":1}', "m"
    ),
    "a refusal of words": lambda n: Lessons().learn(
        Problem("invalid_request_error", "unknown " + "a." * (n // 2) + ": "), b'{"a":1}', "m"
    ),
    "names of models inside a body": lambda n: replace_value(
        b'{"messages":[%b1],"model":"a"}' % (b'{"model":"x"},' * (n // 14)), ("model",), b'"b"'
    ),
    "an event in small reads": lambda n: [
        events.feed(b"data: x\n") for events in [WholeEvents()] for _ in range(n // 8)
    ],
}


def cpu_seconds(work: Work, size: int) -> float:
    start = time.process_time()
    work(size)
    return time.process_time() - start


@pytest.mark.parametrize("name", WORKS)
def test_time_is_linear(name: str) -> None:
    work = WORKS[name]
    work(SMALL // 8)  # warms up caches of patterns and decoders
    small = min(cpu_seconds(work, SMALL) for _ in range(3))
    limit = LARGE / SMALL * MARGIN * small + NOISE_SECONDS
    # A slow run is repeated, because other processes may have caused it.
    assert any(cpu_seconds(work, LARGE) <= limit for _ in range(3))

"""Run every case over HTTP, and streams also with reads of other sizes."""

from __future__ import annotations

import itertools
import json

import pytest

from tests.cases import answers, failures, requests, streams
from tests.cases.case import Case, check
from tests.messages import Answer, ask
from tests.openai_rules import violations
from tests.provider import stream

pytestmark = [
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.xdist_group("cases"),
]

TABLES = (requests.CASES, answers.CASES, streams.CASES, failures.CASES)
SIZES = (1, 64)
"""Bytes per read; tests of the relay use more sizes."""


def named(case: Case, *more: object) -> str:
    return ", ".join([f"{case.provider}: {case.rule}", *map(str, more)])


PLAYED = [
    pytest.param(case, way, id=named(case, "streamed" if way else "whole"))
    for case in itertools.chain(*TABLES)
    for way in case.ways
]
CUT = [
    pytest.param(case, size, id=named(case, f"{size} bytes at once"))
    for case in streams.CASES
    for size in SIZES
]


@pytest.mark.parametrize(("case", "streamed"), PLAYED)
async def test_case(case, streamed, upstream, workers, client):
    upstream.script(*case.answers)
    await play(case, upstream, workers, client, streamed=streamed)


@pytest.mark.parametrize(("case", "size"), CUT)
async def test_a_stream_means_the_same_with_every_chunking(case, size, upstream, workers, client):
    upstream.script(*(in_reads_of(size, answer) for answer in case.answers))
    await play(case, upstream, workers, client, streamed=True)


async def play(case, upstream, workers, client, *, streamed) -> Answer:
    before = len(upstream.calls)
    url = await workers.url(case.provider)
    answer = await ask(client, url, case.body(stream=streamed))
    outgoing = [call.json for call in upstream.calls[before:]]
    if case.provider_body:
        assert outgoing, f"nothing was sent: {answer.status} {answer.error}"
        check(outgoing[-1], case.provider_body)
    if case.error:
        assert answer.error is not None, answer
        check({"status": answer.status, **answer.headers, **answer.error}, case.error)
    else:
        assert answer.error is None, answer.error
        check(answer.message, case.message)
    for body in outgoing:
        assert violations(strictly_openai(body)) == []
    return answer


def strictly_openai(body):
    """Return *body* without the fields that only some providers support."""
    names = {"reasoning_content", "reasoning", "reasoning_details", "prefix", "partial"}
    messages = [
        {name: value for name, value in message.items() if name not in names}
        for message in body["messages"]
    ]
    extra = {"thinking", "enable_thinking", "thinking_budget", "reasoning", "reasoning_split"}
    extra |= {"top_k", "tool_stream", "chat_template_kwargs", "requesty"}
    return {name: value for name, value in body.items() if name not in extra} | {
        "messages": messages
    }


def in_reads_of(size, answer):
    data = b"".join(
        part if isinstance(part, bytes) else as_bytes(part) for part in answer.parts or ()
    )
    if answer.end == "done":
        data += b"data: [DONE]\n\n"
    pieces = [data[at : at + size] for at in range(0, len(data), size)]
    return stream(*pieces, end="eof" if answer.end == "done" else answer.end)


def as_bytes(part):
    if isinstance(part, str):
        return part.encode()
    return b"data: " + json.dumps(part, ensure_ascii=False).encode() + b"\n\n"

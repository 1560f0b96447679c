"""The criteria of `bench.trust`: complete answers and goals."""

from __future__ import annotations

import json

import pytest

from bench.trust.__main__ import RUNS
from bench.trust.figures import at_most, exactly
from bench.trust.provider import MARK, serving, whole
from bench.trust.worker import is_complete, question, running

STREAM = (
    b'event: content_block_delta\ndata: {"text":"mark-7 "}\n\nevent: message_stop\ndata: {}\n\n'
)


@pytest.mark.parametrize(
    ("status", "body", "complete"),
    [
        pytest.param(200, STREAM, True, id="a complete stream"),
        pytest.param(200, STREAM.partition(b"event: message_stop")[0], False, id="cut off"),
        pytest.param(200, STREAM + b"event: error\ndata: {}\n\n", False, id="ended by an error"),
        pytest.param(
            200, STREAM.replace(b"mark-7", b"mark-8"), False, id="another request's answer"
        ),
        pytest.param(200, STREAM.replace(b"mark-7", b"mark-71"), False, id="a longer number"),
        pytest.param(200, b'{"stop_reason":"end_turn","text":"mark-7"}', True, id="whole"),
        pytest.param(529, b'{"text":"mark-7 end_turn"}', False, id="an error"),
    ],
)
def test_only_a_complete_answer_to_the_same_request_counts(status, body, complete):
    assert is_complete(status, body, 7) is complete


def test_figures_meet_their_goals_up_to_the_limit():
    assert exactly("x", 0, 0).is_met
    assert not exactly("x", 1, 0).is_met
    assert at_most("x", 5, 5).is_met
    assert not at_most("x", 5.1, 5).is_met
    assert str(at_most("slow", 7, 5, "why")) == "  FAIL slow: 7 (≤ 5)   why"


def test_every_run_has_a_docstring():
    assert all((run.__doc__ or "").strip() for run in RUNS.values())


def test_a_question_contains_its_mark():
    result = MARK.search(json.dumps(question(42, True)).encode())
    assert result is not None
    assert result[1] == b"42"
    assert "mark-42" in json.dumps(whole("mark-42"))


async def test_a_real_worker_answers_the_rig():
    keys = ["sk-a-key-of-trust-0000", "sk-a-key-of-trust-0001"]
    async with serving() as provider, running(provider.url, keys) as worker:
        for mark, stream in ((1, True), (2, False)):
            assert is_complete(*await worker.post(mark, stream=stream), mark)
        assert provider.by_key == dict.fromkeys(keys, 1)
        assert provider.by_mark == {1: 1, 2: 1}
        assert await worker.settled() == 0
        assert worker.resident() > 10
        assert await worker.reason() == "None"

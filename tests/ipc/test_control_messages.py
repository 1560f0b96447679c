"""The messages of the control socket and the readiness pipe."""

from __future__ import annotations

import pytest

from ccproxy.ipc.codec import MessageError, decode
from ccproxy.ipc.control_messages import (
    DrainRequest,
    KeyCooldown,
    KeyCounts,
    KeyRow,
    KeysReply,
    KeysRequest,
    KeyTest,
    Readiness,
    Refusal,
    WorkerState,
    decode_request,
    encode,
)

COOLDOWN = KeyCooldown(model="m", cause="rate_limit", status=429, seconds=2.5, since=1.0)


@pytest.mark.parametrize(
    "message",
    [
        Refusal(error="no"),
        Readiness(error="in use", errno=98),
        WorkerState(keys=KeyCounts(ready=1, total=2), models={"big": "m", "small": None}),
        KeysReply(keys=(KeyRow(id="k1", cooldowns=(COOLDOWN,)),), tests=(KeyTest(id="k1"),)),
    ],
    ids=lambda message: type(message).__name__,
)
def test_a_message_survives_a_round_trip(message: Refusal | WorkerState | KeysReply) -> None:
    assert decode(type(message), encode(message)) == message


def test_unknown_fields_are_ignored_and_missing_ones_have_defaults() -> None:
    line = b'{"op": "keys", "field_of_a_newer_release": 1}'
    assert decode_request(line) == KeysRequest(action="list", id=None)
    assert decode(WorkerState, b"{}") == WorkerState()


@pytest.mark.parametrize(
    ("line", "text"),
    [
        pytest.param(b"hello", "not JSON", id="no JSON"),
        pytest.param(b"[" * 100_000, "not JSON", id="deep nesting"),
        pytest.param(b"[]", "not a JSON object", id="no object"),
        pytest.param(b'{"op": "dance"}', "op: must be one of state, drain", id="unknown request"),
        pytest.param(b'{"op": ["state"]}', "op: must be one of", id="op of a wrong type"),
        pytest.param(b'{"op": "keys", "action": "burn"}', "action: must be one", id="no choice"),
        pytest.param(b'{"op": "drain", "seconds": "x"}', "seconds: must be", id="wrong type"),
        pytest.param(b'{"op": "drain", "seconds": true}', "seconds: must be", id="a bool"),
    ],
)
def test_an_invalid_request_is_refused_with_the_name_of_its_field(line: bytes, text: str) -> None:
    with pytest.raises(MessageError, match=text):
        decode_request(line)


def test_a_reply_with_a_wrong_field_is_refused() -> None:
    with pytest.raises(MessageError, match="pid: must be int"):
        decode(WorkerState, b'{"pid": "12"}')
    with pytest.raises(MessageError, match="id"):
        decode(KeysReply, b'{"keys": [{}]}')


def test_a_number_of_seconds_may_be_written_without_a_fraction() -> None:
    assert decode_request(b'{"op": "drain", "seconds": 5}') == DrainRequest(seconds=5)

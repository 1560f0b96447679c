"""Commands and replies: they cross the socket unchanged, and anything else is rejected."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ccproxy.errors import Busy, CcproxyError, ConfigError, Mistake, UsageError
from ccproxy.ipc.codec import decode
from ccproxy.supervisor.control.protocol import (
    ControlCommand,
    ControlReply,
    PlannedChange,
    Progress,
    SupervisorInfo,
    decode_command,
    decode_progress,
    encode_message,
    raise_refusal,
    refusal,
)
from ccproxy.supervisor.control.status import Row

COMMAND = ControlCommand(
    op="restart", labels=("kimi",), timeout=1.5, drain=0.0, cwd="/home/u", network={"NO_PROXY": "*"}
)
REPLY = ControlReply(
    ok=True,
    proxies=(Row(label="K", port=1, host="h", state="ready", pids=(1, 2), models={"big": None}),),
    plan=(PlannedChange(label="K", change="~"),),
    notes=("a note",),
    supervisor=SupervisorInfo(pid=7, version="1"),
)


def test_messages_cross_the_socket_unchanged() -> None:
    assert decode_command(encode_message(COMMAND)) == COMMAND
    assert decode(ControlReply, encode_message(REPLY)) == REPLY


def test_progress_lines_are_distinguished_from_replies() -> None:
    progress = Progress(labels=("K",), in_flight=2, seconds_left=9.5)
    assert decode_progress(encode_message(progress)) == progress
    assert decode_progress(encode_message(REPLY)) is None


@pytest.mark.parametrize(
    "rest",
    [
        pytest.param(b"", id="half a line"),
        pytest.param(b": 7}", id="a number"),
        pytest.param(b': {"labels": 7}}', id="a number for the labels"),
        pytest.param(b": " + b"[" * 100_000, id="deeply nested"),
    ],
)
def test_an_invalid_progress_line_is_not_mistaken_for_the_reply(rest: bytes) -> None:
    assert decode_progress(b'{"progress"' + rest) == Progress()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        pytest.param(b"", "not JSON", id="empty"),
        pytest.param(b"{", "not JSON", id="half a line"),
        pytest.param(b"[" * 100_000, "not JSON", id="deeply nested"),
        pytest.param(b"[]", "not a JSON object", id="a list"),
        pytest.param(b"{}", "op", id="no operation"),
        pytest.param(b'{"op": "dance"}', "op: must be one of", id="an unknown operation"),
        pytest.param(b'{"op": "stop", "drain": "x"}', "drain", id="a text for seconds"),
        pytest.param(b'{"op": "stop", "drain": -1}', "at least 0", id="negative seconds"),
        pytest.param(b'{"op": "stop", "drain": NaN}', "at least 0", id="not a number"),
        pytest.param(b'{"op": "stop", "labels": [1]}', "labels", id="a number for a label"),
    ],
)
def test_an_invalid_command_is_a_usage_error_that_names_the_field(
    line: bytes, message: str
) -> None:
    with pytest.raises(UsageError, match=f"not a command: .*{message}"):
        decode_command(line)


def test_unknown_fields_are_ignored() -> None:
    reply = decode(ControlReply, b'{"ok": true, "error": null, "supervisor": {"pid": 3}, "new": 1}')
    assert reply == ControlReply(ok=True, supervisor=SupervisorInfo(pid=3))


@pytest.mark.parametrize("error", [CcproxyError("x"), UsageError("y\n  fix: z"), Busy("b")])
def test_an_error_arrives_with_its_type_and_text(error: CcproxyError) -> None:
    with pytest.raises(type(error)) as caught:
        raise_refusal(decode(ControlReply, encode_message(refusal(error))))
    assert str(caught.value) == str(error)


def test_a_configuration_error_arrives_with_every_mistake() -> None:
    mistakes = [
        Mistake(file=Path("a"), line=3, text="t", fix="f"),
        Mistake(file=Path("b"), line=None, text="u"),
    ]
    with pytest.raises(ConfigError) as caught:
        raise_refusal(decode(ControlReply, encode_message(refusal(ConfigError(mistakes)))))
    assert list(caught.value.mistakes) == mistakes


@pytest.mark.parametrize("kind", ["Exception", "OSError", "Mistake", "__doc__", "Sequence"])
def test_an_unknown_kind_of_error_becomes_the_base_class(kind: str) -> None:
    line = json.dumps({"ok": False, "kind": kind, "error": "text"}).encode()
    with pytest.raises(CcproxyError) as caught:
        raise_refusal(decode(ControlReply, line))
    assert type(caught.value) is CcproxyError

"""
Random input for every parser.

A parser may raise only the error that it documents, and must terminate.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import json
import os
import time
from collections import deque
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from ccproxy.config.fleet import LABEL, read_fleet
from ccproxy.config.parsers import hide_keys
from ccproxy.config.worker_config import load_worker
from ccproxy.convert.errors.classify import classify_error
from ccproxy.errors import ConfigError, Problem
from ccproxy.ipc.control_messages import WorkerState
from ccproxy.ipc.socket_paths import socket_path
from ccproxy.log_rotation import log_path
from ccproxy.protocol.headers import (
    UpstreamHeaders,
    is_framing_header,
    is_header_name,
    is_header_value,
)
from ccproxy.protocol.sse import Decoder
from ccproxy.providers.quirks import Quirks
from ccproxy.redaction import Redactor
from ccproxy.supervisor.sockets.unix_socket import (
    NoAnswer,
    WorkerRefused,
    decode_reply,
)

MANY = settings(
    max_examples=int(os.environ.get("FUZZ_EXAMPLES", "300")),
    deadline=None,  # it would include the time of other processes on a busy machine
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
NAMES = ["PROVIDER", "PROVIDER_BASE_URL", "PROVIDER_API_KEY", "HOST", "PORT", "BIG_MODEL",
         "CUSTOM_HEADER_X", "MAX_RETRIES", "LOG_LEVEL", "UPSTREAM_PROXY", "PASS_MODELS",
         "REQUEST_TIMEOUT", "CONTEXT_WINDOW", "ANTHROPIC_API_KEY"]  # fmt: skip
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=80)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=20,
)


def quick(test):
    """Limit each example to a second of CPU time."""

    @contextlib.contextmanager
    def measured():
        begun = time.process_time()
        yield
        assert time.process_time() - begun < 1.0

    inner = test.hypothesis.inner_test

    @functools.wraps(inner)
    def sync(*args, **kwargs):
        with measured():
            inner(*args, **kwargs)

    @functools.wraps(inner)
    async def in_a_loop(*args, **kwargs):
        with measured():
            await inner(*args, **kwargs)

    test.hypothesis.inner_test = in_a_loop if inspect.iscoroutinefunction(inner) else sync
    return MANY(test)


# The user's files.


@quick
@given(st.binary(max_size=400))
@example(b"proxies = ['1:a:b'" + b"\0")
@example(b"[" * 5000)
@example(b"a." * 5000 + b"b=1")
def test_any_table_is_read_or_rejected(tmp_path, data):
    file = tmp_path / "ccproxy.toml"
    file.write_bytes(data)
    fleet, mistakes = read_fleet(file)
    assert fleet.entries or mistakes, "an empty fleet is a mistake, too"


@quick
@given(
    st.lists(st.tuples(st.sampled_from(NAMES), TEXT), max_size=6),
    st.sampled_from(["{}={}\n", "{}='{}'\n", '{}="{}"\n', "export {} = {}", "{}:{}\n"]),
)
def test_any_env_file_is_read_or_rejected(tmp_path, pairs, form):
    file = tmp_path / "x.env"
    file.write_bytes("".join(form.format(*pair) for pair in pairs).encode())
    file.chmod(0o600)
    with contextlib.suppress(ConfigError):
        config = load_worker(file)
        assert config.base_url.startswith(("https://", "http://", "demo"))


@quick
@given(st.binary(max_size=300))
def test_any_bytes_as_an_env_file_are_read_or_rejected(tmp_path, data):
    file = tmp_path / "x.env"
    file.write_bytes(data)
    file.chmod(0o600)
    with contextlib.suppress(ConfigError):
        assert load_worker(file).env_file == file


# Labels are parts of paths.

TRAPS = ["..", "../x", "a/b", "/etc/passwd", "a\0b", "a\nb", ".hidden", "-x", "con\\x", "ａ", "а",
         "a b", "", "~", "$HOME", "%h", "a" * 33, "a/../../b", "\u202ex", "x\u0301"]  # fmt: skip


@quick
@given(st.text(max_size=40))
def test_a_label_never_leaves_its_folder(label):
    if not LABEL.fullmatch(label) or not label.isascii():
        return
    home = Path("/home/x")
    for path in (log_path(home / "logs", label, 2), socket_path(home, f"{label}.1")):
        assert path.parent.name in ("logs", "state")
        assert Path(os.path.normpath(path)) == path


@pytest.mark.parametrize("label", TRAPS)
def test_a_hostile_label_is_refused(label, tmp_path):
    (tmp_path / "e").mkdir()
    (tmp_path / "e/x.env").write_text("PROVIDER=demo\n")
    file = tmp_path / "ccproxy.toml"
    name = json.dumps(label, ensure_ascii=True)
    file.write_text(f'[[proxy]]\nport = 8081\nenv_file = "e/x.env"\nlabel = {name}\n')
    fleet, mistakes = read_fleet(file)
    assert (fleet.entries, len(mistakes)) == ((), 1)


# Headers.

FORBIDDEN = ["HOST", "CONTENT_LENGTH", "TRANSFER_ENCODING", "CONNECTION", "TE", "TRAILER",
             "UPGRADE", "KEEP_ALIVE", "PROXY_AUTHORIZATION", "PROXY_CONNECTION",
             "PROXY_X"]  # fmt: skip
VALUES = ["a\r\nX: b", "a\nb", "a\rb", "a\0b", "\x7f", "\x1b[31m"]


@pytest.mark.parametrize("name", FORBIDDEN)
def test_connection_headers_cannot_be_configured(name):
    environ = {"PROVIDER": "demo", f"CUSTOM_HEADER_{name}": "x"}
    with pytest.raises(ConfigError, match="is a header of the connection"):
        load_worker(None, environ=environ)


@pytest.mark.parametrize("value", VALUES)
def test_a_header_value_with_a_line_end_is_refused(value):
    with pytest.raises(ConfigError, match="line break or another control character"):
        load_worker(None, environ={"PROVIDER": "demo", "CUSTOM_HEADER_X": value})


@pytest.mark.parametrize("name", ["", "A:B", "A B", "Ä", "A\r\nB", "A\0", "A/B", "(A)"])
def test_an_invalid_header_name_is_refused(name):
    with pytest.raises(ConfigError):
        load_worker(None, environ={"PROVIDER": "demo", f"CUSTOM_HEADER_{name}": "x"})


@quick
@given(st.lists(st.tuples(TEXT, TEXT), max_size=8), TEXT)
def test_upstream_headers_are_valid(pairs, connection):
    client = [*pairs, ("Authorization", "Bearer secret"), ("X-Api-Key", "secret"),
              ("Cookie", "secret"), ("X-Forwarded-For", "secret"), ("TE", "x")]  # fmt: skip
    headers = UpstreamHeaders("bearer", custom={})
    for outgoing in (
        headers.chat("key", stream=True),
        headers.direct("key", [*client, ("Connection", connection)]),
    ):
        assert "secret" not in outgoing.values()
        assert not any(is_framing_header(name) for name in outgoing)


@quick
@given(st.text(max_size=20))
def test_control_characters_are_refused_in_tokens_and_values(text):
    if any(character in text for character in "\r\n\0"):
        assert not is_header_value(text)
        assert not is_header_name(text)


# Data from the network.


@quick
@given(st.lists(st.binary(max_size=60), max_size=12))
@example([b"\xef\xbb\xbfdata: x\r", b"\n\r\n"])
@example([b"data", b":", b" ", b"\n\n"])
def test_any_bytes_are_decoded_as_an_event_stream(parts):
    whole = Decoder()
    once = [*whole.feed(b"".join(parts)), *whole.close()]
    piecewise = Decoder()
    events = [event for part in parts for event in piecewise.feed(part)]
    assert [*events, *piecewise.close()] == once


@pytest.mark.parametrize("line", [b"data: ", b"x" * 100, b"data: x\n"])
def test_an_endless_event_is_not_buffered(line):
    decoder = Decoder(limit=100_000)
    with pytest.raises(Problem):
        deque((decoder.feed(line * 10) for _ in range(3000)), maxlen=0)


@quick
@given(
    st.integers(100, 599), st.dictionaries(TEXT, TEXT, max_size=3), st.binary(max_size=200) | JSON
)
@example(401, {}, {"error": {"message": ["x"]}})
@example(429, {"retry-after": "9" * 500}, b"")
@example(429, {"retry-after": "nan"}, b"{}")
@example(400, {}, {"error": {"message": "{" * 2000}})
def test_any_error_of_a_provider(status, headers, body):
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    output = classify_error(status, headers, data, quirks=Quirks(), now=0.0)
    assert 400 <= output.problem.status < 600
    assert output.problem.message
    assert output.retry_after is None or 0 <= output.retry_after < 10**9


@quick
@given(st.binary(max_size=300))
def test_any_line_on_the_control_socket_is_answered(data):
    try:
        assert isinstance(decode_reply(WorkerState, data, "s.sock"), WorkerState)
    except (NoAnswer, WorkerRefused):
        return


@quick
@given(JSON)
async def test_any_json_request_gets_a_response(start, provider, body):
    proxy = await _shared(start)
    data = msgspec.json.encode(body)
    async with proxy.session.post(proxy.url + "/v1/messages", data=data) as answer:
        assert answer.status in (200, 400), await answer.text()


@quick
@given(
    st.fixed_dictionaries(
        {"model": TEXT, "max_tokens": st.integers(-5, 10**20), "messages": JSON},
        optional={"system": JSON, "tools": JSON, "tool_choice": JSON, "thinking": JSON,
                  "stop_sequences": JSON, "temperature": JSON, "stream": JSON, "metadata": JSON},
    )
)  # fmt: skip
async def test_a_slightly_damaged_request_gets_a_response(start, provider, body):
    proxy = await _shared(start)
    data = msgspec.json.encode(body)
    async with proxy.session.post(proxy.url + "/v1/messages", data=data) as answer:
        assert answer.status in (200, 400), await answer.text()


_running: dict[int, object] = {}


async def _shared(start):
    """Return one worker for all examples of a test."""
    if id(start) not in _running:
        _running.clear()
        _running[id(start)] = await start()
    return _running[id(start)]


# Redaction.

SECRET = "s3cr3t-of-a-kind-0123456789"


@quick
@given(TEXT, TEXT)
def test_a_configured_secret_is_always_masked(before, after):
    redact = Redactor([SECRET])
    for text in (before + SECRET + after, json.dumps(before + SECRET + after)):
        assert SECRET not in redact(text)


@quick
@given(st.from_regex(r"sk-[A-Za-z0-9]{20,40}", fullmatch=True), TEXT)
def test_configuration_errors_mask_keys(key, around):
    assert key not in hide_keys(f'{around} "{key}" {around}')

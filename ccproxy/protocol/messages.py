r"""
The Messages API: what a client sends, and the body of an error.

Only what conversion must look at is decoded; the rest stays `Raw`. Unknown fields, blocks, roles
and tool types are never an error: the API grows faster than its clients are updated, and Claude
Code's beta fields come and go. What the API itself would refuse is refused in its own words.

Rules:
    1. A body is JSON in UTF-8, an object with `model` and at least one message.
    2. A lone surrogate (`\ud83d` of a cut emoji) becomes U+FFFD, because no encoder takes it.
    3. No body raises anything but `Problem`, whatever its nesting or its numbers.
"""

from __future__ import annotations

import re
from codecs import utf_8_decode
from typing import Any, Final, NamedTuple

import msgspec
from msgspec import Raw

from ccproxy.errors import Problem
from ccproxy.protocol.literals import ABSENT, BRACKET, QUOTE, invalid_request, is_present, read

Event = dict[str, Any]
"""One event of a Messages stream; its `type` is also the SSE event name."""


class Block(msgspec.Struct, gc=False):
    """A content block of any type; a field that its type does not have is absent."""

    type: str
    text: Raw = ABSENT
    cache_control: Raw = ABSENT
    # tool_use, server_tool_use, mcp_tool_use
    id: Raw = ABSENT
    name: Raw = ABSENT
    input: Raw = ABSENT
    # tool_result and the results of server tools
    tool_use_id: Raw = ABSENT
    content: Raw = ABSENT
    is_error: Raw = ABSENT
    # image, document, search_result
    source: Raw = ABSENT
    title: Raw = ABSENT
    context: Raw = ABSENT
    # thinking
    thinking: Raw = ABSENT
    signature: Raw = ABSENT
    # tool_reference
    tool_name: Raw = ABSENT


class Source(msgspec.Struct, gc=False):
    """Where an image or a document comes from."""

    type: str = ""
    media_type: Raw = ABSENT
    data: Raw = ABSENT
    url: Raw = ABSENT
    file_id: Raw = ABSENT
    content: Raw = ABSENT


class OutputFormat(msgspec.Struct, gc=False):
    """The form that the whole answer must have."""

    type: str
    schema: Raw = ABSENT


class OutputConfig(msgspec.Struct, gc=False):
    """How much effort, and in which form."""

    effort: str | None = None
    format: OutputFormat | None = None


class Message(msgspec.Struct, gc=False):
    """One turn: `content` is a string or a list of blocks, see `blocks_of`."""

    role: str
    content: Raw
    output_config: OutputConfig | None = None


class Tool(msgspec.Struct, gc=False):
    """A tool of any type; server tools have neither description nor schema."""

    name: str = ""
    type: str | None = None
    description: Raw = ABSENT
    input_schema: Raw = ABSENT
    defer_loading: bool | None = None


class ToolChoice(msgspec.Struct, gc=False):
    """Whether and which tool the model must use."""

    type: str
    name: str | None = None
    disable_parallel_tool_use: bool | None = None


class Thinking(msgspec.Struct, gc=False):
    """enabled (with a budget), disabled, adaptive, between_tools, or what comes next."""

    type: str
    budget_tokens: int | None = None


class Metadata(msgspec.Struct, gc=False):
    """About the request; Claude Code's user_id is a JSON text of some 190 characters."""

    user_id: str | None = None


class MessagesRequest(msgspec.Struct, gc=False):
    """A request; the second half is only there to say that it was dropped."""

    model: str
    messages: list[Message]
    max_tokens: int | None = None
    system: Raw = ABSENT
    tools: Raw = ABSENT
    tool_choice: ToolChoice | None = None
    stream: bool | None = None
    stop_sequences: list[str] | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    thinking: Thinking | None = None
    output_config: OutputConfig | None = None
    output_format: OutputFormat | None = None
    metadata: Metadata | None = None

    betas: Raw = ABSENT
    billing_policy: Raw = ABSENT
    cache_control: Raw = ABSENT
    compaction: Raw = ABSENT
    container: Raw = ABSENT
    context_management: Raw = ABSENT
    diagnostics: Raw = ABSENT
    fallback_credit_token: Raw = ABSENT
    fallbacks: Raw = ABSENT
    inference_geo: Raw = ABSENT
    mcp_servers: Raw = ABSENT
    safeguards: Raw = ABSENT
    service_tier: Raw = ABSENT
    speed: Raw = ABSENT
    thread: Raw = ABSENT


ANTHROPIC_ONLY: Final = (
    "betas",
    "billing_policy",
    "cache_control",
    "compaction",
    "container",
    "context_management",
    "diagnostics",
    "fallback_credit_token",
    "fallbacks",
    "inference_geo",
    "mcp_servers",
    "safeguards",
    "service_tier",
    "speed",
    "thread",
)
"""Fields that mean nothing to a Chat Completions provider."""


# Reading a request...

_REQUEST = msgspec.json.Decoder(MessagesRequest)
_FIELDS = msgspec.json.Decoder(dict[str, Raw])
_KNOWN = frozenset(MessagesRequest.__struct_fields__)
_BLOCKS = msgspec.json.Decoder(list[Block])
_TOOLS = msgspec.json.Decoder(list[Tool])
_SOURCE = msgspec.json.Decoder(Source)

BASE64: Final = b'"base64"'
_PICTURE = re.compile(
    rb'\{\s*"type"\s*:\s*"base64"\s*,\s*"media_type"\s*:\s*("[\w/+.-]*")\s*,\s*"data"\s*:\s*"'
)

_LONGEST_NAME = 256

_SLICE = 32 * 1024
_ESCAPE = re.compile(rb"\\u[0-9a-fA-F]")
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
_ESCAPES = re.compile(
    rb"(\\[^u]"  # an escaped backslash must not lend its partner to what follows
    rb"|\\u[dD][89aAbB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2})"
    rb"|\\u[dD][89a-fA-F][0-9a-fA-F]{2}"
)


class ScannedBody(NamedTuple):
    """The body of a request, and what a look at every byte of it has told; one look is enough."""

    body: bytes
    """UTF-8 without lone surrogates."""
    characters: int
    has_escapes: bool
    r"""Whether there is any `\u…`."""
    has_base64: bool
    """Whether a picture or a document may be in it: `"base64"` is."""


def scan_body(body: bytes) -> ScannedBody:
    """
    Look over the *body* of a request.

    Raises:
        Problem: invalid_request_error if it is not UTF-8.
    """
    try:
        characters = len(body) if body.isascii() else _characters(body)
    except UnicodeDecodeError as error:
        raise invalid_request("The request body is not valid UTF-8") from error
    # Base64 has no backslashes, and to look for one byte costs next to nothing.
    has_escapes = b"\\" in body and _ESCAPE.search(body) is not None
    if has_escapes and _SURROGATE.search(body):
        body = replace_lone_surrogates(body)
    return ScannedBody(body, characters, has_escapes, BASE64 in body)


def _characters(body: bytes) -> int:
    """Count the characters, slice by slice: one string of them all would be twice the body."""
    view, at, characters = memoryview(body), 0, 0
    while at < len(body):
        rest = len(body) - at
        decoded, used = utf_8_decode(view[at : at + _SLICE], "strict", rest <= _SLICE)
        characters += len(decoded)
        at += used
    return characters


def read_request(body: bytes | ScannedBody, *, counting: bool = False) -> MessagesRequest:
    """
    Read a request's *body*; `counting` requests (count_tokens) have no max_tokens.

    Raises:
        Problem: invalid_request_error with the path of the field that is wrong.
    """
    text = body if isinstance(body, ScannedBody) else scan_body(body)
    request = read(_REQUEST, text.body)
    check_model(request.model)
    if not request.messages:
        raise invalid_request("at least one message is required", "messages")
    if request.max_tokens is None and not counting:
        raise invalid_request("Field required", "max_tokens")
    if request.max_tokens is not None and request.max_tokens < 0:
        raise invalid_request("Input should be greater than or equal to 0", "max_tokens")
    return request


def check_model(name: str) -> None:
    """Raise a Problem if *name* is too long for a model's; much is remembered by them."""
    if len(name) > _LONGEST_NAME:
        raise invalid_request(f"String should have at most {_LONGEST_NAME} characters", "model")


def replace_lone_surrogates(body: bytes) -> bytes:
    """Return *body* with U+FFFD for every half of a surrogate pair, which no decoder takes."""
    return _ESCAPES.sub(lambda found: found[1] or rb"\ufffd", body)


def unknown_fields(body: bytes) -> tuple[str, ...]:
    """Return the names of a request's fields that nobody here knows; for the log."""
    return tuple(_FIELDS.decode(body).keys() - _KNOWN)


def blocks_of(content: Raw) -> list[Block]:
    """Read `content` that is a string or a list of blocks; a string is one text block."""
    opening = memoryview(content)[0] if content is not ABSENT else 0
    if opening == BRACKET:
        try:
            return _BLOCKS.decode(content)
        except (msgspec.MsgspecError, RecursionError):
            return read(_BLOCKS, content, "content")  # again, to say what is wrong
    if opening == QUOTE:
        return [Block("text", content)]
    raise invalid_request("Input should be a valid string or list of blocks", "content")


def tools_of(tools: Raw) -> list[Tool]:
    """Read the tools of a request."""
    return read(_TOOLS, tools, "tools")


def source_of(block: Block) -> Source:
    """Read where an image or document comes from."""
    if not is_present(block.source):
        raise invalid_request("Field required", "source")
    return _picture(bytes(block.source)) or read(_SOURCE, block.source, "source")


def _picture(source: bytes) -> Source | None:
    """
    Read a picture as clients write it, None if it is written otherwise.

    That it is JSON is known already; to look for the quote at the end of half a megabyte of base64
    is ten times cheaper than to decode it once more.
    """
    found = _PICTURE.match(source)
    if found is None or source.find(QUOTE, found.end()) != len(source) - len(b'"}'):
        return None
    data = memoryview(source)[found.end() - 1 : -1]
    return Source("base64", media_type=Raw(found[1]), data=Raw(data))


# ...and answering with an error.


def error_body(problem: Problem, request_id: str | None = None) -> bytes:
    """Encode *problem* as the body of an HTTP answer, which is also the data of an error event."""
    body: dict[str, Any] = {
        "type": "error",
        "error": {"type": problem.kind, "message": problem.message},
    }
    if request_id is not None:
        body["request_id"] = request_id
    return msgspec.json.encode(body)

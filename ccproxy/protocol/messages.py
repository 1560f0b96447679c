r"""
The Messages API: client requests and error bodies.

Only the fields that conversion reads are decoded; the rest stays `Raw`. Unknown fields, blocks,
roles and tool types are never an error, because the API grows and Claude Code's beta fields change
with every release. Requests that the API itself refuses are refused with its wording.

Rules:
    1. A body is a JSON object in UTF-8 with `model` and at least one message.
    2. A lone surrogate (`\ud83d` of a truncated emoji) becomes U+FFFD; encoders refuse it.
    3. Invalid bodies of any kind raise `Problem` and nothing else.
"""

from __future__ import annotations

import re
import string
from codecs import utf_8_decode
from operator import add, sub
from typing import Any, Final, NamedTuple

import msgspec
from msgspec import Raw

from ccproxy.errors import Problem
from ccproxy.protocol.json_splice import NOT_JSON
from ccproxy.protocol.lenient_json import replace_lone_surrogates
from ccproxy.protocol.literals import ABSENT, BRACKET, QUOTE, invalid_request, is_present, read

Event = dict[str, Any]
"""An event of a Messages stream; its `type` is also the SSE event name."""


class Block(msgspec.Struct, gc=False):
    """A content block of any type; missing fields are ABSENT."""

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
    # redacted_thinking
    data: Raw = ABSENT
    # tool_reference
    tool_name: Raw = ABSENT


class Source(msgspec.Struct, gc=False):
    """The source of an image or a document."""

    type: str = ""
    media_type: Raw = ABSENT
    data: Raw = ABSENT
    url: Raw = ABSENT
    file_id: Raw = ABSENT
    content: Raw = ABSENT


class OutputFormat(msgspec.Struct, gc=False):
    """The required format of the whole answer."""

    type: str
    schema: Raw = ABSENT


class OutputConfig(msgspec.Struct, gc=False):
    """Effort and format of the answer."""

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
    """The tools that the model may or must call."""

    type: str
    name: str | None = None
    disable_parallel_tool_use: bool | None = None


class Thinking(msgspec.Struct, gc=False):
    """The type is enabled (with a budget), disabled, adaptive, between_tools or a future value."""

    type: str
    budget_tokens: int | None = None
    display: str | None = None
    """"omitted": thinking blocks have no text."""


class Metadata(msgspec.Struct, gc=False):
    """Metadata; Claude Code's user_id is a JSON string of about 190 characters."""

    user_id: str | None = None


class MessagesRequest(msgspec.Struct, gc=False):
    """A request; the fields from `betas` on are read only to report that they were dropped."""

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


_FIELD_NAMES = MessagesRequest.__struct_fields__
ANTHROPIC_ONLY: Final = _FIELD_NAMES[_FIELD_NAMES.index("betas") :]
"""Fields without an equivalent in other APIs."""

_REQUEST = msgspec.json.Decoder(MessagesRequest)
_FIELDS = msgspec.json.Decoder(dict[str, Raw])
_KNOWN = frozenset(_FIELD_NAMES)
_BLOCKS = msgspec.json.Decoder(list[Block])
_TOOLS = msgspec.json.Decoder(list[Tool])
_SOURCE = msgspec.json.Decoder(Source)

BASE64: Final = b'"base64"'
_BASE64_SOURCE = re.compile(
    rb'\{\s*"type"\s*:\s*"base64"\s*,\s*"media_type"\s*:\s*("[\w/+.-]*")\s*,\s*"data"\s*:\s*"'
)

_LONGEST_NAME = 256

MAX_MESSAGES: Final = 100_000
"""The limit of the Messages API."""
MAX_STOP_SEQUENCES: Final = 1_000
"""Every chunk of the answer is searched for every sequence."""
MAX_STOPS_SIZE: Final = 64 * 1024
"""Total characters of all stop sequences."""
MAX_TOOLS_SIZE: Final = 4 * 1024 * 1024
"""Bytes; their conversion takes about 0.2 s."""
MAX_BLOCKS: Final = 200_000

_SLICE = 32 * 1024
_ESCAPE = re.compile(rb"\\u[0-9a-fA-F]")


class CharacterCounts(NamedTuple):
    """
    Counts of a text's characters by class, for the token estimate.

    The counts of parts can be added. A run that continues in the next part is counted in both.
    """

    letters: int
    """ASCII letters."""
    punctuation: int
    """Other printable ASCII characters, and control characters."""
    digits: int
    digit_runs: int
    space_runs: int
    scripts: tuple[int, ...] = ()
    """Non-ASCII characters, in the order of `SCRIPTS`; empty for pure ASCII."""

    def plus(self, other: CharacterCounts, factor: int = 1) -> CharacterCounts:
        """Return the sum of both counts; a *factor* of -1 subtracts *other*."""
        scripts = self.scripts
        if other.scripts:
            operation = add if factor == 1 else sub
            scripts = tuple(map(operation, scripts or _NO_SCRIPTS, other.scripts))
            scripts = scripts if any(scripts) else ()
        return CharacterCounts(
            self.letters + factor * other.letters,
            self.punctuation + factor * other.punctuation,
            self.digits + factor * other.digits,
            self.digit_runs + factor * other.digit_runs,
            self.space_runs + factor * other.space_runs,
            scripts,
        )


NO_CHARACTERS: Final = CharacterCounts(0, 0, 0, 0, 0)

SCRIPTS: Final = {
    "latin": (0xC2, 0xCB),
    "greek": (0xCC, 0xCF),
    "cyrillic": (0xD0, 0xD3),
    "semitic": (0xD4, 0xDF),
    "indic": (0xE0, 0xE1),  # also Thai
    "symbols": (0xE2, 0xE2),  # quotation marks, dashes, arrows
    "cjk": (0xE3, 0xE9),
    "hangul": (0xEA, 0xED),
    "other": (0xEE, 0xF4),  # emoji and private use
}
"""Groups of scripts, as inclusive ranges of the first UTF-8 byte of their characters."""
_NO_SCRIPTS = (0,) * len(SCRIPTS)

_NOT_FIRST_BYTES = bytes(range(0xC2))
_WITHOUT_SCRIPT = {
    name: bytes(set(range(256)) - set(range(first, last + 1)))
    for name, (first, last) in SCRIPTS.items()
}


_ASCII = bytes(range(128))
_NOT_PUNCTUATION = bytes(
    byte
    for byte in range(256)
    if byte >= 128 or byte in f"{string.ascii_letters}{string.digits} ".encode()
)
# Digits and spaces as bits of a byte, for `bytes.translate`.
_MARKS = bytes(
    1 if byte in string.digits.encode() else 2 if byte == 32 else 0 for byte in range(256)
)
_DIGIT_BITS = int.from_bytes(b"\1" * _SLICE, "little")


def count_characters(text: bytes) -> CharacterCounts:
    """
    Count the characters of valid UTF-8 by class, in a few passes of C code.

    Digits and spaces become bits of a long integer, because counting runs in it is faster than
    searching for them: 0.7 ms for 150 KB. Large texts are counted in slices, because the integers
    take several times the memory of their text.
    """
    total = _count_slice(text[:_SLICE])
    for start in range(_SLICE, len(text), _SLICE):
        total = total.plus(_count_slice(text[start : start + _SLICE]))
        if (joint := text[start - 1 : start + 1]).isdigit():
            total = total._replace(digit_runs=total.digit_runs - 1)
        elif joint == b"  ":
            total = total._replace(space_runs=total.space_runs - 1)
    return total


def _count_slice(text: bytes) -> CharacterCounts:
    marks = int.from_bytes(text.translate(_MARKS), "little")
    # A run has one more character than adjacent pairs.
    pairs = marks & (marks << 8)
    digits, digit_pairs = (marks & _DIGIT_BITS).bit_count(), (pairs & _DIGIT_BITS).bit_count()
    spaces, space_pairs = marks.bit_count() - digits, pairs.bit_count() - digit_pairs
    punctuation = len(text.translate(None, _NOT_PUNCTUATION))
    ascii_size = len(text)
    scripts: tuple[int, ...] = ()
    if not text.isascii():
        ascii_size -= len(text.translate(None, _ASCII))
        first_bytes = text.translate(None, _NOT_FIRST_BYTES)
        scripts = tuple(len(first_bytes.translate(None, rest)) for rest in _WITHOUT_SCRIPT.values())
    return CharacterCounts(
        letters=ascii_size - punctuation - digits - spaces,
        punctuation=punctuation,
        digits=digits,
        digit_runs=digits - digit_pairs,
        space_runs=spaces - space_pairs,
        scripts=scripts,
    )


class ScannedBody(NamedTuple):
    """A request's body and properties of its bytes, which are scanned only once."""

    body: bytes
    """UTF-8 without lone surrogates."""
    counts: CharacterCounts
    has_escapes: bool
    r"""True if it contains any `\u…`."""
    has_base64: bool
    """True if it contains `"base64"` and therefore possibly images or documents."""


def scan_body(body: bytes) -> ScannedBody:
    """Scan the *body* of a request; raise Problem if it is not UTF-8."""
    try:
        if not body.isascii():
            _check_utf8(body)
    except UnicodeDecodeError as error:
        raise invalid_request("The request body is not valid UTF-8") from error
    # A search for one byte is cheap, and rules out escapes in bodies that are mostly base64.
    has_escapes = b"\\" in body and _ESCAPE.search(body) is not None
    if has_escapes:
        body = replace_lone_surrogates(body)
    return ScannedBody(body, count_characters(body), has_escapes, BASE64 in body)


def _check_utf8(body: bytes) -> None:
    """Check *body* in slices, because decoding all of it at once would double its memory."""
    view, position = memoryview(body), 0
    while position < len(body):
        is_last = len(body) - position <= _SLICE
        position += utf_8_decode(view[position : position + _SLICE], "strict", is_last)[1]


def read_request(body: bytes | ScannedBody, *, counting: bool = False) -> MessagesRequest:
    """
    Read a request's *body*; `counting` requests (count_tokens) have no max_tokens.

    Raises:
        Problem: invalid_request_error with the path of the invalid field.
    """
    text = body if isinstance(body, ScannedBody) else scan_body(body)
    request = read(_REQUEST, text.body)
    check_model(request.model)
    if not request.messages:
        raise invalid_request("at least one message is required", "messages")
    _check_counts(request, text.body)
    if request.max_tokens is None and not counting:
        raise invalid_request("Field required", "max_tokens")
    if request.max_tokens is not None and request.max_tokens < 0:
        raise invalid_request("Input should be greater than or equal to 0", "max_tokens")
    return request


def _check_counts(request: MessagesRequest, body: bytes) -> None:
    """Refuse requests with so many parts that their conversion would block the worker."""
    if len(request.messages) > MAX_MESSAGES:
        raise invalid_request(f"at most {MAX_MESSAGES:,} messages are allowed", "messages")
    if len(request.stop_sequences or ()) > MAX_STOP_SEQUENCES:
        text = f"at most {MAX_STOP_SEQUENCES:,} stop sequences are allowed"
        raise invalid_request(text, "stop_sequences")
    if sum(map(len, request.stop_sequences or ())) > MAX_STOPS_SIZE:
        text = f"at most {MAX_STOPS_SIZE:,} characters are allowed"
        raise invalid_request(text, "stop_sequences")
    if len(memoryview(request.tools)) > MAX_TOOLS_SIZE:
        text = f"tools: at most {MAX_TOOLS_SIZE:,} bytes are allowed"
        raise Problem("request_too_large", text)
    # Quotes inside strings are escaped, so only fields are counted.
    if len(body) > MAX_TOOLS_SIZE and body.count(b'"type"') > MAX_BLOCKS:
        text = f"messages: at most {MAX_BLOCKS:,} content blocks are allowed"
        raise Problem("request_too_large", text)


def check_model(name: str) -> None:
    """
    Check the length of a model's *name*, because caches use names as keys.

    Raises:
        Problem: If it is too long.
    """
    if len(name) > _LONGEST_NAME:
        raise invalid_request(f"String should have at most {_LONGEST_NAME} characters", "model")


def unknown_fields(body: bytes) -> tuple[str, ...]:
    """Return the names of the request's unknown fields, for the log."""
    return tuple(_FIELDS.decode(body).keys() - _KNOWN)


def blocks_of(content: Raw, field: str = "content") -> list[Block]:
    """Decode *field*, a string or a list of blocks; a string is one text block."""
    opening = memoryview(content)[0] if content is not ABSENT else 0
    if opening == BRACKET:
        try:
            return _BLOCKS.decode(content)
        except NOT_JSON:
            return read(_BLOCKS, content, field)  # decodes again to get the error text
    if opening == QUOTE:
        return [Block("text", content)]
    raise invalid_request("Input should be a valid string or list of blocks", field)


def tools_of(tools: Raw) -> list[Tool]:
    """Decode the tools of a request."""
    return read(_TOOLS, tools, "tools")


def source_of(block: Block) -> Source:
    """Decode the source of an image or document."""
    if not is_present(block.source):
        raise invalid_request("Field required", "source")
    return _base64_source(bytes(block.source)) or read(_SOURCE, block.source, "source")


def _base64_source(source: bytes) -> Source | None:
    """
    Decode a base64 source with the usual fields in the usual order, or return None.

    The JSON is already validated. Searching 500 KB of base64 for the closing quote is ten times
    cheaper than decoding it again.
    """
    match = _BASE64_SOURCE.match(source)
    if match is None or source.find(QUOTE, match.end()) != len(source) - len(b'"}'):
        return None
    data = memoryview(source)[match.end() - 1 : -1]
    return Source("base64", media_type=Raw(match[1]), data=Raw(data))


def error_body(problem: Problem, request_id: str | None = None) -> bytes:
    """Encode *problem* as the body of an HTTP response or the data of an error event."""
    body: dict[str, Any] = {
        "type": "error",
        "error": {"type": problem.kind, "message": problem.message},
    }
    if request_id is not None:
        body["request_id"] = request_id
    return msgspec.json.encode(body)

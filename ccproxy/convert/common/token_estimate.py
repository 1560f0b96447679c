"""
How many tokens a request has, without a tokenizer and without looking at every character.

Theory of operation: the JSON of a text is measured as it stands, by its bytes and the characters in
them: ASCII has some 3.7 bytes per token (code fewer, prose more), a character of three bytes in
UTF-8 (Chinese, Japanese, Korean) is a token. Only where base64 may hide is a message looked into:
pictures and documents cost by their size, not by their encoding. 148 KB take less than 0.1 ms, so
that every `message_start` can afford it.

What is left of the error is the tokenizer's, which differs from model to model: `Calibration`
learns a factor from what the provider reports.
"""

from __future__ import annotations

import msgspec
from msgspec import Raw

from ccproxy.convert.common.image_size import size_of
from ccproxy.protocol.messages import (
    BASE64,
    Message,
    MessagesRequest,
    ScannedBody,
    scan_body,
)

ASCII_PER_TOKEN = 3.7
WIDE_PER_TOKEN = 1.0
"""Measured with o200k on Python, Markdown and Chinese, and moved towards Claude's finer cut."""
FIXED = 3.0
PER_MESSAGE = 4.0
PER_TOOL = 8.0
UNKNOWN_PICTURE = 1500.0
LARGEST_PICTURE = 1600.0
PIXELS_PER_TOKEN = 750.0
"""Anthropic, "Vision": tokens = width · height / 750; larger pictures are scaled down."""
DOCUMENT_FIRST = 1500.0
BASE64_PER_TOKEN = 34.0
"""A page of a PDF is some 70 KB of base64 and 2,000 tokens."""

_MAY_HIDE_BASE64 = 2 * 1024
"""Bytes: in shorter messages a picture counts as the text that it looks like."""
_DEEPEST = 4


def estimate(
    request: MessagesRequest, text: ScannedBody | None = None, *, tools: int | None = None
) -> int:
    """
    Return about how many tokens *request* puts into the model's window, at least one.

    *text* is what it was read from and *tools* their number, which saves another look at every
    byte. Grows with everything that is added. Never raises, whatever the content.
    """
    counted = [request.system, request.tools, *(message.content for message in request.messages)]
    if text is None:
        text = scan_body(b"".join(counted))
    size = sum([len(memoryview(part)) for part in counted])
    if tools is None:
        # Every tool has one schema; counting the words is cheaper than decoding the list.
        tools = bytes(request.tools).count(b'"input_schema"')
    tokens = FIXED + PER_TOOL * tools + PER_MESSAGE * len(request.messages)
    # Encoders write other letters as they are or as escapes. Only where nothing but ASCII is
    # found may it be the latter, and is worth the search.
    if text.has_escapes and text.characters == len(text.body):
        tokens += sum(_of_escapes(bytes(part)) for part in counted)
    else:
        # What is not counted, the names of the fields, is ASCII.
        tokens += _of_size(size, text.characters - (len(text.body) - size))
    if text.has_base64:
        tokens += sum(map(_of_hidden, request.messages))
    return int(tokens)


def _of_size(size: int, characters: int) -> float:
    """Measure the JSON of texts by its bytes and characters."""
    wide_or_half = (size - characters) / 2
    return (characters - wide_or_half) / ASCII_PER_TOKEN + wide_or_half / WIDE_PER_TOKEN


def _of_escapes(text: bytes) -> float:
    """The same for other letters written as escapes: those of two bytes begin with a zero."""
    escapes = text.count(b"\\u")
    narrow = text.count(b"\\u0") if escapes else 0
    wide_or_half = escapes - narrow / 2
    rest = len(text) - 6 * escapes + narrow / 2
    return rest / ASCII_PER_TOKEN + wide_or_half / WIDE_PER_TOKEN


# Pictures and documents: taken out as text, put in by their size.


class _Source(msgspec.Struct, gc=False):
    type: str = ""
    data: Raw = Raw(b"")


class _Block(msgspec.Struct, gc=False):
    type: str = ""
    source: _Source | None = None
    content: Raw = Raw(b"")


_BLOCKS = msgspec.json.Decoder(list[_Block])


_KEPT = 8
_LONGEST_KEPT = 2 * 1024 * 1024
_measured: list[tuple[Raw, float]] = []
"""A picture comes again with every turn, and comparing is cheaper. The last used is the first."""


def _of_hidden(message: Message) -> float:
    """Return what a *message* with pictures or documents counts besides its size."""
    content = message.content
    size = len(memoryview(content))
    if message.role != "user" or size <= _MAY_HIDE_BASE64 or BASE64 not in bytes(content):
        return 0.0
    for index, (kept, counted) in enumerate(_measured):
        if kept == content:
            _measured.insert(0, _measured.pop(index))
            return counted
    counted = _difference(content, depth=0)
    if size <= _LONGEST_KEPT:
        _measured.insert(0, (content.copy(), counted))
        del _measured[_KEPT:]
    return counted


def _difference(content: Raw, *, depth: int) -> float:
    """Return by how much the blocks of *content* are not the text that they look like."""
    if depth > _DEEPEST or bytes(memoryview(content)[:1]) != b"[":
        return 0.0
    try:
        blocks = _BLOCKS.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return 0.0  # the conversion will say what is wrong with it
    total = 0.0
    for block in blocks:
        total += _difference(block.content, depth=depth + 1)
        if block.source is not None and block.source.type == "base64":
            total += _of_source(block.type, memoryview(block.source.data)[1:-1])
    return total


def _of_source(kind: str, data: memoryview) -> float:
    as_text = len(data) / ASCII_PER_TOKEN
    if kind != "image":
        return DOCUMENT_FIRST + len(data) / BASE64_PER_TOKEN - as_text
    size = size_of(data)
    pixels = UNKNOWN_PICTURE if size is None else size[0] * size[1] / PIXELS_PER_TOKEN
    # Never less than it would count in a short message, so that the estimate only ever grows.
    least = min(as_text, _MAY_HIDE_BASE64 / ASCII_PER_TOKEN)
    return max(min(pixels, LARGEST_PICTURE), least) - as_text


# What is learnt.

_SHARE = 0.2
_LEAST, _MOST = 0.4, 2.5
_TOO_SHORT = 500
"""Tokens: in shorter requests the template around the messages weighs too much."""
_MODELS_KEPT = 256


class Calibration:
    """
    The factor between the estimate and the provider's count, per model.

    An exponential average; the first answers count fully. What says that the estimate is wrong by
    more than a tokenizer can be (0.4 to 2.5) is nonsense of the provider's, and nothing is learnt.
    Of very many models those are forgotten about which nothing was learnt for longest.
    """

    def __init__(self) -> None:
        self._factors: dict[str, tuple[float, int]] = {}

    def learn(self, model: str, *, estimated: int, reported: int) -> None:
        """Take in that *model* counted *reported* input tokens, cached ones among them."""
        if estimated < _TOO_SHORT:
            return
        seen = reported / estimated
        if not _LEAST <= seen <= _MOST:
            return
        factor, times = self._factors.pop(model, (1.0, 0))
        share = max(_SHARE, 1 / (times + 1))
        self._factors[model] = (factor + share * (seen - factor), times + 1)
        while len(self._factors) > _MODELS_KEPT:
            del self._factors[next(iter(self._factors))]

    def knows(self, model: str) -> bool:
        """Whether anything was learnt about *model*."""
        return model in self._factors

    def factor(self, model: str) -> float:
        """Return the factor for *model*, 1 while nothing is known."""
        return self._factors.get(model, (1.0, 0))[0]

    def apply(self, model: str, estimated: int) -> int:
        """Return the *estimated* tokens as *model* would count them, at least one."""
        return max(1, round(estimated * self.factor(model)))

    def export(self) -> dict[str, tuple[float, int]]:
        """Return what was learnt as plain data."""
        return dict(self._factors)

    def restore(self, kept: dict[str, tuple[float, int]]) -> None:
        """
        Take over what `export` returned.

        Raises:
            TypeError, ValueError: If it is something else.

        """
        self._factors = {
            str(model): (min(max(float(factor), _LEAST), _MOST), int(times))
            for model, (factor, times) in kept.items()
        }

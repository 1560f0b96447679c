"""
Estimate of a request's tokens without a tokenizer, and its calibration.

Texts are measured by their characters: letters, punctuation, digits, runs of digits and of spaces,
and each group of scripts have a weight in tokens, which depends on the model's vocabulary. Images
and documents count by their size instead of their base64, so only messages that contain base64 are
decoded. The time is linear in the size of the body; the counts of a conversation's beginning are
reused between turns (`request_cache`).

The weights of six vocabularies are fitted to code, numbered code, JSON, listings, logs, diffs,
hashes, and prose in 16 languages. The mean error over these kinds of text is 6 %; the largest for
any kind of ASCII text is 20 % (listings in columns). Scripts that share a class have larger errors:
the estimate is 20 % too low for Ukrainian, 14 % too high for Russian, and a third too high for Thai
with Qwen and DeepSeek.

`Calibration` learns a factor from the usage that the provider reports.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import mul

import msgspec
from msgspec import Raw

from ccproxy.bounded_dict import BoundedDict
from ccproxy.convert.common.image_size import size_of
from ccproxy.protocol.json_splice import NOT_JSON
from ccproxy.protocol.literals import ABSENT
from ccproxy.protocol.messages import (
    BASE64,
    NO_CHARACTERS,
    Block,
    CharacterCounts,
    Message,
    MessagesRequest,
    ScannedBody,
    count_characters,
    scan_body,
)
from ccproxy.providers.quirks import Vocabulary


@dataclass(frozen=True, slots=True)
class Weights:
    """Tokens per character of JSON, for one vocabulary."""

    letter: float
    punctuation: float
    digit: float
    """About 1 for vocabularies with one token per digit (Qwen, Gemma, Mistral)."""
    digit_run: float
    """Tokens per run of digits: more for vocabularies with one token for up to three digits."""
    space_run: float
    scripts: tuple[float, ...]
    """For non-ASCII characters, in the order of `SCRIPTS`."""

    @property
    def field_name(self) -> float:
        """Tokens per character of the JSON field names, including their quotation marks."""
        return 0.7 * self.letter + 0.3 * self.punctuation


# fmt: off
VOCABULARIES: Mapping[Vocabulary, Weights] = {
    # letter, punctuation, digit, digit_run, space_run; scripts in the order of `SCRIPTS`
    "o200k": Weights(0.17, 0.44, 0.14, 1.62, 0.52,
        scripts=(1.01, 0.30, 0.22, 0.25, 0.32, 1.40, 0.81, 0.59, 1.50)),
    "deepseek": Weights(0.22, 0.46, 0.12, 1.64, 0.24,
        scripts=(1.94, 0.49, 0.33, 0.39, 0.51, 1.35, 0.69, 0.80, 1.50)),
    "qwen": Weights(0.18, 0.43, 1.04, 0.72, 0.42,
        scripts=(1.54, 0.95, 0.35, 0.35, 0.81, 2.15, 0.71, 0.74, 1.50)),
    "gemma": Weights(0.24, 0.51, 0.87, 1.07, 0.20,
        scripts=(0.70, 0.36, 0.26, 0.34, 0.30, 1.26, 0.60, 0.63, 2.92)),
    "llama": Weights(0.17, 0.34, 0.13, 1.80, 0.64,
        scripts=(1.33, 0.31, 0.24, 0.32, 0.48, 0.88, 0.76, 0.59, 3.03)),
    "tekken": Weights(0.20, 0.44, 0.94, 1.01, 0.42,
        scripts=(1.25, 0.34, 0.28, 0.25, 0.45, 1.38, 0.78, 0.61, 6.91)),
    "mixed": Weights(0.18, 0.41, 0.52, 1.45, 0.52,
        scripts=(1.31, 0.32, 0.26, 0.31, 0.43, 1.12, 0.74, 0.60, 1.57)),
}
# fmt: on
"""Weights by vocabulary; "mixed" is fitted to the median of the others, for unknown models."""

FIXED = 3.0
PER_MESSAGE = 4.0
PER_TOOL = 8.0
UNKNOWN_IMAGE = 1500.0
LARGEST_IMAGE = 1600.0
PIXELS_PER_TOKEN = 750.0
"""Anthropic, "Vision": tokens = width · height / 750; larger images are scaled down."""
DOCUMENT_FIRST = 1500.0
BASE64_PER_TOKEN = 34.0
"""A page of a PDF is about 70 KB of base64 and 2,000 tokens."""

_SHORT_MESSAGE = 2 * 1024
"""Bytes; in shorter messages the base64 of an image counts as text."""
_DEEPEST = 4


def estimate(
    request: MessagesRequest,
    scanned: ScannedBody | None = None,
    *,
    tools: int | None = None,
    unsent: CharacterCounts = NO_CHARACTERS,
    sees_images: bool = True,
    vocabulary: Vocabulary = "mixed",
) -> int:
    """
    Return an estimate of the input tokens of *request*, at least one.

    *scanned* is its body and *tools* the number of tools; both are computed if omitted.
    *unsent* characters are subtracted. Images count only if the model *sees_images*.
    The estimate grows with every addition to the request. Invalid content never raises.
    """
    counted = [request.system, request.tools, *[message.content for message in request.messages]]
    if scanned is None:
        scanned = scan_body(b"".join(counted))
    size = sum(map(len, [memoryview(part) for part in counted]))
    if tools is None:
        # Every tool has one schema; counting the keys is cheaper than decoding the list.
        tools = bytes(request.tools).count(b'"input_schema"')
    weights = VOCABULARIES[vocabulary]
    tokens = FIXED + PER_TOOL * tools + PER_MESSAGE * len(request.messages)
    # Encoders write non-ASCII letters either as they are or as escapes, so escapes are counted
    # only in ASCII bodies.
    if scanned.has_escapes and not scanned.counts.scripts:
        plain = (_without_escapes(bytes(part)) for part in counted)
        tokens += sum(_text_tokens(count_characters(part), weights) for part in plain)
    else:
        # Field names, which are not counted, are ASCII.
        tokens += _text_tokens(scanned.counts, weights)
        tokens -= (len(scanned.body) - size) * weights.field_name
    if scanned.has_base64:
        tokens += sum(_media_tokens(each, weights, sees_images) for each in request.messages)
    return max(1, int(tokens - _text_tokens(unsent, weights)))


def unsent_characters(blocks: Sequence[Block], *, thinking_is_sent: bool) -> CharacterCounts:
    """Count the characters of the signatures in *blocks*, and of thinking that is not sent."""
    total = NO_CHARACTERS
    for block in blocks:
        if block.type in ("thinking", "redacted_thinking"):
            thinking = ABSENT if thinking_is_sent else block.thinking
            for text in (block.signature, block.data, thinking):
                total = total.plus(count_characters(_without_escapes(bytes(text))))
    return total


def _text_tokens(counts: CharacterCounts, weights: Weights) -> float:
    """Return the tokens of JSON text with these characters."""
    tokens = (
        counts.letters * weights.letter
        + counts.punctuation * weights.punctuation
        + counts.digits * weights.digit
        + counts.digit_runs * weights.digit_run
        + counts.space_runs * weights.space_run
    )
    return sum(map(mul, counts.scripts, weights.scripts), tokens)


_UNICODE_ESCAPE = re.compile(rb"\\u([0-9a-fA-F]{4})")


def _without_escapes(text: bytes) -> bytes:
    r"""Return JSON with its `\u` escapes decoded and moved to the end."""
    codes = b"".join(_UNICODE_ESCAPE.findall(text))
    letters = bytes.fromhex(codes.decode()).decode("utf-16-be", "replace").encode()
    return _UNICODE_ESCAPE.sub(b"", text) + letters


# Images and documents: subtracted as text, added by their size.


class _Source(msgspec.Struct, gc=False):
    type: str = ""
    data: Raw = Raw(b"")


class _Block(msgspec.Struct, gc=False):
    type: str = ""
    source: _Source | None = None
    content: Raw = Raw(b"")


_BLOCKS = msgspec.json.Decoder(list[_Block])


_CACHED_MESSAGES = 8
_LARGEST_CACHED = 2 * 1024 * 1024
# An image is sent again with every turn; comparing is cheaper than measuring. Most recent first.
_measured: list[tuple[Raw, bool, Weights, float]] = []


def _media_tokens(message: Message, weights: Weights, sees_images: bool) -> float:
    """Return the tokens that the images and documents of *message* add to its text estimate."""
    content = message.content
    size = len(memoryview(content))
    if message.role != "user" or size <= _SHORT_MESSAGE or BASE64 not in bytes(content):
        return 0.0
    for index, (cached, counts_images, used, tokens) in enumerate(_measured):
        if cached == content and counts_images is sees_images and used is weights:
            _measured.insert(0, _measured.pop(index))
            return tokens
    tokens = _difference(content, weights, sees_images, depth=0)
    if size <= _LARGEST_CACHED:
        _measured.insert(0, (content.copy(), sees_images, weights, tokens))
        del _measured[_CACHED_MESSAGES:]
    return tokens


def _difference(content: Raw, weights: Weights, sees_images: bool, *, depth: int) -> float:
    """Return the tokens of the media in *content*, minus those of their base64 as text."""
    if depth > _DEEPEST or bytes(memoryview(content)[:1]) != b"[":
        return 0.0
    try:
        blocks = _BLOCKS.decode(content)
    except NOT_JSON:
        return 0.0  # the conversion reports the error
    total = 0.0
    for block in blocks:
        total += _difference(block.content, weights, sees_images, depth=depth + 1)
        if block.source is not None and block.source.type == "base64":
            data = memoryview(block.source.data)[1:-1]
            total += _source_tokens(block.type, data, weights, sees_images)
    return total


def _source_tokens(kind: str, data: memoryview, weights: Weights, sees_images: bool) -> float:
    as_text = _text_tokens(count_characters(bytes(data)), weights)
    if kind != "image":
        return DOCUMENT_FIRST + len(data) / BASE64_PER_TOKEN - as_text
    if not sees_images:
        return -as_text
    size = size_of(data)
    pixels = UNKNOWN_IMAGE if size is None else size[0] * size[1] / PIXELS_PER_TOKEN
    # At least as much as in a short message, so that the estimate grows with every byte.
    least = min(as_text, _SHORT_MESSAGE * weights.letter)
    return max(min(pixels, LARGEST_IMAGE), least) - as_text


_SHARE = 0.2
_LEAST, _MOST = 0.6, 2.5
_TOO_SHORT = 500
"""Tokens; in shorter requests the template around the messages distorts the ratio."""


class Calibration:
    """
    The factor between the estimate and the provider's count, per model.

    An exponential moving average that starts as a plain mean of the first answers. Ratios outside
    0.6 to 2.5 are implausible for any tokenizer and are ignored. The number of models is bounded;
    the least recently updated one is removed.
    """

    def __init__(self) -> None:
        self._factors: BoundedDict[str, tuple[float, int]] = BoundedDict()

    def learn(self, model: str, *, estimated: int, reported: int) -> None:
        """Update the factor of *model* with its *reported* input tokens, including cached ones."""
        if estimated < _TOO_SHORT:
            return
        ratio = reported / estimated
        if not _LEAST <= ratio <= _MOST:
            return
        factor, times = self._factors.get(model, (1.0, 0))
        share = max(_SHARE, 1 / (times + 1))
        self._factors[model] = (factor + share * (ratio - factor), times + 1)

    def knows(self, model: str) -> bool:
        """Return True if *model* is calibrated."""
        return model in self._factors

    def factor(self, model: str) -> float:
        """Return the factor for *model*, or 1 if it is not calibrated."""
        return self._factors.get(model, (1.0, 0))[0]

    def apply(self, model: str, estimated: int) -> int:
        """Return the *estimated* tokens as *model* would count them, at least one."""
        return max(1, round(estimated * self.factor(model)))

    def export(self) -> dict[str, tuple[float, int]]:
        """Return the calibration as plain data."""
        return dict(self._factors)

    def restore(self, factors: dict[str, tuple[float, int]]) -> None:
        """
        Restore the data that `export` returned.

        Raises:
            TypeError, ValueError: If the data is invalid.
        """
        restored = {
            str(model): (min(max(float(factor), _LEAST), _MOST), int(times))
            for model, (factor, times) in factors.items()
        }
        self._factors.update(restored)

"""
Parser for the body of a provider's error in any form.

The known forms are `{"error": {…}}`, `{"error": "text"}` with a code next to it, an array of
these, several kinds of flat objects, FastAPI's `detail`, `errors`, a problem document with a
`title`, `base_resp` inside a 200, errors relayed as text inside errors, plain text, HTML and an
empty body. `classify.py` determines the cause of an error.
"""

from __future__ import annotations

import re
from codecs import BOM_UTF8
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from ccproxy.convert.common.usage import token_count
from ccproxy.protocol.json_splice import NOT_JSON
from ccproxy.protocol.lenient_json import has_too_many_objects

_TEXT_LIMIT = 2000
_HTML_TEXT_LIMIT = 300
_PLAIN_LIMIT = 64 * 1024
_SHORTEST_SECRET = 8
_MAX_DEPTH = 5
_MAX_VALUES = 200
"""Maximum number of values read from one body: a hostile one can contain millions."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorBody:
    """The content of an error body."""

    text: str = ""
    codes: frozenset[str] = frozenset()
    """Codes and types, in lower case."""
    status: int | None = None
    parameter: str = ""
    """The parameter of the request that the error names (OpenAI)."""
    delays: tuple[str, ...] = ()
    """Google's retry delays, such as "34s"."""
    prompt: int | None = None
    limit: int | None = None
    is_html: bool = False
    has_object: bool = False
    """True if the body contains a JSON object, as every API's error does."""


def parse_error_body(body: bytes) -> ErrorBody:
    """Parse a body of any form; never raises and takes time linear in the size of *body*."""
    value = decode(body)
    text = "" if value is not None else body[:_PLAIN_LIMIT].decode("utf-8", "replace").strip()
    if value is None and text[:1] in ("{", "["):
        value = decode(text)
    if value is not None:
        collector = _Collector()
        collector.read(value, depth=0)
        return collector.result(default_text=body[: 4 * _TEXT_LIMIT].decode("utf-8", "replace"))
    if text[:1] == "<":
        return ErrorBody(text=_printable(_text_of_html(text)), is_html=True)
    return ErrorBody(text=_printable(text))


def decode(body: bytes | str) -> Any:  # noqa: ANN401 - JSON of any form
    """Return the JSON value of *body*, or None if it is not JSON or has too many objects."""
    if isinstance(body, bytes):
        body = body.removeprefix(BOM_UTF8)
        if has_too_many_objects(body):
            return None
    try:
        return msgspec.json.decode(body)
    except NOT_JSON:
        return None


# JSON

_CODE_FIELDS = ("code", "type", "status", "reason", "statusCode", "http_code", "title")
_TEXT_FIELDS = ("message", "msg", "detail", "status_msg", "error_message", "error_msg", "title")
_CODE_LIMIT = 200
_ERROR_STATUS = re.compile(r"[45]\d\d")


class _Collector:
    """Collects text, codes, delays and numbers from a JSON value of any known form."""

    def __init__(self) -> None:
        self._values_left = _MAX_VALUES
        self._text = ""
        self._codes: set[str] = set()
        self._status: int | None = None
        self._parameter = ""
        self._delays: list[str] = []
        self._numbers: dict[str, int] = {}
        self._has_object = False

    def result(self, *, default_text: str) -> ErrorBody:
        return ErrorBody(
            text=_printable(self._text or default_text),
            codes=frozenset(self._codes),
            status=self._status,
            parameter=self._parameter,
            delays=tuple(self._delays),
            prompt=self._numbers.get("n_prompt_tokens"),
            limit=self._numbers.get("n_ctx"),
            has_object=self._has_object,
        )

    def read(self, value: object, *, depth: int) -> None:
        self._values_left -= 1
        if depth > _MAX_DEPTH or self._values_left < 0:
            return
        if isinstance(value, str):
            self._add_text(value, depth=depth)
        elif isinstance(value, list):
            for part in value[:20]:
                self.read(part, depth=depth + 1)
        elif isinstance(value, dict):
            self._read_object(value, depth=depth)

    def _add_text(self, text: str, *, depth: int) -> None:
        """Add *text*, or parse it if it is itself JSON (a relayed error)."""
        inner = decode(text) if text[:1] in ("{", "[") else None
        text = text[: 4 * _TEXT_LIMIT]
        if isinstance(inner, dict | list):
            self.read(inner, depth=depth + 1)
        elif text and text not in self._text and len(self._text) < 4 * _TEXT_LIMIT:
            self._text = f"{self._text}: {text}" if self._text else text

    def _read_object(self, fields: dict[str, Any], *, depth: int) -> None:
        self._has_object = True
        self._read_codes(fields)
        for name in ("error", "errors"):
            if fields.get(name):
                self.read(fields[name], depth=depth + 1)
        for name in _TEXT_FIELDS:
            value = fields.get(name)
            if value and not (name == "title" and self._text):
                self.read(value, depth=depth + 1)
        location = fields.get("loc")
        if isinstance(location, list) and location:  # FastAPI: the path of the field
            path = ".".join(str(part) for part in location[:10] if isinstance(part, str | int))
            self._text = f"{self._text} ({path[:_CODE_LIMIT]})"
        for name in ("details", "metadata", "base_resp"):
            self._read_details(fields.get(name), depth=depth + 1)

    def _read_codes(self, fields: dict[str, Any]) -> None:
        for name in _CODE_FIELDS:
            value = fields.get(name)
            if isinstance(value, bool) or not isinstance(value, str | int):
                continue
            code = str(value)[:_CODE_LIMIT].lower()
            self._codes.add(code)
            if self._status is None and _ERROR_STATUS.fullmatch(code):
                self._status = int(code)
        if isinstance(parameter := fields.get("param"), str) and not self._parameter:
            self._parameter = parameter[:_CODE_LIMIT]
        for name in ("n_prompt_tokens", "n_ctx"):  # llama.cpp
            if (number := token_count(fields.get(name))) is not None:
                self._numbers[name] = number

    def _read_details(self, value: object, *, depth: int) -> None:
        """Read Google's `details`, OpenRouter's `metadata` or MiniMax's `base_resp`."""
        self._values_left -= 1
        if self._values_left < 0:
            return
        if isinstance(value, list):
            for part in value[:20]:
                self._read_details(part, depth=depth + 1)
        if not isinstance(value, dict):
            return
        if isinstance(delay := value.get("retryDelay"), str):
            self._delays.append(delay[:_CODE_LIMIT])
        if isinstance(reason := value.get("reason"), str):
            self._codes.add(reason[:_CODE_LIMIT].lower())
        if isinstance(code := value.get("status_code"), int) and code:
            self._codes.add(f"base_resp:{code}")
        for name in ("raw", "status_msg"):
            if isinstance(value.get(name), str):
                self._add_text(value[name], depth=depth)


# Text

_INVISIBLE_ELEMENT = re.compile(r"<(script|style)\b|<!--", re.IGNORECASE)
_ENDS = {
    "script": re.compile("</script>", re.IGNORECASE),
    "style": re.compile("</style>", re.IGNORECASE),
    None: re.compile("-->"),
    "tag": re.compile(">"),
}
"""The end of a script, a style, a comment (None) and any other tag."""


def _text_of_html(page: str) -> str:
    """Return the visible text of *page*, read in a single pass."""
    texts, at = [], 0
    while (start := page.find("<", at)) >= 0:
        texts.append(page[at:start])
        invisible = _INVISIBLE_ELEMENT.match(page, start)
        kind = invisible[1] and invisible[1].lower() if invisible else "tag"
        end = _ENDS[kind].search(page, start)
        if end is None:
            break
        at = end.end()
    else:
        texts.append(page[at:])
    return " ".join(" ".join(texts).split())[:_HTML_TEXT_LIMIT]


def _printable(text: str) -> str:
    line = "".join(c if c.isprintable() else " " for c in text[: 4 * _TEXT_LIMIT])
    line = line.strip()
    return line if len(line) <= _TEXT_LIMIT else f"{line[:_TEXT_LIMIT]}…"


def mask_keys(text: str, secrets: Sequence[str]) -> str:
    """
    Mask every word of *text* that contains eight or more consecutive characters of a secret.

    The last four characters of the secret remain, as in all messages. Keys of one provider share a
    prefix (sk-or-v1-), so the ending of the key that matches most of the word remains, or none if
    two keys match equally well.
    """
    pieces_of = {secret: pieces for secret in secrets if (pieces := _pieces_in(text, secret))}
    if not pieces_of:
        return text

    def replace(word: re.Match[str]) -> str:
        counts = {
            secret: sum(piece in word[0] for piece in pieces)
            for secret, pieces in pieces_of.items()
        }
        return _tail(word[0], counts) if any(counts.values()) else word[0]

    return re.sub(r"[^\s\"'<>,;(){}\[\]]+", replace, text)


def _pieces_in(text: str, secret: str) -> set[str]:
    starts = range(len(secret) - _SHORTEST_SECRET + 1)
    return {piece for at in starts if (piece := secret[at : at + _SHORTEST_SECRET]) in text}


def _tail(word: str, counts: Mapping[str, int]) -> str:
    """Return the masked form of *word*, which contains *counts* pieces of each secret."""
    ranks = {secret: (number, secret[-4:] in word) for secret, number in counts.items()}
    best = max(ranks.values())
    tails = {secret[-4:] for secret, rank in ranks.items() if rank == best}
    return f"…{tails.pop()}" if len(tails) == 1 else "…"

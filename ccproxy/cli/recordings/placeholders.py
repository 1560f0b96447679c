r"""
Placeholders: text of the same form and length, without the content.

In JSON, every string value is replaced; keys, numbers and the values of structural fields are kept.
Letters become `x`, digits `1`; punctuation and escapes are kept, so that JSON within a string
remains JSON, even in pieces. Each character is replaced independently, so joining the
placeholders of a string's pieces gives the placeholder of the string. Names and ids are
distinguished by their letters.
"""

from __future__ import annotations

import itertools
import re
import string
from collections.abc import Iterator

_STRUCTURAL = frozenset({
    *("type", "role", "object", "model", "finish_reason", "stop_reason", "media_type", "effort"),
    *("service_tier", "phase", "status", "reasoning_effort", "display", "tool_choice", "format"),
    *("native_finish_reason", "summary_type", "ttl", "$schema", "system_fingerprint", "event"),
    *("required", "enum", "include", "truncation", "verbosity"),
})  # fmt: skip
"""Strings in these fields are kept, including those in lists."""
_NAMES = frozenset({"id", "name", "tool_use_id", "tool_call_id", "call_id", "tool_name", "item_id"})
# An unterminated string ends with the text, so that the search is linear.
_TOKEN = re.compile(r'"((?:[^"\\]|\\.)*+)("\s*+:|"|\\?\Z)|[\[\]{}]', re.DOTALL)
_WORD = re.compile(r"[^\W\d_]{2,}")
_KEPT_WORDS = {"data", "true", "false", "null", "DONE"}
"""Words outside of strings that an event stream may contain."""
_KEPT = re.compile(
    r"(?P<escape>\\{1,2}u)(?P<code>[0-9a-fA-F]{4})|\\{2}.|\\.|</?think(?:ing)?>"
    r"|\b(?:true|false|null)\b|(?<=\d)[eE](?=[+\-\d])|</?\|[^|<>]{1,40}\|>|<｜[^<>]{1,40}｜>"
)
"""Escapes, including those in JSON within a string; tags; literals; exponent letters of numbers."""
_LETTERS = string.ascii_lowercase


class Placeholders:
    """The placeholders of one case: equal names get equal placeholders."""

    def __init__(self) -> None:
        self._names: dict[str, str] = {}
        self._candidates: dict[str, Iterator[str]] = {}
        """The unused placeholders for names of each form."""
        self._taken: set[str] = set()

    def json(self, text: str) -> str:
        """Return the JSON *text* with its strings replaced; the length does not change."""
        return "".join(self._tokens(text))

    def events(self, stream: str) -> str:
        """Return an event stream with the strings in its `data` lines replaced."""
        # Not splitlines(): strings in JSON may contain other line separators.
        return "\n".join(map(self._line, stream.split("\n")))

    def _line(self, line: str) -> str:
        if line.startswith("data:"):
            return self.json(line)
        return line if line.startswith("event:") else placeholder(line)

    def _tokens(self, text: str) -> Iterator[str]:
        keys: list[str] = [""]  # of the enclosing containers, and the last key
        end = 0
        for match in _TOKEN.finditer(text):
            yield _outside(text[end : match.start()])
            end = match.end()
            token = match[0]
            if token in ("[", "{"):
                keys.append(keys[-1])
            elif token in ("]", "}"):
                keys = keys[:-1] or keys
            elif match[2].endswith(":"):
                keys[-1] = match[1]
            else:
                token = f'"{self._value(keys[-1], match[1])}{match[2]}'
            yield token
        yield _outside(text[end:])

    def _value(self, key: str, value: str) -> str:
        if key in _STRUCTURAL:
            return value
        return self._name(value) if key in _NAMES else placeholder(value)

    def _name(self, value: str) -> str:
        """Return a placeholder for the name; it is unique unless the name has too few letters."""
        if value not in self._names:
            plain = placeholder(value)
            candidates = self._candidates.setdefault(plain, _variants(plain))
            name = next((each for each in candidates if each not in self._taken), plain)
            self._names[value] = name
            self._taken.add(name)
        return self._names[value]


def placeholder(text: str) -> str:
    """Return a string of the same form and length, both in characters and in UTF-8 bytes."""
    result, end = [], 0
    for match in _KEPT.finditer(text):
        result += [*map(_character, text[end : match.start()]), _escape(match)]
        end = match.end()
    return "".join([*result, *map(_character, text[end:])])


def _outside(text: str) -> str:
    """Return the part between two JSON strings, which may be text that is not JSON."""
    return _WORD.sub(lambda m: m[0] if m[0] in _KEPT_WORDS else placeholder(m[0]), text)


def _escape(match: re.Match[str]) -> str:
    """Return the text to keep, or an escape of the same length for another character."""
    if match["code"] is None:
        return match[0]
    code = int(match["code"], 16)
    if code < 0x80:
        return match[0]
    if 0xD800 <= code < 0xE000:
        return match["escape"] + ("d83d" if code < 0xDC00 else "de00")
    return match["escape"] + ("00e9" if code < 0x800 else "4e2d")


def _character(character: str) -> str:
    if character.isascii():
        if character.isdigit():
            return "1"
        if character.isalpha():
            return "X" if character.isupper() else "x"
        return character
    return {2: "é", 3: "中"}.get(len(character.encode("utf-8", "replace")), "😀")


def _variants(name: str) -> Iterator[str]:
    """Yield *name*, then *name* with its last letters replaced."""
    yield name
    places = [index for index, character in enumerate(name) if character in "xX"][-3:]
    for letters in itertools.product(_LETTERS, repeat=len(places)):
        changed = list(name)
        for index, letter in zip(places, letters, strict=True):
            changed[index] = letter
        yield "".join(changed)

"""Redaction: replaces API keys in text with their last four characters."""

from __future__ import annotations

import json
import re
from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator
from itertools import accumulate

from ccproxy.text import mask_key

_SHORTEST_SECRET = 8
"""Shorter configured keys ("none", "ollama") are placeholders or parts of ordinary words."""

_PREFIXES = (
    "sk-",
    "sk_",
    "pk-",
    "pk_",
    "rk-",
    "rk_",
    "nvapi-",
    "xai-",
    "fw_",
    "pplx-",
    "ccp_",
    "ccu_",
)
_UNDERSCORED = ("gsk_", "hf_", "ghp_", "gho_", "ghu_", "ghs_", "github_pat_")
_NAMES = ("earer ", "EARER ", "api-key", "api_key", "Api-Key", "API-Key", "API_KEY")
_HINTS = (*_PREFIXES, *_UNDERSCORED, *_NAMES, "AIza", "eyJ")
"""Every string that one of the patterns matches contains one of these."""

# Each pattern either matches a whole run of its characters or fails after a fixed number of them.
# This keeps the time linear in the length of the text, which an attacker can choose (a path).
_KEYS = (
    rf"c?(?:{'|'.join(_PREFIXES)})[A-Za-z0-9_\-]{{8,}}",
    rf"(?:{'|'.join(_UNDERSCORED)})[A-Za-z0-9_]{{16,}}",
    r"AIza[A-Za-z0-9_\-]{16,}",
    # A JSON Web Token. Its dots are optional: looking for one would scan each run many times.
    r"eyJ[A-Za-z0-9_\-]{14,}(?:\.[A-Za-z0-9_\-.]+)?",
)
_KEY_PATTERNS = (
    # In JSON, a line feed before a key is `\n`, which ends in a letter.
    rf"(?:\b|(?<=\\[nrt]))(?:{'|'.join(_KEYS)})",
    r"(?i:(?<=bearer )|(?<=api[-_]key: )|(?<=api[-_]key=))[A-Za-z0-9._~+/\-]{8,}=*",
)
"""The formats of the providers' keys; longer than any ordinary word."""

_JSON_FIELD = re.compile(r'"(?P<name>\w+)"\s*:\s*"(?P<value>(?:[^"\\]|\\.)*+)', re.DOTALL)
"""A field of a JSON object whose value is a string."""


class Redactor:
    """
    Masks configured secrets, and everything that has the format of a known kind of key.

    Text without a hint of either, such as nearly every log line, costs about two microseconds.
    """

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        exact = {secret for secret in secrets if len(secret) >= _SHORTEST_SECRET}
        # Log lines contain secrets encoded as JSON; error messages contain them verbatim.
        forms = exact | {json.dumps(secret)[1:-1] for secret in exact}
        literal = sorted(forms, key=len, reverse=True)
        self._hints = (*literal, *_HINTS)
        self._pattern = re.compile("|".join([*map(re.escape, literal), *_KEY_PATTERNS]))

    def __call__(self, text: str) -> str:
        """Return *text* with keys masked, in time linear in its length."""
        if not any(map(text.__contains__, self._hints)):
            return text
        return self._pattern.sub(lambda match: mask_key(match[0]), text)

    def events(self, stream: str) -> str:
        """
        Return an event stream with keys masked, including keys that are split across its deltas.

        The strings in all fields of one name are searched together. Each character of a split
        key becomes an asterisk, so that every delta keeps its length.
        """
        fields: defaultdict[str, list[re.Match[str]]] = defaultdict(list)
        for field in _JSON_FIELD.finditer(stream):
            fields[field["name"]].append(field)
        spans = sorted(span for pieces in fields.values() for span in self._split_keys(pieces))
        result, end = [], 0
        for start, stop in spans:
            result += [stream[end:start], "*" * (stop - start)]
            end = stop
        return self("".join([*result, stream[end:]]))

    def _split_keys(self, pieces: list[re.Match[str]]) -> Iterator[tuple[int, int]]:
        """Yield the start and end of each part of the keys that are split across *pieces*."""
        joined = "".join(piece["value"] for piece in pieces)
        if not any(map(joined.__contains__, self._hints)):
            return
        starts = list(accumulate((len(piece["value"]) for piece in pieces), initial=0))
        for key in self._pattern.finditer(joined):
            first, last = bisect_right(starts, key.start()) - 1, bisect_left(starts, key.end())
            for index in range(first, last) if last - first > 1 else ():
                offset = pieces[index].start("value") - starts[index]
                begin = max(key.start(), starts[index])
                yield begin + offset, min(key.end(), starts[index + 1]) + offset

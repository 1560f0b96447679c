"""
What a provider's refusal says, whatever the form of its body.

The forms: `{"error": {…}}`, `{"error": "text"}` beside a code, an array of them, flat objects of
several kinds, FastAPI's `detail`, `errors`, a problem document with a `title`, `base_resp` inside a
200, errors relayed as text inside errors, plain text, HTML and nothing. All are read into one
`ErrorBody`; what it means is decided elsewhere.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

_LONGEST_TEXT = 2000
_SHORTEST_SECRET = 8
_DEEPEST = 5


@dataclass(slots=True)
class ErrorBody:
    """What a body says, whatever its form."""

    text: str = ""
    codes: set[str] = field(default_factory=set)
    status: int | None = None
    delays: list[str] = field(default_factory=list)
    prompt: int | None = None
    limit: int | None = None
    is_html: bool = False
    has_object: bool = False
    """Whether there is a JSON object in it, as in whatever an API says."""


def parse_error_body(body: bytes) -> ErrorBody:
    """Read a body of any form; never raises."""
    said = ErrorBody()
    found = decode(body)
    text = "" if found is not None else body[: 64 * 1024].decode("utf-8", "replace").strip()
    if found is None and text[:1] in ("{", "["):
        found = decode(text)
    if found is not None:
        _read(found, said, depth=0)
        if not said.text:
            said.text = body.decode("utf-8", "replace")
    elif text[:1] == "<":
        said.is_html = True
        said.text = _text_of_html(text)
    else:
        said.text = text
    said.text = _printable(said.text)
    return said


def _text_of_html(text: str) -> str:
    bare = re.sub(r"(?is)<(script|style)\b.*?</\1>|<!--.*?-->|<[^>]*>", " ", text)
    return " ".join(bare.split())[:300]


def _printable(text: str) -> str:
    shown = "".join(c if c.isprintable() else " " for c in text[: 4 * _LONGEST_TEXT])
    shown = shown.strip()
    return shown if len(shown) <= _LONGEST_TEXT else f"{shown[:_LONGEST_TEXT]}…"


_CODE_FIELDS = ("code", "type", "status", "reason", "statusCode", "http_code", "title")
_TEXT_FIELDS = ("message", "msg", "detail", "status_msg", "error_message", "error_msg", "title")


def _read(value: object, said: ErrorBody, *, depth: int) -> None:
    """Collect text, codes, delays and numbers of any known form; depth bounds hostile bodies."""
    if depth > _DEEPEST:
        return
    if isinstance(value, str):
        _add_text(value, said, depth=depth)
    elif isinstance(value, list):
        for part in value[:20]:
            _read(part, said, depth=depth + 1)
    elif isinstance(value, dict):
        _read_object(value, said, depth=depth)


def _add_text(text: str, said: ErrorBody, *, depth: int) -> None:
    """Add words; a text that is JSON itself (a relayed error) is read as such."""
    inner = decode(text) if text[:1] in ("{", "[") else None
    if isinstance(inner, dict | list):
        _read(inner, said, depth=depth + 1)
    elif text and text not in said.text:
        said.text = f"{said.text}: {text}" if said.text else text


def _read_object(found: dict[str, Any], said: ErrorBody, *, depth: int) -> None:
    said.has_object = True
    _read_codes(found, said)
    for name in ("error", "errors"):
        if found.get(name):
            _read(found[name], said, depth=depth + 1)
    for name in _TEXT_FIELDS:
        value = found.get(name)
        if value and not (name == "title" and said.text):
            _read(value, said, depth=depth + 1)
    location = found.get("loc")
    if isinstance(location, list) and location:  # FastAPI: which field
        said.text = f"{said.text} ({'.'.join(map(str, location))})"
    for name in ("details", "metadata", "base_resp"):
        if isinstance(found.get(name), dict | list):
            _read_more(found[name], said, depth=depth + 1)


def _read_codes(found: dict[str, Any], said: ErrorBody) -> None:
    for name in _CODE_FIELDS:
        value = found.get(name)
        if isinstance(value, bool) or not isinstance(value, str | int):
            continue
        said.codes.add(str(value).lower())
        number = int(value) if str(value).isascii() and str(value).isdigit() else 0
        if 400 <= number < 600 and said.status is None:
            said.status = number
    for name in ("n_prompt_tokens", "n_ctx"):  # llama.cpp
        if isinstance(found.get(name), int):
            setattr(said, "limit" if name == "n_ctx" else "prompt", found[name])


def _read_more(value: object, said: ErrorBody, *, depth: int) -> None:
    """Details (Google), metadata with the raw error (OpenRouter), base_resp (MiniMax)."""
    if isinstance(value, list):
        for part in value[:20]:
            _read_more(part, said, depth=depth + 1)
        return
    if not isinstance(value, dict):
        return
    if isinstance(delay := value.get("retryDelay"), str):
        said.delays.append(delay)
    if isinstance(reason := value.get("reason"), str):
        said.codes.add(reason.lower())
    if isinstance(code := value.get("status_code"), int) and code:
        said.codes.add(f"base_resp:{code}")
    for name in ("raw", "status_msg"):
        if isinstance(value.get(name), str):
            _add_text(value[name], said, depth=depth)


def decode(body: bytes | str) -> Any:  # noqa: ANN401 - JSON of any form
    """Read JSON; None where it is none."""
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def mask_keys(text: str, secrets: Sequence[str]) -> str:
    """
    Replace every word of *text* that holds eight or more characters of a secret in a row.

    What is left of it is its last four characters, as everywhere. Keys of one provider begin
    alike (sk-or-v1-): the one that a word holds the most of is shown, none where that is open.
    """
    found = {secret: pieces for secret in secrets if (pieces := _pieces_in(text, secret))}
    if not found:
        return text

    def replace(word: re.Match[str]) -> str:
        held = {secret: sum(piece in word[0] for piece in found[secret]) for secret in found}
        return _tail(word[0], held) if any(held.values()) else word[0]

    return re.sub(r"[^\s\"'<>,;(){}\[\]]+", replace, text)


def _pieces_in(text: str, secret: str) -> set[str]:
    starts = range(len(secret) - _SHORTEST_SECRET + 1)
    return {piece for at in starts if (piece := secret[at : at + _SHORTEST_SECRET]) in text}


def _tail(word: str, held: Mapping[str, int]) -> str:
    """Return how the secret of *word* is shown; *held* says how many pieces of each are in it."""
    marks = {secret: (number, secret[-4:] in word) for secret, number in held.items()}
    best = max(marks.values())
    tails = {secret[-4:] for secret, mark in marks.items() if mark == best}
    return f"…{tails.pop()}" if len(tails) == 1 else "…"

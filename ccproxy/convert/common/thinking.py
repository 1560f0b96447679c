"""
Reasoning of a provider as thinking blocks, and what must travel with them.

Rules:

* The reasoning's text is the text of the thinking block; on the way back it is read from there.
* What has no text (Gemini's thought signatures, encrypted reasoning details) is carried inside the
  block's signature. Clients return signatures verbatim, so no server state is needed and every
  worker of the fleet can read what another one wrote.
* A signature is authenticated. One that is foreign, changed or cut is no error: it opens to None.
* Of the forms in which a provider may send the same reasoning twice, one is read.

`Origin.carried` has two keys, both optional:

    thought_signatures    tool call id -> extra_content.google.thought_signature of that call
    reasoning_details     OpenRouter's and MiniMax's entries, packed by `pack_details`
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

PREFIX = "ccproxy1."
"""Begins every signature of ours; the number is the version of the form."""
THOUGHT_SIGNATURES = "thought_signatures"
REASONING_DETAILS = "reasoning_details"

_TAG_BYTES = 16
_TEXT_FIELDS = ("text", "summary")
_LABELS = frozenset({"type", "index", "format", "id"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Who thought, and what must go back to it together with the thinking."""

    provider: str
    model: str
    carried: Mapping[str, Any] = field(default_factory=dict)


class Signer:
    """Turns an origin into a signature and back; the *key* is shared by the whole fleet."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def mint(self, origin: Origin) -> str:
        """Return the signature that says *origin*; the same origin gives the same text."""
        said = [origin.provider, origin.model, dict(origin.carried)]
        body = json.dumps(said, separators=(",", ":")).encode()
        return PREFIX + base64.urlsafe_b64encode(self._tag(body) + body).decode().rstrip("=")

    def open(self, signature: object) -> Origin | None:
        """Return the origin that *signature* names, None if this fleet did not write it."""
        if not isinstance(signature, str) or not signature.startswith(PREFIX):
            return None
        text = signature[len(PREFIX) :]
        try:
            sealed = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        except (binascii.Error, ValueError):
            return None
        body = sealed[_TAG_BYTES:]
        if not hmac.compare_digest(sealed[:_TAG_BYTES], self._tag(body)):
            return None
        provider, model, carried = json.loads(body)  # ours: the tag says so
        return Origin(provider=provider, model=model, carried=carried)

    def _tag(self, body: bytes) -> bytes:
        return hmac.digest(self._key, body, hashlib.sha256)[:_TAG_BYTES]


# Reading reasoning...


class ReasoningReader:
    """
    Reads the reasoning out of the deltas of one answer.

    OpenRouter sends the same text as `reasoning` and in `reasoning_details`; as soon as a plain
    field was seen, the details are only kept, not read.
    """

    def __init__(self) -> None:
        self.plain_seen = False
        """True: a plain field was seen; the same reasoning in another form is not read."""

    def read(self, plain: Sequence[object], details: Sequence[Mapping[str, Any]]) -> str:
        """Return the new text, from the first of the *plain* fields that has any."""
        for text in plain:
            if isinstance(text, str) and text:
                self.plain_seen = True
                return text
        return "" if self.plain_seen else "".join(map(text_of_detail, details))


def text_of_detail(detail: Mapping[str, Any]) -> str:
    """Return what a reasoning detail says in words; an encrypted one says nothing."""
    return next((detail[key] for key in _TEXT_FIELDS if isinstance(detail.get(key), str)), "")


def merge_detail(details: list[dict[str, Any]], new: Mapping[str, Any]) -> None:
    """
    Add the fragment *new* to *details*, joined with the last entry where it continues it.

    A stream sends one entry in many fragments; they must go back whole (OpenRouter,
    "Preserving reasoning blocks").
    """
    last = details[-1] if details else None
    if last is None or not _continues(last, new):
        details.append(dict(new))
        return
    for key, value in new.items():
        if key in _TEXT_FIELDS and isinstance(value, str):
            so_far = last.get(key)
            last[key] = so_far + value if isinstance(so_far, str) else value
        elif value is not None:
            last[key] = value


def has_content(detail: Mapping[str, Any]) -> bool:
    """Tell whether *detail* holds anything but labels, so that it is worth a block of its own."""
    return any(value for key, value in detail.items() if key not in _LABELS)


def is_opaque(detail: Mapping[str, Any]) -> bool:
    """Tell whether *detail* holds what only its maker can read, and nothing else can replace."""
    return bool(detail.get("data") or detail.get("signature"))


def _continues(last: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    if "data" in last or "data" in new:
        return False
    named_apart = last.get("id") and new.get("id") and last["id"] != new["id"]
    return not named_apart and all(last.get(key) == new.get(key) for key in ("type", "index"))


# ...and giving it back.


def pack_details(details: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return *details* with each text replaced by its length: the text stands in the block."""
    return [
        {
            key: len(value) if key in _TEXT_FIELDS and isinstance(value, str) else value
            for key, value in detail.items()
        }
        for detail in details
    ]


def unpack_details(packed: Sequence[Mapping[str, Any]], thinking: str) -> list[dict[str, Any]]:
    """
    Return the details as the provider sent them, their texts cut out of *thinking*.

    If the block's text has another length than the details had (the client changed it), the
    first entry with a text gets all of it and the others go without.
    """
    lengths = [_packed_length(detail) for detail in packed]
    if sum(lengths) != len(thinking):
        first = next((i for i, length in enumerate(lengths) if length), None)
        lengths = [len(thinking) if i == first else 0 for i in range(len(lengths))]
    details, at = [], 0
    for detail, length in zip(packed, lengths, strict=True):
        text, at = thinking[at : at + length], at + length
        details.append(
            {
                key: text if key in _TEXT_FIELDS and isinstance(value, int) else value
                for key, value in detail.items()
            }
        )
    return details


def _packed_length(detail: Mapping[str, Any]) -> int:
    return next((detail[key] for key in _TEXT_FIELDS if isinstance(detail.get(key), int)), 0)

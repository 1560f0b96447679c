"""
A look at the bytes of a request that spares those which were looked at before.

The next turn of a conversation begins and ends as the last one did: what is new is in the middle.
Comparing bytes is ten times cheaper than decoding them, so the last bodies are kept, and of one
that is like them only the difference is looked at. Bodies with escapes, which are rare, are not.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from ccproxy.protocol.messages import BASE64, ScannedBody, scan_body

_STEP: Final = 8 * 1024
"""Bytes that are compared at once; the difference may seem larger by so much at both ends."""
_MOST: Final = 8
_ROOM: Final = 8 * 1024 * 1024


class SeenTexts:
    """The bodies that one worker saw last; `look` is `scan_body`, only cheaper."""

    def __init__(
        self,
        *,
        step: int = _STEP,
        room: int = _ROOM,
        look: Callable[[bytes], ScannedBody] = scan_body,
    ) -> None:
        self._look = look
        self._step = step
        self._room = room
        # The last one seen is the first.
        self._texts: list[ScannedBody] = []

    def look(self, body: bytes) -> ScannedBody:
        """
        Look over the *body* of a request.

        Raises:
            Problem: invalid_request_error if it is not UTF-8.
        """
        if not 2 * self._step <= len(body) <= self._room // 2:
            return self._look(body)
        beginning = body[: self._step]
        like = next((text for text in self._texts if text.body.startswith(beginning)), None)
        text = None if like is None else self._by_difference(like, body)
        if text is None:
            text = self._look(body)
        if not text.has_escapes:
            self._keep(text, instead_of=like)
        return text

    def _by_difference(self, like: ScannedBody, body: bytes) -> ScannedBody | None:
        """Look at what differs only; None if that is not enough."""
        start, rest = self._in_common(like.body, body)
        end = len(body) - rest
        # An escape may begin in one part and end in the next.
        if b"\\" in body[max(0, start - 2) : start] or b"\\" in body[max(0, end - 2) : end]:
            return None
        new = self._look(body[start:end])
        if new.has_escapes:
            return None
        old = self._look(like.body[start : len(like.body) - rest])
        around = len(BASE64) - 1
        new_base64 = BASE64 in body[max(0, start - around) : end + around]
        return ScannedBody(
            body,
            like.characters - old.characters + new.characters,
            has_escapes=False,
            # What was there may have been in the part that went.
            has_base64=new_base64 or (like.has_base64 and BASE64 in body),
        )

    def _in_common(self, old: bytes, new: bytes) -> tuple[int, int]:
        """Return how many bytes at the beginning and at the end are equal, in whole characters."""
        step, most = self._step, min(len(old), len(new))
        start = 0
        while start < most and old[start : start + step] == new[start : start + step]:
            start += step
        start = min(start, most)
        rest = 0
        while rest + step <= most - start and _before(old, rest, step) == _before(new, rest, step):
            rest += step
        while start < len(old) and _is_inside(old[start]):
            start -= 1
        while rest and _is_inside(old[-rest]):
            rest -= 1
        return start, rest

    def _keep(self, text: ScannedBody, *, instead_of: ScannedBody | None) -> None:
        others = [kept for kept in self._texts if kept is not instead_of]
        self._texts = [text, *others[: _MOST - 1]]
        while sum(len(kept.body) for kept in self._texts) > self._room:
            self._texts.pop()


def _before(body: bytes, rest: int, step: int) -> bytes:
    """Return the *step* bytes before the last *rest*."""
    end = len(body) - rest
    return body[end - step : end]


def _is_inside(byte: int) -> bool:
    """Whether a character of UTF-8 began before *byte*."""
    return byte & 0xC0 == 0x80

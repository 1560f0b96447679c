"""
Reasoning that stands in the text: a leading `<think>…</think>`.

Only at the very start of the text, white space aside; later tags are text. What may be a piece of
a tag is held back at the end of a chunk, and let go if it becomes something else (`<thing`).
MiniMax without reasoning_split, local servers without a reasoning parser.
"""

from __future__ import annotations

from typing import Literal

OPENING = "<think>"
CLOSING = "</think>"

Said = tuple[Literal["thinking", "text"], str]


class ThinkTags:
    """Splits the text of one answer; feed it every piece, then flush it."""

    def __init__(self) -> None:
        self._phase: Literal["start", "thinking", "after", "text"] = "start"
        self._held = ""

    @property
    def is_decided(self) -> bool:
        """True: whatever follows is text, and `feed` would only hand it back."""
        return self._phase == "text"

    @property
    def is_untouched(self) -> bool:
        """True: there was no text yet."""
        return self._phase == "start" and not self._held

    def feed(self, text: str) -> list[Said]:
        """Take more text and return what is known of it now."""
        text, self._held = self._held + text, ""
        if self._phase == "start":
            return self._start(text)
        if self._phase == "thinking":
            return self._think(text)
        if self._phase == "after":
            return self._after(text)
        return [("text", text)]

    def flush(self) -> list[Said]:
        """Return what was held back: nothing follows that could complete a tag."""
        held, self._held = self._held, ""
        kind: Literal["thinking", "text"] = "thinking" if self._phase == "thinking" else "text"
        if self._phase == "start":
            self._phase = "text"
        return [(kind, held)] if held else []

    def _start(self, text: str) -> list[Said]:
        visible = text.lstrip()
        if visible.startswith(OPENING):
            self._phase = "thinking"
            return self._think(visible[len(OPENING) :])
        if OPENING.startswith(visible):  # also where nothing is visible yet
            self._held = text
            return []
        self._phase = "text"
        return [("text", text)]

    def _think(self, text: str) -> list[Said]:
        thought, closing, rest = text.partition(CLOSING)
        if closing:
            self._phase = "after"
            return [("thinking", thought), *self._after(rest)]
        keep = next((n for n in range(len(CLOSING) - 1, 0, -1) if text.endswith(CLOSING[:n])), 0)
        self._held = text[len(text) - keep :]
        return [("thinking", text[: len(text) - keep])]

    def _after(self, text: str) -> list[Said]:
        """Skip the blank lines that separate the answer from the reasoning."""
        text = text.lstrip()
        if not text:
            return []
        self._phase = "text"
        return [("text", text)]

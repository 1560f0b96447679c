"""
Reasoning inside the text: a leading `<think>…</think>`.

Tags count only at the start of the text, after optional white space; later ones are text. A partial
tag at the end of a chunk is held back and released if it turns out to be something else (`<thing`).
Used by MiniMax without reasoning_split and by local servers without a reasoning parser.

A `</think>` without an opening tag ends reasoning as well: some chat templates contain the opening
tag. At the start of the text it is dropped. Later it can be recognized only in a whole answer,
because a stream has already sent the text before it.
"""

from __future__ import annotations

from typing import Literal

OPENING = "<think>"
CLOSING = "</think>"

TaggedText = tuple[Literal["thinking", "text"], str]


class ThinkTags:
    """Splits the text of one answer; feed it every piece, then flush it."""

    def __init__(self) -> None:
        self._phase: Literal["start", "thinking", "after", "text"] = "start"
        self._held: list[str] = []

    @property
    def is_decided(self) -> bool:
        """True: the rest is text, which `feed` would return unchanged."""
        return self._phase == "text"

    @property
    def is_untouched(self) -> bool:
        """True: no text has arrived yet."""
        return self._phase == "start" and not self._held

    def feed(self, text: str, *, is_whole: bool = False) -> list[TaggedText]:
        """
        Process more text and return the part that can be classified.

        *is_whole* is true if *text* is the complete text of the answer.
        """
        if not text:
            return []
        if self._phase == "start" and text.isspace():
            self._held.append(text)
            return []
        text, self._held = "".join([*self._held, text]), []
        if self._phase == "start":
            return self._start(text, is_whole=is_whole)
        if self._phase == "thinking":
            return self._think(text)
        if self._phase == "after":
            return self._after(text)
        return [("text", text)]

    def flush(self) -> list[TaggedText]:
        """Return the text that was held back; no more text can complete a tag."""
        held, self._held = "".join(self._held), []
        kind: Literal["thinking", "text"] = "thinking" if self._phase == "thinking" else "text"
        if self._phase == "start":
            self._phase = "text"
        return [(kind, held)] if held else []

    def _start(self, text: str, *, is_whole: bool) -> list[TaggedText]:
        visible = text.lstrip()
        if visible.startswith(OPENING):
            self._phase = "thinking"
            return self._think(visible[len(OPENING) :])
        if visible.startswith(CLOSING):
            return self._after(visible[len(CLOSING) :])
        if is_whole and CLOSING in text:
            return self._think(text)
        if OPENING.startswith(visible) or CLOSING.startswith(visible):
            self._held = [text] if text else []
            return []
        self._phase = "text"
        return [("text", text)]

    def _think(self, text: str) -> list[TaggedText]:
        thought, closing, rest = text.partition(CLOSING)
        if closing:
            return [("thinking", thought), *self._after(rest)]
        held = next((n for n in range(len(CLOSING) - 1, 0, -1) if text.endswith(CLOSING[:n])), 0)
        self._held = [text[len(text) - held :]] if held else []
        return [("thinking", text[: len(text) - held])]

    def _after(self, text: str) -> list[TaggedText]:
        """Skip the blank lines that separate the answer from the reasoning."""
        self._phase = "after"
        text = text.lstrip()
        if not text:
            return []
        self._phase = "text"
        return [("text", text)]

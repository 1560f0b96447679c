"""
Stop sequences, enforced by the proxy.

Providers ignore `stop`, refuse it or accept only four sequences, but clients rely on it: auto
mode's classifier fails closed. The proxy therefore cuts the text itself, even if a sequence spans
several chunks: a possible beginning is held back until more text arrives.
"""

from __future__ import annotations

from collections.abc import Sequence


class StopCutter:
    """Cuts the text of one answer at the first of the *sequences*."""

    def __init__(self, sequences: Sequence[str]) -> None:
        self._sequences = tuple(filter(None, sequences))
        self._held = ""
        self.matched: str | None = None
        """The sequence at which the text was cut."""

    @property
    def is_active(self) -> bool:
        """True if there are stop sequences; otherwise text is returned immediately."""
        return bool(self._sequences)

    def feed(self, text: str) -> str:
        """Process more text and return the part that can be sent."""
        if not self._sequences:
            return text
        if self.matched is not None:
            return ""
        text = self._held + text
        # The sequence that ends first counts, as if the text arrived character by character.
        positions = ((text.find(sequence), sequence) for sequence in self._sequences)
        complete = [(at + len(sequence), at, sequence) for at, sequence in positions if at >= 0]
        if complete:
            _, at, self.matched = min(complete)
            self._held = ""
            return text[:at]
        keep = self._beginning_at_end(text)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]

    def flush(self) -> str:
        """Return the text that was held back; no more text can complete a sequence."""
        held, self._held = self._held, ""
        return held

    def _beginning_at_end(self, text: str) -> int:
        """Return the length of the longest suffix of *text* that is a prefix of a sequence."""
        longest = min(len(text), max(map(len, self._sequences)) - 1)
        for length in range(longest, 0, -1):
            end = text[len(text) - length :]
            if any(sequence.startswith(end) for sequence in self._sequences):
                return length
        return 0

"""
Stop sequences, enforced by ourselves.

Providers ignore `stop`, refuse it or take only four; the client relies on it (auto mode's
classifier fails closed). So the text is cut here, also where a sequence is spread over chunks:
what may be its beginning is held back until the next text decides.
"""

from __future__ import annotations

from collections.abc import Sequence


class StopCutter:
    """Cuts the text of one answer at the first of the *sequences*; without any it does nothing."""

    def __init__(self, sequences: Sequence[str]) -> None:
        self._sequences = tuple(filter(None, sequences))
        self._held = ""
        self.matched: str | None = None
        """The sequence that cut the text."""

    @property
    def is_active(self) -> bool:
        """False: whatever is fed comes back at once."""
        return bool(self._sequences)

    def feed(self, text: str) -> str:
        """Take more text and return what of it can be shown."""
        if not self._sequences:
            return text
        if self.matched is not None:
            return ""
        text = self._held + text
        # The one that is complete first, as if the text came letter by letter.
        found = ((text.find(sequence), sequence) for sequence in self._sequences)
        complete = [(at + len(sequence), at, sequence) for at, sequence in found if at >= 0]
        if complete:
            _, at, self.matched = min(complete)
            self._held = ""
            return text[:at]
        keep = self._beginning_at_end(text)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]

    def flush(self) -> str:
        """Return what was held back: nothing follows that could complete a sequence."""
        held, self._held = self._held, ""
        return held

    def _beginning_at_end(self, text: str) -> int:
        """Return the length of the longest end of *text* with which a sequence begins."""
        longest = min(len(text), max(map(len, self._sequences)) - 1)
        for length in range(longest, 0, -1):
            end = text[len(text) - length :]
            if any(sequence.startswith(end) for sequence in self._sequences):
                return length
        return 0

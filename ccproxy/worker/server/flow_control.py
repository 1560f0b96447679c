"""aiohttp's flow control without what it does where nothing was paused."""

from __future__ import annotations

from aiohttp.base_protocol import BaseProtocol


class ResumesWhatIsPaused(BaseProtocol):
    """
    A connection that resumes only what it has paused.

    aiohttp resumes at every piece that is taken out of a body: it has its parser look at an empty
    read, and asks the transport. For a stream of small pieces that is a tenth of the cost.
    """

    __slots__ = ()

    def resume_reading(self, *how: bool, **said: bool) -> None:
        """Read on, if reading was paused."""
        if self._reading_paused:
            super().resume_reading(*how, **said)

"""
Store image descriptions in the worker's memory and in `state/descriptions`.

The files preserve the text of a conversation across restarts. Requests that need the same
description share one request to the describer. Failures are remembered for a minute.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from stat import S_ISREG

from structlog.typing import FilteringBoundLogger

from ccproxy.errors import Problem
from ccproxy.files import read_regular, write_atomically

DESCRIBE_SECONDS = 60.0
PARALLEL_DESCRIPTIONS = 3
KEPT_IN_MEMORY = 200
KEPT_ON_DISK = 2000
KEPT_SECONDS = 30 * 86400.0
FAILED_SECONDS = 60.0
"""How long a failure is remembered."""
_CLEAN_SECONDS = 3600.0

Describe = Callable[[], Awaitable[str]]
"""Requests a description. Raises Problem."""


class DescriptionStore:
    """The descriptions written by the model *describer*."""

    def __init__(
        self,
        describer: str,
        folder: Path,
        *,
        log: FilteringBoundLogger,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.describer = describer
        self._folder = folder
        self._log = log
        self._clock = clock
        self._memory: dict[str, str] = {}
        self._cleaned = 0.0
        self._running: dict[str, asyncio.Task[str]] = {}
        self._failed: dict[str, tuple[float, str]] = {}
        self._turn = asyncio.Semaphore(PARALLEL_DESCRIPTIONS)

    def close(self) -> None:
        """Cancel all pending descriptions."""
        for task in self._running.values():
            task.cancel()

    def get(self, key: str) -> str | None:
        """Return a stored description, or None."""
        if (text := self._memory.pop(key, None)) is None:
            try:
                text = read_regular(self._folder / key)
            except (OSError, UnicodeDecodeError):
                return None
        self._remember(key, text)
        return text

    async def get_or_make(self, key: str, describe: Describe) -> str:
        """
        Return a stored description, or call *describe* and store the result.

        Raises:
            Problem: If *describe* fails, or has failed within the last minute.
        """
        if (text := self.get(key)) is not None:
            return text
        if (failed := self._failed.get(key)) and self._clock() - failed[0] < FAILED_SECONDS:
            raise Problem("api_error", failed[1])
        task = self._running.get(key)
        if task is None:
            task = self._running[key] = asyncio.create_task(self._make(key, describe))
            task.add_done_callback(lambda _: self._running.pop(key, None))
        # A client that disconnects must not cancel a task that others await.
        return await asyncio.shield(task)

    async def _make(self, key: str, describe: Describe) -> str:
        try:
            async with self._turn, asyncio.timeout(DESCRIBE_SECONDS):
                text = await describe()
        except TimeoutError as error:
            reason = f"{self.describer} did not answer within {DESCRIBE_SECONDS:g} s"
            raise self._fail(key, reason) from error
        except Problem as problem:
            raise self._fail(key, problem.message) from problem
        self._remember(key, text)
        try:
            write_atomically(self._folder / key, text)
            self._clean()
        except (OSError, UnicodeEncodeError) as error:
            self._log.warning("image.unsaved", reason=str(error))
        self._log.info("image.described", describer=self.describer, characters=len(text))
        return text

    def _fail(self, key: str, reason: str) -> Problem:
        now = self._clock()
        recent = {
            name: each for name, each in self._failed.items() if now - each[0] < FAILED_SECONDS
        }
        self._failed = {**recent, key: (now, reason)}
        self._log.warning("image.undescribed", describer=self.describer, reason=reason)
        return Problem("api_error", reason)

    def _remember(self, key: str, text: str) -> None:
        self._memory[key] = text
        while len(self._memory) > KEPT_IN_MEMORY:
            del self._memory[next(iter(self._memory))]

    def _clean(self) -> None:
        """Delete old files, at most once an hour."""
        now = self._clock()
        if now - self._cleaned < _CLEAN_SECONDS:
            return
        self._cleaned = now
        by_age: list[tuple[float, Path]] = []
        for file in self._folder.iterdir():
            with suppress(FileNotFoundError):  # another worker's draft, which it has renamed
                status = file.lstat()
                if S_ISREG(status.st_mode):
                    by_age.append((status.st_mtime, file))
        for position, (changed, file) in enumerate(sorted(by_age, reverse=True)):
            if position >= KEPT_ON_DISK or now - changed > KEPT_SECONDS:
                file.unlink(missing_ok=True)

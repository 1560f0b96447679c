"""
Records whole exchanges for `ccproxy replay` while the user has switched recording on.

The request path only appends references to existing data; a thread redacts keys and writes files.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from structlog.typing import FilteringBoundLogger

from ccproxy.config.worker_config import WorkerConfig
from ccproxy.redaction import Redactor
from ccproxy.store.recordings import MAX_RECORDING, Recording, save_recording
from ccproxy.worker.server.access_record import AccessRecord
from ccproxy.worker.upstream.recorded_answer import RecordedAnswer, masked

RECORDING_SECONDS = 24 * 3600.0
"""Seconds after which recording turns itself off, in case the user forgets to."""


class ExchangeRecorder:
    """Records the exchanges of one worker until `until`, a wall-clock time."""

    def __init__(
        self, config: WorkerConfig, state: Path, *, redact: Redactor, log: FilteringBoundLogger
    ) -> None:
        self.until = 0.0
        self._label = config.label
        self._provider = config.provider
        self.state = state
        self._redact = redact
        self._log = log
        self._writes: set[asyncio.Task[None]] = set()

    @property
    def is_on(self) -> bool:
        """True while exchanges are recorded."""
        return self.until > 0 and self.seconds_left > 0

    @property
    def seconds_left(self) -> float:
        """Seconds until recording turns itself off; 0 if it is off."""
        return max(0.0, self.until - time.time()) if self.until else 0.0

    def note(self, record: AccessRecord) -> None:
        """Record a finished request and the answers to it."""
        # Clear the answers: the record stays in the list of requests, and each answer holds an
        # exchange.
        recorded_answers, record.recorded_answers = record.recorded_answers, []
        if not recorded_answers:
            return
        size = sum(answer.size for answer in recorded_answers)
        size += len(record.request_body) + len(record.response_body)
        if size > MAX_RECORDING:
            self._log.warning("recording.too_large", request=record.request_id, bytes=size)
            return
        # Read the bodies now: the inspector truncates them later.
        bodies = record.request_body, record.response_body
        write = partial(self._write, record, recorded_answers, *bodies)
        task = asyncio.create_task(self._save(record.request_id, write))
        self._writes.add(task)
        task.add_done_callback(self._writes.discard)

    async def close(self) -> None:
        """Write pending recordings."""
        await asyncio.gather(*self._writes)

    async def _save(self, request_id: str, write: Callable[[], None]) -> None:
        try:
            await asyncio.to_thread(write)
        except OSError as error:
            self._log.warning("recording.failed", request=request_id, reason=str(error))

    def _write(
        self, record: AccessRecord, answers: Sequence[RecordedAnswer], request: bytes, answer: bytes
    ) -> None:
        recording = Recording(
            id=record.request_id,
            label=self._label,
            provider=self._provider,
            at=record.started_at,
            path=record.path,
            requested=record.requested,
            stream=record.stream,
            status=record.status,
            error=record.error or "",
            request=masked(request, self._redact),
            answer=masked(answer, self._redact.events if record.stream else self._redact),
            calls=tuple(answer.call(self._redact) for answer in answers),
        )
        save_recording(self.state, recording)

"""
Measures models in the background, while AUTO_PROBE allows it.

A model that is in neither the preset nor the catalogue is measured after its first answer. After
the first refusal of a feature, only the part of the measurement that explains it is run. Requests
are sent one at a time. The daily limits are AUTO_PROBE, in dollars, and `MOST_A_DAY` requests;
measurements beyond them are skipped. A process measures nothing twice.

The maximum answer length is not measured: many providers count the requested tokens against the
limit per minute, which the user's own requests need.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress

from ccproxy.errors import CcproxyError
from ccproxy.providers.measurement import PARTS, Measurement, parts_of
from ccproxy.providers.quirks import Api
from ccproxy.worker.probing.probe import log_measured, save_measured
from ccproxy.worker.probing.probe_client import ProbeClient, schema_forms
from ccproxy.worker.worker import Worker

MOST_A_DAY = 300
"""Requests; also the limit for models without a known price."""
PAUSE_SECONDS = 1.0
"""Pause between two requests, so that they do not delay the user's own."""
MOST_MODELS = 50
_DAY = 86400.0


class AutoProbe:
    """The background measurements of one worker."""

    def __init__(self, worker: Worker, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._worker = worker
        self._clock = clock
        self._begun: dict[str, frozenset[str]] = {}  # the measured parts of each model
        self._answered: set[str] = set()
        self._day = clock()
        self._dollars = 0.0
        self._requests = 0
        self._turn = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()

    def note_answer(self, model: str, api: Api) -> None:
        """Handle an answer: measure its model if it is unknown."""
        if api == "chat" and model not in self._answered and len(self._answered) < MOST_MODELS:
            self._answered.add(model)
            config = self._worker.config
            is_known = config.models.describes(model) or model in config.measured
            self._begin(model, () if is_known else PARTS, because="the model is unknown")

    def note_refusal(self, model: str, api: Api) -> None:
        """Handle a refusal: measure the refused features."""
        if api == "chat":
            features = self._worker.rules.learned.features(api, model)
            self._begin(model, parts_of(features), because=f"refused: {', '.join(features)}")

    async def close(self) -> None:
        """Cancel running measurements."""
        for task in tuple(self._tasks):
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    def _begin(self, model: str, parts: tuple[str, ...], *, because: str) -> None:
        begun = self._begun.get(model, frozenset())
        new = tuple(part for part in parts if part not in begun)
        if not new or len(self._begun) >= MOST_MODELS or not self._is_allowed():
            return
        self._begun[model] = begun.union(new)
        task = asyncio.create_task(self._measure(model, new, because))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _is_allowed(self) -> bool:
        """Return True if the daily limits have not been reached."""
        if self._clock() - self._day >= _DAY:
            self._day, self._dollars, self._requests = self._clock(), 0.0, 0
        allowed = self._worker.config.added_features.auto_probe
        return self._dollars < allowed and self._requests < MOST_A_DAY

    async def _measure(self, model: str, parts: tuple[str, ...], because: str) -> None:
        events = self._worker.logs.events
        async with self._turn:
            events.info("model.measuring", model=model, parts=parts, because=because)
            client = ProbeClient(self._worker, model)
            measurement = Measurement(model, schemas=schema_forms())
            try:
                is_complete = await self._send(client, measurement, parts)
                if measurement.quirks:
                    self._apply(client, model, measurement)
            except (CcproxyError, OSError, ValueError) as error:
                reason = self._worker.logs.redact(str(error))
                events.warning("model.unmeasured", model=model, reason=reason)
                return
        if not is_complete:
            events.warning("model.unmeasured", model=model, reason="the limit of AUTO_PROBE")

    async def _send(
        self, client: ProbeClient, measurement: Measurement, parts: tuple[str, ...]
    ) -> bool:
        """Send the requests; return False if a limit ended the measurement."""
        steps = measurement.steps(parts)
        body = next(steps)
        while self._is_allowed():
            before = client.dollars
            outcome = await client.send(body)
            self._dollars += client.dollars - before
            self._requests += 1
            try:
                body = steps.send(outcome)
            except StopIteration:
                return True
            await asyncio.sleep(PAUSE_SECONDS)
        return False

    def _apply(self, client: ProbeClient, model: str, measurement: Measurement) -> None:
        """Save the measured quirks, and apply them to the next request."""
        worker, quirks = self._worker, measurement.quirks
        differs = save_measured(worker, model, quirks)
        worker.config.take_measured(model, quirks)
        worker.rules.learned.remove_measured("chat", model, quirks.keys())
        log_measured(worker, model, client, differs)

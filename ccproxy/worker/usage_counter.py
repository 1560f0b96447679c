"""
What was used since the worker started, and the way of that into the fleet's statistics.

One call per finished request, streams and whole answers alike: some additions, and an item put
down for the writing thread.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from functools import lru_cache

from ccproxy.config.worker import WorkerConfig
from ccproxy.providers.pricing import Price
from ccproxy.store.usage_totals import Totals, Used
from ccproxy.store.writer import Writer
from ccproxy.worker.server.access_record import Record


class Ledger:
    """Counts the requests of one worker."""

    def __init__(
        self,
        config: WorkerConfig,
        *,
        writer: Writer[Used] | None = None,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.totals = Totals()
        """Since the worker started."""
        self.requests_of: Counter[str] = Counter()
        """By the model that was asked."""
        self._label = config.label
        self._writer = writer
        self._wall = wall
        self._price: Callable[[str], Price | None] = lru_cache(maxsize=256)(config.models.price)

    def note(self, record: Record) -> None:
        """Count one request to a model that has ended."""
        used = self._used(record)
        self.totals.add(used)
        self.requests_of[record.model] += 1
        if self._writer is not None:
            self._writer.put(used)

    def close(self) -> None:
        """Write what waits; blocks until it is written."""
        if self._writer is not None:
            self._writer.close()

    def _used(self, record: Record) -> Used:
        # Of a request without an answer there is only the estimate that it would have begun with.
        ttfb = record.ttfb
        usage = {} if ttfb is None else record.usage
        price = self._price(record.model)
        return Used(
            at=self._wall(),
            label=self._label,
            model=record.model,
            key=record.key,
            failed=record.failed,
            input=usage.get("input_tokens") or 0,
            output=usage.get("output_tokens") or 0,
            cached=usage.get("cache_read_input_tokens") or 0,
            written=usage.get("cache_creation_input_tokens") or 0,
            reasoning=(usage.get("output_tokens_details") or {}).get("thinking_tokens") or 0,
            ttfb=ttfb,
            cost=None if price is None else price.cost(usage),
        )

"""
Counts tokens and costs since the worker started, and passes them to the fleet's statistics.

Each finished request costs a few additions, and an item for the writer thread.
"""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

from ccproxy.bounded_dict import MAX_MODELS
from ccproxy.config.worker_config import WorkerConfig
from ccproxy.providers.pricing import Price
from ccproxy.store.usage_totals import Totals, Used
from ccproxy.store.writer import Writer
from ccproxy.worker.server.access_record import AccessRecord

_SESSION = re.compile(r"[A-Za-z0-9_-]{1,64}")
"""Other session IDs are not counted: clients choose them."""
OTHER_MODELS = "other"


class UsageCounter:
    """Counts the requests of one worker."""

    def __init__(
        self,
        config: WorkerConfig,
        *,
        writer: Writer[Used] | None = None,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.totals = Totals()
        """Totals since the worker started."""
        self.requests_by_model: Counter[str] = Counter()
        """Requests by the model that answered; models beyond `MAX_MODELS` are counted together."""
        self._label = config.label
        self._writer = writer
        self._wall = wall
        self._price: Callable[[str], Price | None] = lru_cache(MAX_MODELS)(config.models.price)

    def note(self, record: AccessRecord) -> Used:
        """Count a finished request to a model; return its usage."""
        used = self._used(record)
        record.cost = used.cost
        self.totals.add(used)
        self._count_model(record.model)
        if self._writer is not None:
            self._writer.put(used)
        return used

    def cost(
        self, model: str, usage: Mapping[str, Any], *, at: float | None = None
    ) -> float | None:
        """Return the cost in dollars of a request sent at *at*, or None if the price is unknown."""
        price = self._price(model)
        sent_at = self._wall() if at is None else at
        return None if price is None else price.cost(usage, at=sent_at)

    def close(self) -> None:
        """Write pending totals; blocks until they are written."""
        if self._writer is not None:
            self._writer.close()

    def _count_model(self, model: str) -> None:
        counts = self.requests_by_model
        counts[model if model in counts or len(counts) < MAX_MODELS else OTHER_MODELS] += 1

    def _used(self, record: AccessRecord) -> Used:
        # Without an answer, the usage is only the estimate for `message_start`.
        ttfb = record.ttfb
        usage = {} if ttfb is None else record.usage
        price, at = self._price(record.model), record.started_at
        cost = None if price is None else price.cost(usage, at=at)
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
            cost=(cost or 0.0) + record.fee if record.fee else cost,
            extra=None if price is None else price.extra_cost(usage, at=at),
            asked=record.attempts > 0,
            is_abandoned=record.is_abandoned,
            session=record.session if _SESSION.fullmatch(record.session) else "",
            user=record.user,
        )

"""What lives as long as the worker process, and what every endpoint may look at."""

from __future__ import annotations

import asyncio
import secrets
import time
from dataclasses import dataclass, field
from itertools import count

from structlog.typing import FilteringBoundLogger

from ccproxy.config.worker import WorkerConfig
from ccproxy.convert.context import ConversionContext
from ccproxy.convert.direct.learning import Lessons
from ccproxy.keys.pool import KeyPool
from ccproxy.redaction import Redactor
from ccproxy.worker.admin.session import Session
from ccproxy.worker.key_store import Keeper
from ccproxy.worker.log.lines import RequestLog
from ccproxy.worker.peers.choice import Chooser
from ccproxy.worker.peers.siblings import Siblings
from ccproxy.worker.server.authentication import Admission
from ccproxy.worker.upstream.client import Upstream

_NUMBERS = count(1)

PING_SECONDS = 15.0
"""Claude Code shows a stall after 20 s without a byte and gives up after 300 s."""


@dataclass(slots=True, kw_only=True)
class Worker:
    """One proxy process."""

    config: WorkerConfig
    pool: KeyPool
    upstream: Upstream
    rules: ConversionContext
    admission: Admission
    log: FilteringBoundLogger
    request_log: RequestLog | FilteringBoundLogger
    """Where the line of every request goes."""
    redact: Redactor
    session: Session
    chooser: Chooser
    siblings: Siblings
    counting: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held while the tokens of a request are counted."""
    started: float = field(default_factory=time.time)
    """Seconds since the epoch."""
    id_prefix: str = field(default_factory=lambda: secrets.token_hex(8))
    """Random once, counted from then on: ids must differ, not be hard to guess."""
    lessons: Lessons = field(default_factory=Lessons)
    keeper: Keeper | None = None
    """Keeps the pool on disk; None where the disk does not allow it."""
    removed_reasoning: int = 0
    """Reasoning items that providers removed from requests (Responses API)."""
    counts_itself: bool = False
    """Direct mode: the provider has turned out not to count tokens."""
    ping_seconds: float = PING_SECONDS
    """Silence after which an open stream gets a ping."""
    draining: bool = False
    """No new connection is accepted; what runs may finish."""
    ending: bool = False
    """What still runs has been told to end."""
    running: set[asyncio.Task[object] | None] = field(default_factory=set)
    """The tasks of the requests that are being answered."""

    def new_id(self, kind: str) -> str:
        """Return a new identifier such as `req_…` or `msg_…`."""
        return f"{kind}_{self.id_prefix}{next(_NUMBERS):08x}"

    def key_counts(self) -> dict[str, int]:
        """Return how many keys are ready and how many there are."""
        ready, total = self.pool.counts()
        return {"ready": ready, "total": total}

    def has_valid_key(self) -> bool:
        """Tell whether at least one key is not known to be refused."""
        if not self.config.api_keys:
            return self.config.pass_client_key
        return any(key.state not in ("rejected", "disabled") for key in self.pool.snapshot())

    def tiers(self) -> dict[str, str | None]:
        """Return the models of the tiers by the tiers' names."""
        return self.chooser.tiers()

    def end(self) -> None:
        """Tell every request that still runs to end, each with an error that says why."""
        self.ending = True
        for task in tuple(self.running):
            if task is not None:
                task.cancel()

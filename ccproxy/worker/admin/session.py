"""
What a worker remembers of its requests, and the switch that takes it out of their way.

`note` is called once for every request to a model when it has ended. The request path itself only
appends what was sent to the record, and only where somebody wants to see bodies.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from structlog.typing import FilteringBoundLogger

from ccproxy.config.overrides import standing_path
from ccproxy.config.worker import WorkerConfig
from ccproxy.redaction import Redactor
from ccproxy.store.usage_totals import usage_writer
from ccproxy.store.writer import Note
from ccproxy.worker.admin.bypass_relay import Transparent
from ccproxy.worker.admin.debug_log import DebugLog
from ccproxy.worker.admin.history import Conversation
from ccproxy.worker.admin.switchboard import Switchboard
from ccproxy.worker.server.access_record import Record
from ccproxy.worker.server.authentication import Admission
from ccproxy.worker.usage_counter import Ledger


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """Everything that the admin routes show and change."""

    ledger: Ledger
    conversation: Conversation
    debug_log: DebugLog
    transparent: Transparent
    switches: Switchboard

    @property
    def keeps_bodies(self) -> bool:
        """Whether a request that begins now shall keep what is asked and answered."""
        return self.conversation.is_on or self.debug_log.inspects

    def note(self, record: Record, headers: Mapping[str, str]) -> None:
        """Count and remember a request that has ended; another worker's are its own."""
        if record.elsewhere:
            return
        self.ledger.note(record)
        self.conversation.note(record, headers=headers, ended=time.time())
        self.debug_log.note_request(record)

    async def close(self) -> None:
        """Write what waits, and let go of everything."""
        await self.transparent.close()
        await asyncio.to_thread(self.ledger.close)
        await asyncio.to_thread(self.conversation.close)


def make_session(
    config: WorkerConfig,
    *,
    home: Path,
    admission: Admission,
    log: FilteringBoundLogger,
    redact: Redactor,
) -> Session:
    """Make the session of a worker; must be called inside the event loop."""
    warn = _warner(log)
    debug_log = DebugLog(redact=redact, inspects_since=_inspected_since(config))
    if debug_log.inspects:
        log.warning("inspect.on", seconds=round(debug_log.inspects_for), where="GET /debug_logs")
    elif config.inspect:
        log.warning("inspect.over", env_file=str(config.env_file), fix="save the file once more")
    debug_log.note(
        "config",
        label=config.label,
        provider=config.provider_name,
        base_url=config.base_url,
        models=[config.models.big, config.models.middle, config.models.small],
        history=config.history,
        inspect=debug_log.inspects,
    )
    conversation = Conversation(home, config.label, redact=redact, on=config.history, warn=warn)
    transparent = Transparent(
        config.transparent_url,
        admission=admission,
        ca_bundle=config.ca_bundle,
        proxy=config.upstream_proxy,
    )
    return Session(
        ledger=Ledger(config, writer=usage_writer(home / "state", warn=warn)),
        conversation=conversation,
        debug_log=debug_log,
        transparent=transparent,
        switches=Switchboard(
            standing_path(home / "state", config.label),
            conversation,
            transparent,
            history=config.history,
            warn=warn,
            note=debug_log.note,
        ),
    )


def _warner(log: FilteringBoundLogger) -> Note:
    """Let the writing threads warn; the log itself belongs to the event loop's thread."""
    loop = asyncio.get_running_loop()

    def warn(text: str) -> None:
        if not loop.is_closed():
            loop.call_soon_threadsafe(partial(log.warning, "store.failed", reason=text))

    return warn


def _inspected_since(config: WorkerConfig) -> float | None:
    """Return when INSPECT was switched on: when its file was written, else now."""
    if not config.inspect:
        return None
    return time.time() if config.env_file is None else config.env_file.stat().st_mtime

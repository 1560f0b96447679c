"""
History, inspector and bypass of a worker, and their switches.

`note` is called once for every finished request to a model. The request path itself only appends
bodies to the record, and only if a feature needs them.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from structlog.typing import FilteringBoundLogger

from ccproxy.config.worker_config import WorkerConfig
from ccproxy.ipc.control_messages import SessionReply, SessionRequest
from ccproxy.redaction import Redactor
from ccproxy.routing.tiers import TIERS
from ccproxy.store.overrides import overrides_path
from ccproxy.store.usage_totals import Used, usage_writer
from ccproxy.store.writer import Note
from ccproxy.worker.accounting.usage_counter import UsageCounter
from ccproxy.worker.admin.bypass import Bypass
from ccproxy.worker.admin.client_sessions import ClientSessions
from ccproxy.worker.admin.exchange_recorder import ExchangeRecorder
from ccproxy.worker.admin.history_recorder import HistoryRecorder
from ccproxy.worker.admin.inspector import Inspector
from ccproxy.worker.admin.session_switches import SessionSwitches
from ccproxy.worker.server.access_record import AccessRecord
from ccproxy.worker.server.authentication import Authenticator


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """The state that the admin routes and the control socket show and change."""

    usage: UsageCounter
    history: HistoryRecorder
    inspector: Inspector
    recorder: ExchangeRecorder
    bypass: Bypass
    switches: SessionSwitches
    clients: ClientSessions
    log: FilteringBoundLogger

    @property
    def keeps_bodies(self) -> bool:
        """True if a feature needs the bodies of a request that begins now."""
        return self.history.is_on or self.inspector.inspects or self.recorder.is_on

    def note(self, record: AccessRecord, headers: Mapping[str, str]) -> Used | None:
        """Count and record a finished request; return None if another worker answered it."""
        if record.answered_by:
            record.drop_bodies()
            return None
        used = self.usage.note(record)
        if used.extra:
            self.log.warning(
                "request.above_price_threshold",
                request=record.request_id,
                model=used.model,
                prompt=used.input + used.cached + used.written,
                extra_cost=round(used.extra, 6),
            )
        self.clients.count(record, used)
        self.history.note(record, headers=headers, ended=time.time())
        self.recorder.note(record)
        self.inspector.note_request(record)
        return used

    async def change(self, request: SessionRequest) -> SessionReply:
        """
        Change the switches that *request* names and return the state of all.

        A request that names no switch precedes a read of the history, so it writes pending turns.
        """
        self.switches.catch_up()
        unsaved = []
        if request.proxy is not None:
            active = self.bypass.is_active
            disabled = not active if request.proxy == "toggle" else request.proxy == "off"
            unsaved.append(await self.switches.switch_proxy(disabled=disabled))
            self.log.info("proxy.switched", enabled=not self.bypass.is_active)
        if request.history == "on":
            unsaved.append(await self.switches.enable_history())
        elif request.history is not None:
            unsaved.append(await self.switches.disable_history())
        elif request.proxy is None and request.recording is None and self.history.is_on:
            await self.history.flush()
        if request.recording is not None:
            unsaved.append(await self.switches.switch_recording(on=request.recording == "on"))
        return SessionReply(
            proxy=not self.bypass.is_active,
            history=self.history.is_on,
            goes_to=self.bypass.url,
            recording_s=round(self.recorder.seconds_left),
            unsaved=next(filter(None, unsaved), ""),
        )

    async def close(self) -> None:
        """Write pending data and close everything."""
        await self.bypass.close()
        await self.recorder.close()
        await asyncio.to_thread(self.usage.close)
        await asyncio.to_thread(self.history.close)


def make_session(
    config: WorkerConfig,
    *,
    home: Path,
    authenticator: Authenticator,
    log: FilteringBoundLogger,
    redact: Redactor,
) -> Session:
    """Create the session of a worker; must be called inside the event loop."""
    warn = _warner(log)
    inspector = Inspector(redact=redact, inspects_since=_inspected_since(config))
    if inspector.inspects:
        log.warning("inspect.on", seconds=round(inspector.inspects_for), where="GET /debug_logs")
    elif config.inspect:
        log.warning("inspect.over", env_file=str(config.env_file), fix="save the file again")
    inspector.note(
        "config",
        label=config.label,
        provider=config.provider_name,
        base_url=config.base_url,
        models=[config.models.tier(tier) for tier in TIERS],
        history=config.history,
        inspect=inspector.inspects,
    )
    recorder = ExchangeRecorder(config, home / "state", redact=redact, log=log)
    history = HistoryRecorder(home, config.label, redact=redact, on=config.history, warn=warn)
    bypass = Bypass(
        config.transparent_url,
        authenticator=authenticator,
        ca_bundle=config.ca_bundle,
        proxy=config.upstream_proxy,
    )
    return Session(
        usage=UsageCounter(config, writer=usage_writer(home / "state", warn=warn)),
        history=history,
        inspector=inspector,
        recorder=recorder,
        bypass=bypass,
        switches=SessionSwitches(
            overrides_path(home / "state", config.label),
            history,
            bypass,
            recorder,
            history_setting=config.history,
            warn=warn,
            note=inspector.note,
        ),
        clients=ClientSessions(home / "state"),
        log=log,
    )


def _warner(log: FilteringBoundLogger) -> Note:
    """Return a function with which writer threads log warnings through the event loop."""
    loop = asyncio.get_running_loop()

    def warn(text: str) -> None:
        if not loop.is_closed():
            loop.call_soon_threadsafe(partial(log.warning, "store.failed", reason=text))

    return warn


def _inspected_since(config: WorkerConfig) -> float | None:
    """Return when INSPECT was switched on: the time at which its file was saved, or now."""
    if not config.inspect:
        return None
    return time.time() if config.env_file is None else config.env_file.stat().st_mtime

"""
The runtime switches of an entry (bypass, history, recording), shared by all its processes.

A process that changes a switch writes it to the file of `store/overrides.py`, which every process
checks before each request, so the switches also survive a restart. If the file cannot be written, a
switch applies to this process only, and the command reports the reason.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

from ccproxy.store.overrides import NO_OVERRIDES, Overrides, change_overrides, read_overrides
from ccproxy.store.writer import Note
from ccproxy.worker.admin.bypass import Bypass
from ccproxy.worker.admin.exchange_recorder import RECORDING_SECONDS, ExchangeRecorder
from ccproxy.worker.admin.history_recorder import HistoryRecorder
from ccproxy.worker.watched_file import Watched


class SessionSwitches:
    """Changes the switches of one entry; *history_setting* is HISTORY in its env file."""

    def __init__(
        self,
        path: Path,
        history: HistoryRecorder,
        bypass: Bypass,
        recorder: ExchangeRecorder,
        *,
        history_setting: bool,
        warn: Note,
        note: Callable[..., None],
    ) -> None:
        self._path = path
        self._history = history
        self._bypass = bypass
        self._recorder = recorder
        self._history_setting = history_setting
        self._warn = warn
        self._note = note
        self._file = Watched(path, read_overrides)
        self._applied = NO_OVERRIDES
        self.catch_up()

    def catch_up(self) -> None:
        """Apply the switches that any process has saved; one system call if unchanged."""
        overrides = self._file.get()
        if overrides is not self._applied and overrides != self._applied:
            self._apply(overrides)

    async def switch_proxy(self, *, disabled: bool) -> str:
        """
        Switch bypass mode on or off; running requests are not affected.

        Like the other switches, return why the change could not be saved, or an empty string.
        """
        self._bypass.is_active = disabled
        unsaved = await self._save(is_bypassed=disabled)
        self._note("config", proxy="disabled" if disabled else "enabled")
        return unsaved

    async def enable_history(self, name: str = "") -> str:
        """Start recording turns; raises the same errors as `HistoryRecorder.enable`."""
        await self._history.enable(name)
        override = None if self._history_setting else True
        unsaved = await self._save(history=override, export=self._history.file_name)
        self._note("config", history="on")
        return unsaved

    async def disable_history(self) -> str:
        """Stop recording turns; the recorded ones remain."""
        await self._history.disable()
        unsaved = await self._save(history=False if self._history_setting else None, export="")
        self._note("config", history="off")
        return unsaved

    async def switch_recording(self, *, on: bool) -> str:
        """Start recording exchanges for a day, or stop."""
        self._recorder.until = time.time() + RECORDING_SECONDS if on else 0.0
        unsaved = await self._save(records_until=self._recorder.until)
        self._note("config", recording="on" if on else "off")
        return unsaved

    async def _save(self, **changes: bool | str | float | None) -> str:
        try:
            overrides = await asyncio.to_thread(change_overrides, self._path, changes)
        except OSError as error:
            unsaved = f"{self._path.name} cannot be written: {error.strerror}"
            self._warn(f"{unsaved}; the switch applies to this process only, until it ends")
            return unsaved
        self._apply(overrides)
        return ""

    def _apply(self, overrides: Overrides) -> None:
        self._applied = overrides
        self._bypass.is_active = overrides.is_bypassed
        self._recorder.until = overrides.records_until
        on = self._history_setting if overrides.history is None else overrides.history
        self._history.follow(on=on, name=overrides.export)

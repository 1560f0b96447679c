"""
The switches of a session, the same for every process of an entry and for those that come after.

Whoever throws one writes it down in `config/overrides.py`'s file; everybody looks there before each
request. Where the disk does not allow that, a switch holds for this process alone, with a warning.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

from ccproxy.config.overrides import (
    AS_CONFIGURED,
    Standing,
    change_standing,
    read_standing,
)
from ccproxy.store.writer import Note
from ccproxy.worker.admin.bypass_relay import Transparent
from ccproxy.worker.admin.history import Conversation
from ccproxy.worker.watched_file import Watched


class Switchboard:
    """Throws the switches of one entry; *history* is what its env file says."""

    def __init__(
        self,
        path: Path,
        conversation: Conversation,
        transparent: Transparent,
        *,
        history: bool,
        warn: Note,
        note: Callable[..., None],
    ) -> None:
        self._path = path
        self._conversation = conversation
        self._transparent = transparent
        self._history = history
        self._warn = warn
        self._note = note
        self._file = Watched(path, read_standing)
        self._seen = AS_CONFIGURED
        self.catch_up()

    def catch_up(self) -> None:
        """Do what was switched elsewhere or earlier; one system call if that is nothing."""
        standing = self._file.get()
        if standing != self._seen:
            self._apply(standing)

    async def switch_proxy(self, *, disabled: bool) -> None:
        """Let requests pass the provider by, or no longer; running ones end as they began."""
        self._transparent.is_taken = disabled
        await self._keep(is_off=disabled)
        self._note("config", proxy="disabled" if disabled else "enabled")

    async def keep_history(self, name: str = "") -> None:
        """Keep turns from now on; raises as `Conversation.enable` does."""
        await self._conversation.enable(name)
        await self._keep(history=None if self._history else True, file=self._conversation.file_name)
        self._note("config", history="on")

    async def end_history(self) -> None:
        """Keep no more turns; what is kept stays."""
        await self._conversation.disable()
        await self._keep(history=False if self._history else None, file="")
        self._note("config", history="off")

    async def _keep(self, **changes: bool | str | None) -> None:
        try:
            standing = await asyncio.to_thread(change_standing, self._path, changes)
        except OSError as error:
            text = f"{self._path.name} cannot be written: {error.strerror}"
            self._warn(f"{text}; only this process knows of the switch, and only until it ends")
        else:
            self._apply(standing)

    def _apply(self, standing: Standing) -> None:
        self._seen = standing
        self._transparent.is_taken = standing.is_off
        on = self._history if standing.history is None else standing.history
        self._conversation.follow(on=on, name=standing.file)

"""The switches of a worker's session, as the control socket offers them to the command line."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ccproxy.worker.state import Worker

PROXY_DEEDS = ("on", "off", "toggle")


async def answer_session(worker: Worker, asked: Mapping[str, Any]) -> dict[str, Any]:
    """Do what *asked* says (`proxy` and `history`) and return how the switches stand then."""
    session = worker.session
    session.switches.catch_up()
    proxy, history = asked.get("proxy"), asked.get("history")
    if proxy not in (None, *PROXY_DEEDS) or history not in (None, "on", "off"):
        return {"ok": False, "error": f'"proxy" is one of {", ".join(PROXY_DEEDS)}'}
    if proxy is not None:
        is_taken = session.transparent.is_taken
        disabled = not is_taken if proxy == "toggle" else proxy == "off"
        await session.switches.switch_proxy(disabled=disabled)
        worker.log.info("proxy.switched", enabled=not session.transparent.is_taken)
    if history is not None:
        switches = session.switches
        await (switches.keep_history() if history == "on" else switches.end_history())
    return {
        "ok": True,
        "proxy": not session.transparent.is_taken,
        "history": session.conversation.is_on,
        "goes_to": session.transparent.url,
    }

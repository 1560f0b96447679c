"""The switches of a worker's session on its control socket: bypass and history."""

from __future__ import annotations

from ccproxy.ipc.control_messages import SessionReply, SessionRequest
from ccproxy.worker.state import Worker


async def answer_session(worker: Worker, request: SessionRequest) -> SessionReply:
    """Change the switches that *request* names and return the state of all."""
    session = worker.session
    session.switches.catch_up()
    if request.proxy is not None:
        is_taken = session.transparent.is_taken
        disabled = not is_taken if request.proxy == "toggle" else request.proxy == "off"
        await session.switches.switch_proxy(disabled=disabled)
        worker.log.info("proxy.switched", enabled=not session.transparent.is_taken)
    if request.history is not None:
        switches = session.switches
        await (switches.keep_history() if request.history == "on" else switches.end_history())
    return SessionReply(
        proxy=not session.transparent.is_taken,
        history=session.conversation.is_on,
        goes_to=session.transparent.url,
    )

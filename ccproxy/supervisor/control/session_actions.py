"""Asking the processes of an entry about the switches of their session."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ccproxy.config.fleet import Fleet
from ccproxy.errors import CcproxyError, NotRunning
from ccproxy.supervisor.control.worker_requests import living_processes
from ccproxy.supervisor.sockets.unix_socket import NoAnswer, ask

LIMIT = 5.0
"""Seconds that a worker may take."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Switches:
    """How the switches of an entry stand."""

    proxy: bool
    """False: requests pass the proxy by."""
    history: bool
    """True: turns are kept."""
    goes_to: str
    """Where requests go while the proxy is off."""


def switch_session(
    fleet: Fleet,
    label: str,
    *,
    proxy: Literal["on", "off", "toggle"] | None = None,
    history: Literal["on", "off"] | None = None,
) -> Switches:
    """
    Set what is given, in every process of the entry, and return how the switches stand then.

    Raises:
        NotRunning: If no process of the entry answers.
        CcproxyError: If one refuses.

    """
    found: Switches | None = None
    for record in living_processes(fleet, label):
        try:
            answer = ask(
                record.control, {"op": "session", "proxy": proxy, "history": history}, timeout=LIMIT
            )
        except NoAnswer:
            continue
        if not answer.get("ok"):
            raise CcproxyError(f"{label}: {answer.get('error')}")
        if found is None:
            found = Switches(
                proxy=bool(answer["proxy"]),
                history=bool(answer["history"]),
                goes_to=str(answer["goes_to"]),
            )
            # The others do the same, whatever they did before.
            proxy = None if proxy is None else "on" if found.proxy else "off"
    if found is None:
        raise NotRunning(f"{label} is not running\n  fix: ccproxy start {label}")
    return found

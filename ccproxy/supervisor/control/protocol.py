"""
The messages between the command line and the supervisor.

A command and a reply are one line of JSON each; progress lines may precede the reply.
Unknown fields are ignored and missing ones have defaults, because after an upgrade a new command
line talks to an old supervisor.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Literal, NoReturn

from ccproxy.errors import (
    Busy,
    CcproxyError,
    ConfigError,
    Mistake,
    NotReady,
    NotRunning,
    PortInUse,
    UsageError,
)
from ccproxy.ipc.codec import MessageError, decode, from_fields, parse_object
from ccproxy.ipc.control_messages import (
    DRAIN_SECONDS,
)
from ccproxy.supervisor.control.status import Row

Op = Literal["ping", "status", "start", "stop", "restart", "reload", "plan", "records", "leave"]

PlanSign = Literal["+", "~", "-", "="]
"""The action of a reload for an entry: start, replace, stop, none."""

ERRORS: Mapping[str, type[CcproxyError]] = {
    error.__name__: error
    for error in (CcproxyError, UsageError, NotRunning, PortInUse, Busy, NotReady)
}
"""The errors that are sent over the socket by name; `ConfigError` carries its mistakes instead."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlCommand:
    """One request to the supervisor."""

    op: Op
    labels: tuple[str, ...] = ()
    """In lowercase; empty for all."""
    timeout: float = 15.0
    """Seconds to wait for readiness."""
    drain: float = DRAIN_SECONDS
    """Seconds that running requests have to finish."""
    cwd: str | None = None
    """The user's folder; paths in mistakes are relative to it."""
    command: str = ""
    """The command line, shown to other commands that have to wait."""
    config: str = ""
    """The table that the command applies to; empty for the supervisor's own."""
    network: Mapping[str, str] | None = None
    """The proxy and certificate variables of the user's shell; None if unknown."""
    progress: bool = False
    """Whether to send progress lines."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """The progress of a running command."""

    labels: tuple[str, ...] = ()
    """Entries with a worker that is stopping."""
    in_flight: int = 0
    """Requests still running on those workers."""
    seconds_left: float = 0.0
    """Seconds until the remaining requests are cut off."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SupervisorInfo:
    """The supervisor process."""

    pid: int = 0
    uptime_s: float = 0.0
    version: str = ""
    build: str = ""
    """Hash of the source code that it runs."""
    in_front: bool = False
    """Whether it runs in the foreground (`ccproxy up`)."""
    trouble: str | None = None
    """A problem of the supervisor, as text for the user."""
    config: str = ""
    """The path of its table."""
    python: str = ""
    """The path of its interpreter."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedChange:
    """The action that a reload takes for one entry."""

    label: str
    change: PlanSign


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlReply:
    """The result of a command."""

    ok: bool = False
    proxies: tuple[Row, ...] = ()
    plan: tuple[PlannedChange, ...] = ()
    routing_changed: bool = False
    """Whether routes, fallback or presets of the table differ from the last start or reload."""
    notes: tuple[str, ...] = ()
    """Notes for the user that are not errors."""
    records: tuple[str, ...] = ()
    """The pid records of running workers."""
    kind: str = ""
    """The class name of the error if the command was refused; otherwise empty."""
    error: str | None = None
    mistakes: tuple[Mistake, ...] = ()
    supervisor: SupervisorInfo = field(default_factory=SupervisorInfo)
    ending: bool = False
    """Whether the supervisor is about to exit."""


def refusal(error: CcproxyError) -> ControlReply:
    """Return the reply for a command that failed with *error*."""
    if isinstance(error, ConfigError):
        return ControlReply(kind="ConfigError", error=str(error), mistakes=error.mistakes)
    kind = type(error).__name__
    return ControlReply(kind=kind if kind in ERRORS else "CcproxyError", error=str(error))


def raise_refusal(reply: ControlReply) -> NoReturn:
    """
    Raise the error that *reply* carries.

    Raises:
        CcproxyError: Or one of its subclasses, as the supervisor raised it.

    """
    if reply.kind == "ConfigError":
        raise ConfigError(reply.mistakes)
    raise ERRORS.get(reply.kind, CcproxyError)(reply.error or "the supervisor refused")


def encode_message(message: ControlCommand | ControlReply | Progress) -> bytes:
    """Return *message* as one line of JSON."""
    fields = asdict(message)
    if isinstance(message, Progress):
        fields = {"progress": fields}
    return json.dumps(fields, default=os.fspath).encode() + b"\n"


def decode_command(line: bytes) -> ControlCommand:
    """
    Read a command.

    Raises:
        UsageError: If it is invalid; the text names the field.

    """
    try:
        command = decode(ControlCommand, line)
    except MessageError as error:
        raise UsageError(f"not a command: {error}") from error
    if not (0 <= command.timeout < 1e7 and 0 <= command.drain < 1e7):
        raise UsageError("not a command: timeout and drain must be seconds, at least 0")
    return command


def decode_progress(line: bytes) -> Progress | None:
    """Return the progress in *line*, or None if it is not a progress line."""
    if not line.startswith(b'{"progress"'):
        return None
    try:
        return from_fields(Progress, parse_object(line)["progress"])
    except MessageError:
        return Progress()

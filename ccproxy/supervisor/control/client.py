"""
The client of the supervisor, for the command line. It imports as little as possible.

`fleet_status` only reads, and works without a supervisor or with one that hangs. `request` sends a
command and waits for its result, starting a supervisor if one is needed.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ccproxy import __version__
from ccproxy.build import installed_build
from ccproxy.config.fleet import Entry, Fleet
from ccproxy.errors import Busy, CcproxyError, NotRunning
from ccproxy.files import open_private
from ccproxy.ipc.codec import MessageError, decode
from ccproxy.ipc.control_messages import (
    DRAIN_SECONDS,
)
from ccproxy.ipc.socket_paths import runtime_path, socket_path
from ccproxy.log_rotation import APPEND, log_path
from ccproxy.supervisor.control.protocol import (
    ControlCommand,
    ControlReply,
    Op,
    Progress,
    SupervisorInfo,
    decode_progress,
    encode_message,
    raise_refusal,
)
from ccproxy.supervisor.control.status import Row
from ccproxy.supervisor.processes.child_environment import clean_environment, network_variables
from ccproxy.supervisor.processes.identity import start_of
from ccproxy.supervisor.sockets.unix_socket import (
    NoAnswer,
    exchange,
)
from ccproxy.supervisor.state.lock import Lock
from ccproxy.supervisor.state.records import WorkerRecord, read_supervisor
from ccproxy.text import counted

STATUS_LIMIT = 0.7
"""Seconds that a supervisor has to report the status before the workers are asked directly."""

START_LIMIT = 25.0
"""Seconds to wait for a supervisor that answers."""

EXTRA = 15.0
"""Seconds that a reply may take beyond the time limits in its command."""

RECOVERY = 4.0
"""Seconds that a running supervisor has to restore its lock and its socket."""

_POLL = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetStatus:
    """The status of a fleet."""

    config: str
    supervisor: SupervisorInfo | None
    """None if no supervisor answers."""
    proxies: tuple[Row, ...]
    note: str = ""
    """The supervisor's problem; empty if it has none or is not running."""

    def as_json(self) -> dict[str, Any]:
        """Return the content of `status --json`."""
        return {
            "schema": 1,
            "config": self.config,
            "supervisor": asdict(self.supervisor) if self.supervisor else None,
            "proxies": [row.as_json() for row in self.proxies],
            "note": self.note or None,
        }


# Status.


def fleet_status(fleet: Fleet) -> FleetStatus:
    """Return the status of *fleet* within about a second; nothing is started or changed."""
    command = ControlCommand(op="status", config=str(fleet.file))
    try:
        reply = _ask(fleet, command, timeout=STATUS_LIMIT)
    except NoAnswer:
        return _offline_status(fleet)
    rows: Iterable[Row] = reply.proxies
    note = reply.supervisor.trouble or ""
    if reply.kind:  # another table in the same folder
        rows, note = (), str(reply.error)
    proxies = tuple(_in_table_order(fleet, rows))
    return FleetStatus(
        config=str(fleet.file), supervisor=reply.supervisor, proxies=proxies, note=note
    )


def running_records(fleet: Fleet) -> list[WorkerRecord]:
    """Return the supervisor's records of running workers; empty if it does not answer."""
    try:
        reply = _ask(fleet, ControlCommand(op="records"), timeout=STATUS_LIMIT)
        records = [WorkerRecord.from_json(text) for text in reply.records]
    except (NoAnswer, ValueError):
        return []
    return [record for record in records if record.identity.is_alive()]


def _offline_status(fleet: Fleet) -> FleetStatus:
    # Slow to import, and only needed if no supervisor answers.
    from ccproxy.supervisor.control.offline_status import offline_rows, supervisor_pid

    rows = offline_rows(fleet)
    workers = counted(sum(row.state in ("ready", "degraded") for row in rows), "worker")
    note = ""
    if pid := supervisor_pid(fleet):
        note = f"supervisor (pid {pid}) does not answer, {workers} serving"
    elif not workers.startswith("0 "):
        note = f"supervisor down, {workers} serving; fix: ccproxy start"
    proxies = tuple(_in_table_order(fleet, rows))
    return FleetStatus(config=str(fleet.file), supervisor=None, proxies=proxies, note=note)


def _in_table_order(fleet: Fleet, rows: Iterable[Row]) -> Iterable[Row]:
    others = {row.label.lower(): row for row in rows}
    for entry in fleet.entries:
        row = others.pop(entry.label.lower(), None)
        yield _stopped_row(fleet, entry) if row is None else row
    yield from others.values()


def _stopped_row(fleet: Fleet, entry: Entry) -> Row:
    log = str(log_path(fleet.logs, entry.label))
    return Row(label=entry.label, port=entry.port, state="stopped", log=log)


# Commands.


def request(
    fleet: Fleet,
    op: Op,
    *,
    labels: Sequence[str] = (),
    timeout: float = 15.0,
    drain: float = DRAIN_SECONDS,
    environ: Mapping[str, str] | None = None,
    on_progress: Callable[[Progress], None] | None = None,
) -> ControlReply:
    """
    Request `start`, `stop`, `restart`, `reload` or `plan`, and wait for the result.

    A supervisor is started for `start`, and for the others if workers run without one. The proxy
    and certificate variables of *environ* (this process's environment by default) are passed on.
    *on_progress* is called about once a second while workers are stopping.

    Raises:
        NotRunning: If nothing is running that could be stopped, restarted or reloaded.
        Busy: If another command takes too long.
        ConfigError: If the user's files have mistakes; nothing is changed.
        CcproxyError: If the supervisor refuses for another reason.

    """
    if op != "start" and not _ping(fleet) and not fleet_status(fleet).note:
        raise NotRunning("nothing is running\n  fix: ccproxy start")
    command = ControlCommand(
        op=op,
        labels=tuple(label.lower() for label in labels),
        timeout=timeout,
        drain=drain,
        cwd=_current_folder(),
        command=" ".join(["ccproxy", op, *labels]) + f" (pid {os.getpid()})",
        config=str(fleet.file),
        network=network_variables(os.environ if environ is None else environ),
        progress=on_progress is not None,
    )
    if op != "stop":
        _replace_broken_supervisor(fleet)
    reply = _ask_until_answered(fleet, command, on_progress)
    if reply.ending:
        wait_until_gone(reply.supervisor)
    elif op == "reload" and reply.ok:
        _replace_old_supervisor(fleet, reply.supervisor)
    if reply.kind:
        raise_refusal(reply)
    return reply


def _ask_until_answered(
    fleet: Fleet, command: ControlCommand, on_progress: Callable[[Progress], None] | None
) -> ControlReply:
    """Send *command* to the supervisor, or to the next one if this one is exiting."""
    deadline = time.monotonic() + START_LIMIT
    timeout = command.timeout + command.drain + START_LIMIT + EXTRA
    while True:
        # A supervisor that is exiting still accepts a stop, but no start.
        if command.op == "start" or not _ping(fleet):
            seconds = deadline - time.monotonic()
            ensure_supervisor(fleet, command=f"ccproxy {command.op}", timeout=seconds)
        try:
            reply = _ask(fleet, command, timeout=timeout, on_progress=on_progress)
        except NoAnswer as error:
            if time.monotonic() >= deadline:
                raise NotRunning(f"the supervisor did not answer: {error}") from error
        else:
            is_too_late = command.op == "start" and reply.kind == "Busy" and reply.ending
            if not is_too_late or time.monotonic() >= deadline:
                return reply
        time.sleep(_POLL)


def _replace_old_supervisor(fleet: Fleet, info: SupervisorInfo) -> None:
    """Replace a supervisor that runs a different version or build; workers keep running."""
    is_current = (info.version, info.build) == (__version__, installed_build())
    if not is_current and not info.in_front:
        _replace(fleet, info)


def _replace_broken_supervisor(fleet: Fleet) -> None:
    """Replace a supervisor whose Python environment was deleted: it cannot start processes."""
    info = _ping(fleet)
    if info is None or not info.supervisor.python or info.supervisor.in_front:
        return
    if not Path(info.supervisor.python).exists():
        _replace(fleet, info.supervisor)


def _replace(fleet: Fleet, info: SupervisorInfo) -> None:
    try:
        _ask(fleet, ControlCommand(op="leave"), timeout=START_LIMIT)
    except NoAnswer:
        return
    wait_until_gone(info)
    ensure_supervisor(fleet, command="ccproxy reload")


def ensure_supervisor(
    fleet: Fleet,
    *,
    command: str = "ccproxy start",
    timeout: float = START_LIMIT,
    worker_command: Sequence[str] = (),
) -> None:
    """
    Wait until a supervisor of *fleet* answers; start one if there is none.

    Raises:
        Busy: If a process holds the lock for longer than *timeout* seconds without answering.
        CcproxyError: If the supervisor does not start.

    """
    deadline = time.monotonic() + timeout
    wait_for_recovery(fleet, timeout=min(timeout, RECOVERY))
    while not _is_serving(fleet):
        try:
            with Lock(fleet, command=command) as lock:
                _spawn(fleet, lock, worker_command)
                return
        except Busy:
            if time.monotonic() >= deadline:
                raise
            time.sleep(_POLL)


def wait_for_recovery(fleet: Fleet, *, timeout: float = RECOVERY) -> None:
    """
    Wait while a supervisor is running but does not answer, as after `rm -rf state`.

    Its lock is free then, but a second supervisor would start every worker twice.
    """
    deadline = time.monotonic() + timeout
    while not _is_serving(fleet) and time.monotonic() < deadline:
        from ccproxy.supervisor.control.offline_status import supervisor_pid  # slow to import

        if supervisor_pid(fleet) is None:
            return
        time.sleep(_POLL)


def _spawn(fleet: Fleet, lock: Lock, worker_command: Sequence[str]) -> None:
    """Start a supervisor that inherits the lock and a clean environment; wait until it serves."""
    ready, theirs = os.pipe()
    command = [sys.executable, "-P", "-m", "ccproxy.supervisor", "--detach"]
    command += ["--config", str(fleet.file), "--lock-fd", str(lock.fd), "--ready-fd", str(theirs)]
    if worker_command:
        command += ["--worker-command", *worker_command]
    out = fleet.logs / "supervisor.out"
    out.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with os.fdopen(open_private(out, APPEND), "wb") as crash_file:
        crash_file.truncate(0)
        try:
            subprocess.run(  # noqa: S603 - our own program
                command,
                check=False,
                cwd=fleet.home,
                env=clean_environment(),
                stdin=subprocess.DEVNULL,
                stdout=crash_file,
                stderr=crash_file,
                pass_fds=(lock.fd, theirs),
                start_new_session=True,
                umask=0o077,
            )
        finally:
            os.close(theirs)
    with os.fdopen(ready, "rb") as pipe:
        if not pipe.readline():
            raise CcproxyError(_start_failure(out))


def _start_failure(out: Path) -> str:
    """Return why a supervisor did not start, according to its output."""
    text = out.read_text(errors="replace").strip()
    message = text.rpartition("error: ")[2] if "error: " in text else text.rpartition("\n")[2]
    return f"the supervisor did not start: {message or 'no output'}\n  see {out}"


def _ping(fleet: Fleet) -> ControlReply | None:
    """Return the supervisor's reply (not `ok` if it is exiting), or None if none answers."""
    try:
        return _ask(fleet, ControlCommand(op="ping"), timeout=1.0)
    except NoAnswer:
        return None


def _is_serving(fleet: Fleet) -> bool:
    reply = _ping(fleet)
    return reply is not None and reply.ok


def wait_until_gone(info: SupervisorInfo) -> None:
    """Wait briefly for a supervisor to exit, because the next start needs its lock."""
    deadline = time.monotonic() + 2.0
    while start_of(info.pid) is not None and time.monotonic() < deadline:
        time.sleep(_POLL)


def _ask(
    fleet: Fleet,
    command: ControlCommand,
    *,
    timeout: float,
    on_progress: Callable[[Progress], None] | None = None,
) -> ControlReply:
    def is_last(line: bytes) -> bool:
        progress = decode_progress(line)
        if progress is not None and on_progress is not None:
            on_progress(progress)
        return progress is None

    path = _control_socket(fleet)
    answer = exchange(path, encode_message(command), timeout=timeout, is_last=is_last)
    try:
        return decode(ControlReply, answer.line)
    except MessageError as error:
        raise NoAnswer(f"{path}: {error}") from error


def _control_socket(fleet: Fleet) -> Path:
    """Return the supervisor's socket path, from its record if it is not in the usual place."""
    record = read_supervisor(fleet.pids)
    paths = [Path(record.control)] if record is not None and record.control else []
    usual = socket_path(fleet.home)
    paths += [usual, runtime_path(fleet.home, "supervisor.sock")]
    return next((path for path in paths if path.is_socket()), usual)


def _current_folder() -> str | None:
    try:
        return str(Path.cwd())
    except OSError:  # it was deleted
        return None

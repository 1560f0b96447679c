"""
The other end of the supervisor, for the CLI. Imports no more than it must.

`fleet_status` only looks, and finds out the truth also where there is no supervisor, or one that
hangs. `request` has things done, and starts a supervisor where there is none and one is needed.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ccproxy import __version__, errors
from ccproxy.build import installed_build
from ccproxy.config.fleet import Entry, Fleet
from ccproxy.errors import Busy, CcproxyError, ConfigError, NotRunning
from ccproxy.files import open_private
from ccproxy.logs import APPEND, log_path
from ccproxy.supervisor.control.row import Row
from ccproxy.supervisor.processes.child_environment import clean_environment
from ccproxy.supervisor.processes.identity import start_of
from ccproxy.supervisor.sockets.unix_socket import NoAnswer, ask, socket_path
from ccproxy.supervisor.state.lock import Lock
from ccproxy.supervisor.state.records import WorkerRecord, read_supervisor

LOOK_LIMIT = 0.7
"""Seconds that a supervisor may take to tell the state before we look ourselves."""

START_LIMIT = 25.0
"""Seconds to get a supervisor that answers."""

BEYOND = 15.0
"""Seconds that an answer may take longer than what was asked for."""

RECOVERY = 4.0
"""Seconds that a living supervisor gets to make its lock and its socket anew."""

_POLL = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetStatus:
    """How a fleet is doing."""

    config: str
    supervisor: dict[str, Any] | None
    """Its pid, uptime_s and version; None if there is none that answers."""
    proxies: tuple[Row, ...]
    note: str = ""
    """What is wrong with the supervisor; empty if nothing is, or nothing runs."""

    def as_json(self) -> dict[str, Any]:
        """Return `status --json`."""
        return {
            "schema": 1,
            "config": self.config,
            "supervisor": self.supervisor,
            "proxies": [row.as_json() for row in self.proxies],
            "note": self.note or None,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What came of a request."""

    ok: bool
    proxies: tuple[Row, ...] = ()
    plan: tuple[tuple[str, str], ...] = field(default=())
    """What a reload does: labels with `+`, `~`, `-` or `=`."""
    error: str = ""


# Looking...


def fleet_status(fleet: Fleet) -> FleetStatus:
    """Look how *fleet* is doing, within about a second; nothing is started or changed."""
    note = ""
    try:
        answer = ask(_socket(fleet), {"op": "status"}, timeout=LOOK_LIMIT)
        rows = [Row.from_json(row) for row in answer["proxies"]]
        supervisor: dict[str, Any] | None = answer["supervisor"]
        note = str(answer["supervisor"].get("trouble") or "")
    except (NoAnswer, KeyError, TypeError):
        # Costs more to import, and is only needed where no supervisor answers.
        from ccproxy.supervisor.control.offline_status import supervisor_pid, survey

        rows, supervisor = survey(fleet), None
        serving = sum(row.state in ("ready", "degraded") for row in rows)
        if pid := supervisor_pid(fleet):
            note = f"supervisor (pid {pid}) does not answer, {_workers(serving)} serving"
        elif serving:
            note = f"supervisor down, {_workers(serving)} serving; fix: ccproxy start"
    proxies = tuple(_in_table_order(fleet, rows))
    return FleetStatus(config=str(fleet.file), supervisor=supervisor, proxies=proxies, note=note)


def known_records(fleet: Fleet) -> list[WorkerRecord]:
    """Ask the supervisor for the records of its workers; empty if it does not answer."""
    try:
        answer = ask(_socket(fleet), {"op": "records"}, timeout=LOOK_LIMIT)
        return [WorkerRecord.from_json(text) for text in answer.get("records", ())]
    except (NoAnswer, ValueError):
        return []


def _in_table_order(fleet: Fleet, rows: Iterable[Row]) -> Iterable[Row]:
    left = {row.label.lower(): row for row in rows}
    for entry in fleet.entries:
        row = left.pop(entry.label.lower(), None)
        yield _stopped(fleet, entry) if row is None else row
    yield from left.values()


def _stopped(fleet: Fleet, entry: Entry) -> Row:
    log = str(log_path(fleet.logs, entry.label))
    return Row(label=entry.label, port=entry.port, host="127.0.0.1", state="stopped", log=log)


def _workers(count: int) -> str:
    return "1 worker" if count == 1 else f"{count} workers"


# ...and having things done.


def request(
    fleet: Fleet,
    op: str,
    *,
    labels: Sequence[str] = (),
    timeout: float = 15.0,
    drain: float = 30.0,
) -> Answer:
    """
    Have `start`, `stop`, `restart`, `reload` or `plan` done, and wait for its end.

    A supervisor is started for `start`, and for the others if workers run without one.

    Raises:
        NotRunning: If nothing runs that could be stopped, restarted or reloaded.
        Busy: If another command is in the way for too long.
        ConfigError: If the user's files are wrong; nothing was changed then.
        CcproxyError: Whatever else the supervisor says no with.

    """
    if op != "start" and not _ping(fleet) and not fleet_status(fleet).note:
        raise NotRunning("nothing is running\n  fix: ccproxy start")
    asked = {
        "op": op,
        "labels": list(labels),
        "timeout": timeout,
        "drain": drain,
        "cwd": str(Path.cwd()),
        "command": " ".join(["ccproxy", op, *labels]) + f" (pid {os.getpid()})",
    }
    answer = _ask_until_answered(fleet, asked, patience=timeout + drain + START_LIMIT + BEYOND)
    about = answer.get("supervisor") or {}
    if answer.get("ending"):
        _wait_until_gone(fleet, about)
    elif op == "reload" and answer.get("ok"):
        _renew_supervisor(fleet, about)
    return _read(answer)


def _ask_until_answered(fleet: Fleet, asked: dict[str, Any], *, patience: float) -> dict[str, Any]:
    """Ask the supervisor, or the next one if this one is going away; start it if need be."""
    op = asked["op"]
    until = time.monotonic() + START_LIMIT
    while True:
        # A supervisor on its way out can still be told to hurry, but not to start anything.
        if op == "start" or not _ping(fleet):
            ensure_supervisor(fleet, command=f"ccproxy {op}", patience=until - time.monotonic())
        try:
            answer = ask(_socket(fleet), asked, timeout=patience)
            too_late = op == "start" and answer.get("kind") == "Busy" and answer.get("ending")
        except NoAnswer as error:
            if time.monotonic() >= until:
                raise NotRunning(f"the supervisor has gone away: {error}") from error
            answer, too_late = {}, True
        if not too_late or (answer and time.monotonic() >= until):
            return answer
        time.sleep(_POLL)


def _renew_supervisor(fleet: Fleet, about: dict[str, Any]) -> None:
    """After an upgrade, put a supervisor of our version in the old one's place; workers go on."""
    is_ours = (about.get("version"), about.get("build")) == (__version__, installed_build())
    if is_ours or about.get("in_front"):
        return
    try:
        ask(_socket(fleet), {"op": "leave"}, timeout=START_LIMIT)
    except NoAnswer:
        return
    _wait_until_gone(fleet, about)
    ensure_supervisor(fleet, command="ccproxy reload")


def ensure_supervisor(
    fleet: Fleet,
    *,
    command: str = "ccproxy start",
    patience: float = START_LIMIT,
    worker_command: Sequence[str] = (),
) -> None:
    """
    Return when a supervisor of *fleet* answers; start one if there is none.

    Raises:
        Busy: If somebody holds the lock for longer than *patience* seconds without answering.
        CcproxyError: If the supervisor does not start.

    """
    until = time.monotonic() + patience
    let_recover(fleet, patience=min(patience, RECOVERY))
    while not _ping(fleet).get("ok"):
        try:
            with Lock(fleet, command=command) as lock:
                _spawn(fleet, lock, worker_command)
                return
        except Busy:
            if time.monotonic() >= until:
                raise
            time.sleep(_POLL)


def let_recover(fleet: Fleet, *, patience: float = RECOVERY) -> None:
    """
    Wait while a supervisor lives that does not answer, as after `rm -rf state`.

    Its lock is free then, but two supervisors would start every worker twice.
    """
    until = time.monotonic() + patience
    while not _ping(fleet).get("ok") and time.monotonic() < until:
        from ccproxy.supervisor.control.offline_status import supervisor_pid  # as above

        if supervisor_pid(fleet) is None:
            return
        time.sleep(_POLL)


def _spawn(fleet: Fleet, lock: Lock, worker_command: Sequence[str]) -> None:
    """Start a supervisor that has nothing of this shell but the lock; wait until it serves."""
    ready, told = os.pipe()
    command = [sys.executable, "-P", "-m", "ccproxy.supervisor", "--detach"]
    command += ["--config", str(fleet.file), "--lock-fd", str(lock.fd), "--ready-fd", str(told)]
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
                pass_fds=(lock.fd, told),
                start_new_session=True,
                umask=0o077,
            )
        finally:
            os.close(told)
    with os.fdopen(ready, "rb") as pipe:
        if not pipe.readline():
            words = out.read_text(errors="replace").strip().splitlines()
            last = words[-1] if words else "it ended without a word"
            raise CcproxyError(f"the supervisor did not start: {last}\n  see {out}")


def _ping(fleet: Fleet) -> dict[str, Any]:
    """Return what a supervisor says (not `ok` on its way out); nothing if there is none."""
    try:
        return ask(_socket(fleet), {"op": "ping"}, timeout=1.0)
    except NoAnswer:
        return {}


def _wait_until_gone(fleet: Fleet, about: dict[str, Any]) -> None:
    """Wait a moment for an ending supervisor: the next start needs its lock, a user its end."""
    until = time.monotonic() + 2.0
    while time.monotonic() < until:
        with contextlib.suppress(Busy), Lock(fleet, command="ccproxy"):
            if start_of(int(about.get("pid", 0))) is None:
                return
        time.sleep(_POLL)


def _socket(fleet: Fleet) -> Path:
    """Return the supervisor's socket; it may have been started with another environment."""
    record = read_supervisor(fleet.pids)
    path = Path(str(record["control"])) if record and "control" in record else None
    return path if path is not None and path.is_socket() else socket_path(fleet.home)


def _read(answer: dict[str, Any]) -> Answer:
    if kind := answer.get("kind"):
        from ccproxy.supervisor.control.config_mistakes import mistakes_from_json

        text = str(answer.get("error"))
        if kind == "ConfigError":
            raise ConfigError(mistakes_from_json(answer.get("mistakes", ())))
        known = getattr(errors, str(kind), CcproxyError)
        raise known(text)
    return Answer(
        ok=bool(answer.get("ok")),
        proxies=tuple(Row.from_json(row) for row in answer.get("proxies", ())),
        plan=tuple((row["label"], row["change"]) for row in answer.get("plan", ())),
        error=str(answer.get("error") or ""),
    )

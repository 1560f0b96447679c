"""
The worker's control socket: one request and one reply per connection.

The messages are in `ccproxy/ipc/control_messages.py`. The socket file has mode 0600, so only
processes of the same user reach it. It answers until the worker exits, even during a drain: a new
supervisor takes over running workers through it.
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Coroutine, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from ccproxy import __version__
from ccproxy.build import installed_build
from ccproxy.files import errors_about
from ccproxy.ipc.activity import encode_line
from ccproxy.ipc.codec import MessageError
from ccproxy.ipc.control_messages import (
    ClientSessionRequest,
    Done,
    DrainRequest,
    ForgetRequest,
    InspectRequest,
    KeysRequest,
    ListenerRequest,
    ModelsRequest,
    OfferedModels,
    PoolSharing,
    ProbeRequest,
    Refusal,
    ReplayRequest,
    Reply,
    Request,
    RequestsRequest,
    RetiringModel,
    SessionRequest,
    WatchRequest,
    WorkerState,
    decode_request,
)
from ccproxy.log_rotation import LogFile
from ccproxy.routing.retirement import NOTICE_DAYS, retirements
from ccproxy.store.recordings import find_recording
from ccproxy.worker.accounting.account_rows import account_rows
from ccproxy.worker.key_report import answer_keys, faulty_key, key_counts, key_rows, reason
from ccproxy.worker.lifecycle import Lifecycle
from ccproxy.worker.session_report import client_session_state
from ccproxy.worker.upstream.auxiliary_request import AuxiliaryRequestError
from ccproxy.worker.upstream.model_list import offered_models
from ccproxy.worker.worker import Worker

_BUILD = installed_build()
"""Computed at import: an upgrade may replace the files while the process runs."""

IO_SECONDS = 5.0
"""Time limit for reading a request and for writing a reply."""
ACCEPT_RETRY_SECONDS = 0.1
FILE_CHECK_SECONDS = 1.0
"""Interval between checks that the socket's file still exists."""
MAX_LINE = 64 * 1024
MAX_DRAIN_SECONDS = 86400
MANY_CONNECTIONS = 0.9
"""Share of MAX_CONNECTIONS at which `status` warns."""


class ControlSocket:
    """Listens at *path* and answers requests about *worker*."""

    def __init__(
        self,
        path: Path,
        worker: Worker,
        lifecycle: Lifecycle,
        *,
        nonce: str,
        log_file: LogFile | None = None,
        file_check_seconds: float = FILE_CHECK_SECONDS,
    ) -> None:
        self._path = path
        self._worker = worker
        self._lifecycle = lifecycle
        self._nonce = nonce
        self._log_file = log_file
        self._file_check_seconds = file_check_seconds
        self._tasks: set[asyncio.Task[None]] = set()

    def open(self) -> None:
        """Bind the socket, replacing the file of a dead worker, and start answering."""
        self._bind()
        self._start(self._restore_file())

    def close(self) -> None:
        """Stop answering and remove the socket."""
        for task in self._tasks:
            task.cancel()
        self._socket.close()
        with suppress(OSError):  # the folder has become read-only
            self._path.unlink(missing_ok=True)

    def _bind(self) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        old_mask = os.umask(0o177)
        try:
            with errors_about(self._path):
                self._path.unlink(missing_ok=True)
                self._socket.bind(str(self._path))
        finally:
            os.umask(old_mask)
        self._socket.listen()
        self._socket.setblocking(False)
        self._accepting = self._start(self._accept())

    async def _restore_file(self) -> None:
        """Bind again whenever the file is removed, because commands need it to reach the worker."""
        while True:
            await asyncio.sleep(self._file_check_seconds)
            if self._path.exists():
                continue
            self._accepting.cancel()
            await asyncio.wait({self._accepting})
            self._socket.close()
            with suppress(OSError):  # a full disk or missing permission; the next check tries again
                self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                self._bind()

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, _ = await loop.sock_accept(self._socket)
            except OSError:  # out of file descriptors: the connection stays in the backlog
                await asyncio.sleep(ACCEPT_RETRY_SECONDS)
                continue
            self._start(self._serve(connection))

    async def _serve(self, connection: socket.socket) -> None:
        with connection, suppress(OSError, TimeoutError):
            connection.setblocking(False)
            async with asyncio.timeout(IO_SECONDS):
                line = await _read_line(connection)
            data, fds = await self._answer(line, connection)
            if fds:
                # The reply fits into any socket buffer, so sending neither blocks nor truncates it.
                socket.send_fds(connection, [data], fds)
                return
            async with asyncio.timeout(IO_SECONDS):
                await asyncio.get_running_loop().sock_sendall(connection, data)

    async def _answer(self, line: bytes, connection: socket.socket) -> tuple[bytes, list[int]]:
        """Return the reply and its file descriptors; send events to a watcher directly."""
        try:
            request = decode_request(line)
        except MessageError as error:
            return encode_line(Refusal(error=str(error))), []
        activity = self._worker.activity
        match request:
            case WatchRequest(since=since):
                await activity.feed.serve(connection, first=activity.first_events(since))
                return b"", []
            case RequestsRequest():
                return encode_line(activity.requests(request)), []
            case ListenerRequest():
                reply, fds = self._listener()
                return encode_line(reply), fds
        return encode_line(await self._reply(request)), []

    async def _reply(self, request: Request) -> Reply:
        try:
            return await self._reply_to(request)
        except Exception:  # noqa: BLE001 - without a reply, the worker would seem to hang
            self._worker.logs.events.exception("control.failed", request=type(request).__name__)
            return Refusal(error="internal error in ccproxy; see this worker's log")

    async def _reply_to(self, request: Request) -> Reply:
        match request:
            case KeysRequest():
                return await answer_keys(self._worker, request)
            case SessionRequest():
                return await self._worker.session.change(request)
            case ForgetRequest():
                return await self._forget()
            case ClientSessionRequest():
                return await client_session_state(self._worker, request)
            case InspectRequest(id=request_id):
                result = self._worker.session.inspector.exchange(request_id)
                return result or Refusal(
                    error="no bodies of this request: they are kept only while INSPECT is on"
                )
            case ModelsRequest():
                return await self._offered_models()
            case ReplayRequest(id=recording_id):
                return await self._replay(recording_id)
            case ProbeRequest(model=model, most=most, overflow=overflow):
                from ccproxy.worker.probing.probe import probe  # rarely needed

                return await probe(self._worker, model, most=most, overflow=overflow)
            case DrainRequest():
                return self._drain(request.seconds)
            case _:
                return self._state()

    def _state(self) -> WorkerState:
        worker = self._worker
        session = worker.session
        session.switches.catch_up()
        keys, tiers = worker.pool.snapshot(), worker.chooser.tiers()
        troubles = (reason(worker, keys), self._log_trouble(), self._connections_trouble())
        shared = worker.shared_pool
        pool = None if shared is None else shared.sharing()
        reasons = filter(None, (*troubles, _pool_trouble(pool)))
        return WorkerState(
            pid=os.getpid(),
            nonce=self._nonce,
            label=worker.config.label,
            port=worker.config.port,
            state="draining" if worker.requests.draining else "ready",
            in_flight=len(worker.requests.tasks),
            keys=key_counts(keys),
            reason="; ".join(reasons) or None,
            faulty_key=faulty_key(keys),
            connections=len(self._lifecycle.http.connections),
            max_connections=self._lifecycle.http.max_connections,
            log_dropped_total=self._log_file.dropped_total if self._log_file else 0,
            models=tiers,
            retiring=_retiring(worker, tiers.values()),
            switched=worker.chooser.switch.name,
            passes_to=session.bypass.url if session.bypass.is_active else "",
            keeps_history=session.history.is_on,
            inspects=session.inspector.inspects,
            inspects_s=round(session.inspector.inspects_for),
            accounts=account_rows(keys),
            budgets=(*worker.payers.rows(), *worker.payers.user_rows()),
            base_url=worker.config.base_url,
            started=worker.started,
            version=__version__,
            build=_BUILD,
            traffic=worker.activity.traffic.report(),
            key_rows=key_rows(worker, keys),
            pool=pool,
        )

    async def _offered_models(self) -> Reply:
        config = self._worker.config
        if not config.api_keys:
            return Refusal(error="this proxy has no key of its own: it passes on the client's key")
        try:
            names = await offered_models(config, config.api_keys[0])
        except AuxiliaryRequestError as error:
            return Refusal(error=f"the list of models is unavailable: {error}")
        return OfferedModels(names=tuple(names))

    async def _replay(self, recording_id: str) -> Reply:
        from ccproxy.worker.admin.replay import replay  # rarely needed

        worker = self._worker
        try:
            recording = find_recording(worker.session.recorder.state, recording_id)
            if recording is None:
                return Refusal(error=f"there is no recording {recording_id}")
            return await asyncio.to_thread(replay, recording, worker)
        except (OSError, ValueError) as error:
            return Refusal(error=f"the recording cannot be read: {error}")

    async def _forget(self) -> Reply:
        worker = self._worker
        worker.rules.learned.forget()
        worker.logs.events.info("refusals.forgotten")
        unsaved = "" if worker.keeper is None else await worker.keeper.save_now()
        return Refusal(error=f"not saved: {unsaved}") if unsaved else Done()

    def _connections_trouble(self) -> str:
        # Idle connections do not count: they are closed when a new one needs room.
        busy, limit = len(self._worker.requests.tasks), self._lifecycle.http.max_connections
        if busy < MANY_CONNECTIONS * limit:
            return ""
        return f"{busy} of {limit} client connections are busy (MAX_CONNECTIONS)"

    def _log_trouble(self) -> str:
        file = self._log_file
        if file is None or not file.trouble:
            return ""
        # The disk may have room again, but only another write can show that.
        self._worker.logs.events.warning("log.retried")
        if not file.trouble:
            return ""
        return f"{file.trouble} ({file.dropped_total} log lines lost)"

    def _drain(self, seconds: float) -> Reply:
        if not 0 <= seconds <= MAX_DRAIN_SECONDS:  # also refuses NaN
            return Refusal(error=f"seconds must be from 0 to {MAX_DRAIN_SECONDS}")
        self._lifecycle.drain(float(seconds))
        return Done()

    def _listener(self) -> tuple[Reply, list[int]]:
        if self._worker.requests.draining:
            return Refusal(error="the worker is draining and has closed its listening socket"), []
        return Done(), [self._lifecycle.listener.fileno()]

    def _start(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


def _pool_trouble(pool: PoolSharing | None) -> str:
    if pool is None or pool.mode == "shared":
        return ""
    return f"working without Redis, within this replica's share of the limits: {pool.reason}"


async def _read_line(connection: socket.socket) -> bytes:
    loop = asyncio.get_running_loop()
    line = b""
    while b"\n" not in line and len(line) < MAX_LINE:
        data = await loop.sock_recv(connection, 4096)
        if not data:
            break
        line += data
    return line.partition(b"\n")[0]


def _retiring(worker: Worker, models: Iterable[str | None]) -> tuple[RetiringModel, ...]:
    """Return the *models* that are retired or soon will be."""
    until = time.strftime("%Y-%m-%d", time.gmtime(time.time() + NOTICE_DAYS * 86400))
    result = retirements(filter(None, models), worker.config.models.card, until=until)
    return tuple(RetiringModel(**each._asdict()) for each in result)

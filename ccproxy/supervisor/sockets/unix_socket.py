"""
Control sockets: blocking requests for the command line and for threads.

A request and a reply are one line of JSON each; the supervisor may send progress lines before the
reply. A socket has mode 0600 in a folder of mode 0700, and nothing is sent to a process of
another user.
"""

from __future__ import annotations

import errno
import os
import socket
import stat
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, TypeVar

from ccproxy.ipc.codec import MessageError, from_fields, parse_object
from ccproxy.ipc.control_messages import (
    ListenerRequest,
    Refusal,
    Request,
    StateRequest,
    WorkerState,
    encode,
)
from ccproxy.supervisor.processes.identity import (
    command_line,
    command_lines_of_this_user,
    option_of,
)
from ccproxy.supervisor.sockets.peer_credentials import Peer, trusted_peer
from ccproxy.supervisor.state.records import WorkerRecord

MAX_LINE = 4 * 2**20
"""Maximum bytes of one request or reply."""

UNSUPPORTED = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL}
"""Error numbers of file systems without sockets (vfat, some FUSE and network file systems)."""

T = TypeVar("T")


class NoAnswer(Exception):
    """No process listens on a socket, or its reply is not the expected one."""


class AnswerTimeout(NoAnswer):
    """A process listens on the socket but has not replied in time."""


class WorkerRefused(Exception):
    """A worker refused a request; the text is for the user."""


class FolderWithoutModes(OSError):
    """The file system does not store the permission bits that protect a socket."""


# Announced sockets and their folder.


class AnnouncedSocket(NamedTuple):
    """The control socket named in a running worker's arguments; the file may be missing."""

    label: str
    pid: int
    path: Path


def announced_sockets(home: Path) -> list[AnnouncedSocket]:
    """Return the control sockets named in the arguments of this fleet's running workers."""
    sockets = []
    for pid, arguments in command_lines_of_this_user():
        control = option_of(arguments, "--control")
        if control is not None and option_of(arguments, "--home") == str(home):
            label = option_of(arguments, "--label") or ""
            sockets.append(AnnouncedSocket(label, pid, Path(control)))
    return sockets


def prepare_folder(path: Path) -> None:
    """
    Create the folder of the socket *path*, and check that only this user can write to it.

    Raises:
        FolderWithoutModes: If the file system does not store permission bits.
        PermissionError: If another user could have placed a file there.

    """
    folder = path.parent
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid not in (os.getuid(), 0):
        raise PermissionError(f"{folder} belongs to another user")
    if status.st_mode & 0o022 == 0:
        return
    if not _keeps_modes(folder):
        raise FolderWithoutModes(
            errno.ENOTSUP, "the file system does not store permissions", str(folder)
        )
    raise PermissionError(f"{folder} can be written by others: chmod 700 {folder}")


def _keeps_modes(folder: Path) -> bool:
    import tempfile  # slow to import, and only needed here

    try:
        with tempfile.NamedTemporaryFile(dir=folder) as probe:
            os.fchmod(probe.fileno(), 0o600)
            return os.fstat(probe.fileno()).st_mode & 0o077 == 0
    except OSError:
        return False


# Blocking requests.


def ask_worker(path: Path | str, request: Request, kind: type[T], *, timeout: float) -> T:
    """
    Send one request to a worker and return its reply.

    Raises:
        WorkerRefused: If the worker refuses the request.
        AnswerTimeout: If the worker does not reply within *timeout* seconds.
        NoAnswer: If no worker listens, or the reply is not of *kind*.

    """
    return decode_reply(kind, exchange(path, encode(request), timeout=timeout).line, path)


@dataclass(frozen=True, slots=True)
class RunningWorker:
    """A running worker of this fleet."""

    record: WorkerRecord
    state: WorkerState | None
    """None if the worker does not answer, because it hangs or is not ready yet."""

    @property
    def is_ready(self) -> bool:
        """Whether it accepts connections."""
        return self.state is not None and self.state.state != "draining"

    @property
    def start(self) -> float:
        """When the process was started, as in `Identity`."""
        return self.record.identity.start


def worker_of(record: WorkerRecord, *, timeout: float) -> RunningWorker | None:
    """Return the worker that *record* describes, or None if the process is not that worker."""
    try:
        state = ask_worker(record.control, StateRequest(), WorkerState, timeout=timeout)
    except (NoAnswer, WorkerRefused):
        is_ours = record.nonce in command_line(record.identity.pid)
        return RunningWorker(record, None) if is_ours else None
    return RunningWorker(record, state) if state.nonce == record.nonce else None


def state_and_peer(path: Path | str, *, timeout: float) -> tuple[WorkerState, Peer]:
    """Return a worker's state and the process that sent it, or raise NoAnswer."""
    reply = exchange(path, encode(StateRequest()), timeout=timeout)
    try:
        return decode_reply(WorkerState, reply.line, path), reply.peer
    except WorkerRefused as error:
        raise NoAnswer(f"{path}: {error}") from error


def take_listener(path: Path | str, *, timeout: float) -> socket.socket:
    """Return a duplicate of a worker's listening socket, or raise NoAnswer."""
    reply = exchange(path, encode(ListenerRequest()), timeout=timeout, max_fds=1)
    if not reply.fds:
        raise NoAnswer(f"{path}: no socket in the reply {reply.line[:80]!r}")
    os.set_inheritable(reply.fds[0], False)
    return socket.socket(fileno=reply.fds[0])


def decode_reply(kind: type[T], line: bytes, path: Path | str) -> T:
    """Return the reply of *kind* in *line*, or raise WorkerRefused or NoAnswer."""
    try:
        fields = parse_object(line)
        if fields.get("ok") is False:
            raise WorkerRefused(from_fields(Refusal, fields).error)
        return from_fields(kind, fields)
    except MessageError as error:
        raise NoAnswer(f"{path}: not a valid answer ({error}): {line[:80]!r}") from error


@dataclass(slots=True)
class Exchanged:
    """The outcome of one request."""

    line: bytes
    peer: Peer
    fds: list[int] = field(default_factory=list)


def exchange(
    path: Path | str,
    request: bytes,
    *,
    timeout: float,
    max_fds: int = 0,
    is_last: Callable[[bytes], bool] = lambda _: True,
) -> Exchanged:
    """
    Send one line and return the first reply line for which *is_last* is true.

    *timeout*, in seconds, limits the wait for each piece of the reply.

    Raises:
        AnswerTimeout: If a process listens but does not reply in time.
        NoAnswer: If no process of this user or root listens, or the connection closes early.

    """
    fds: list[int] = []
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(timeout)
            connection.connect(os.fspath(path))
            peer = trusted_peer(connection)
            connection.sendall(request)
            buffer = bytearray()
            while True:
                line, end, rest = buffer.partition(b"\n")
                if end and is_last(bytes(line)):
                    return Exchanged(bytes(line), peer, fds)
                if end:
                    buffer = rest
                    continue
                if len(buffer) > MAX_LINE or not _receive(connection, buffer, fds, max_fds):
                    raise NoAnswer(f"not a valid answer: {bytes(buffer[:80])!r}")
    except TimeoutError as error:
        _close_all(fds)
        raise AnswerTimeout(f"{path}: no answer within {timeout:g} s") from error
    except (OSError, ValueError, NoAnswer) as error:
        _close_all(fds)
        raise NoAnswer(f"{path}: {error}") from error


def _receive(connection: socket.socket, buffer: bytearray, fds: list[int], max_fds: int) -> bool:
    """Append received data to *buffer* and *fds*; return False at the end of the stream."""
    if max_fds:
        data, new, _, _ = socket.recv_fds(connection, 65536, max_fds)
        fds += new
    else:
        data = connection.recv(65536)
    buffer += data
    return bool(data)


def _close_all(fds: list[int]) -> None:
    for fd in fds:
        os.close(fd)

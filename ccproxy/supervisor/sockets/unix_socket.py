"""
The unix socket: one JSON line in, one JSON line out.

A socket is reachable by its owner only (mode 0600, in a folder of mode 0700).
"""

from __future__ import annotations

import hashlib
import json
import os
import socket
import stat
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from ccproxy.supervisor.processes.identity import own_command_lines
from ccproxy.supervisor.sockets.peer_credentials import Peer, trusted_peer

LONGEST_PATH = 100
"""Bytes; systems take 104 to 108 in a unix address."""

LONGEST_LINE = 4 * 2**20
"""Bytes of one request or answer."""

Answer = dict[str, Any]


class NoAnswer(Exception):
    """Nobody listens at a socket, or what listens did not answer as it should."""


def socket_path(home: Path, name: str = "supervisor") -> Path:
    """Return where the socket *name* of the fleet at *home* lies, or is to lie."""
    path = home / "state" / f"{name}.sock"
    if len(os.fsencode(path)) <= LONGEST_PATH:
        return path
    mark = hashlib.sha256(os.fsencode(home)).hexdigest()[:16]
    return _short_folder() / f"{mark}-{name}.sock"


def worker_sockets(home: Path) -> list[Path]:
    """Find the control sockets of workers, whoever made them."""
    pattern = socket_path(home, "*")
    found = sorted(pattern.parent.glob(pattern.name))
    return [path for path in found if path != socket_path(home)]


class Promised(NamedTuple):
    """A control socket that a living worker has, or makes anew within a second."""

    label: str
    pid: int
    path: Path


def promised_sockets(home: Path) -> list[Promised]:
    """Find the control sockets of living workers by these workers' arguments."""
    found = []
    for pid, words in own_command_lines():
        said = dict(pairwise(words))
        if said.get("--home") == str(home) and "--control" in said:
            found.append(Promised(said.get("--label", ""), pid, Path(said["--control"])))
    return found


def prepare_folder(path: Path) -> None:
    """
    Make the folder of the socket *path*, and be sure that it is ours alone.

    Raises:
        PermissionError: If somebody else could have put something there.

    """
    folder = path.parent
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    facts = folder.lstat()
    if not stat.S_ISDIR(facts.st_mode) or facts.st_uid not in (os.getuid(), 0):
        raise PermissionError(f"{folder} belongs to somebody else")
    if facts.st_mode & 0o022:
        raise PermissionError(f"{folder} can be written by others: chmod 700 {folder}")


def _short_folder() -> Path:
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    if runtime.startswith("/") and Path(runtime).is_dir():
        return Path(runtime) / "ccproxy"
    return Path(f"/tmp/ccproxy-{os.getuid()}")  # noqa: S108 - checked by prepare_folder


# Asking, without asyncio: for the CLI, and for threads. `server` has the rest. Nobody is asked
# but a process of this user's or root's.


def ask(path: Path | str, request: Answer, *, timeout: float) -> Answer:
    """
    Send one request and return the answer.

    Raises:
        NoAnswer: If there is none within *timeout* seconds.

    """
    return _exchange(path, request, timeout=timeout, fds=0).answer


def ask_who(path: Path | str, *, timeout: float) -> tuple[Answer, Peer]:
    """
    Ask a worker how it is, and the kernel which process that is.

    Raises:
        NoAnswer: If there is no answer within *timeout* seconds.

    """
    exchange = _exchange(path, {"op": "state"}, timeout=timeout, fds=0)
    return exchange.answer, exchange.peer


def take_listener(path: Path | str, *, timeout: float) -> socket.socket:
    """
    Ask a worker for its listening socket.

    Raises:
        NoAnswer: If it does not hand one over.

    """
    answer, fds, _ = _exchange(path, {"op": "listener"}, timeout=timeout, fds=1)
    if not fds:
        raise NoAnswer(f"no socket came: {answer}")
    os.set_inheritable(fds[0], False)
    return socket.socket(fileno=fds[0])


class _Exchange(NamedTuple):
    answer: Answer
    fds: list[int]
    peer: Peer


def _exchange(path: Path | str, request: Answer, *, timeout: float, fds: int) -> _Exchange:
    line, taken = b"", []
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(timeout)
            connection.connect(os.fspath(path))
            peer = trusted_peer(connection)
            connection.sendall(to_line(request))
            while not line.endswith(b"\n"):
                if fds:
                    data, new, _, _ = socket.recv_fds(connection, 65536, fds)
                    taken += new
                else:
                    data = connection.recv(65536)
                line += data
                if not data or len(line) > LONGEST_LINE:
                    break
        return _Exchange(from_line(line), taken, peer)
    except (OSError, ValueError, NoAnswer) as error:
        for fd in taken:
            os.close(fd)
        raise NoAnswer(f"{path}: {error}") from error


def to_line(fields: Answer) -> bytes:
    """Write what goes over a socket."""
    return json.dumps(fields).encode() + b"\n"


def from_line(line: bytes) -> Answer:
    """
    Read what came over a socket.

    Raises:
        NoAnswer: If it is not one JSON object.

    """
    try:
        fields = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise NoAnswer(f"not an answer: {line[:80]!r}") from error
    if not isinstance(fields, dict):
        raise NoAnswer(f"not an answer: {line[:80]!r}")
    return fields

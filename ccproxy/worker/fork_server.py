"""
The fork server: imports once what every worker imports, and turns into a worker per order.

    python -m ccproxy.worker --fork-server FD ROOM

Theory of operation: the supervisor starts one for the length of a `start` or `reload`. So a fleet
is ready about as soon as its first worker, and its workers share the memory of all that was
imported. An order is one message at the socket FD: a JSON list of arguments, and three
descriptors (the listening socket, the readiness pipe, the crash output); the answer is the
worker's pid. It ends when the supervisor hangs up.

Rules:

- What forks opens nothing: no event loop, no thread, no file, no database. It reads no env file
  and draws no random number, so that workers have nothing in common but code.
- It forks twice, and the process between ends at once: the worker is an orphan, and the kernel
  gives it to the supervisor, which has asked for such. So it is the supervisor's child as if it
  had been spawned, and needs neither the fork server nor, when that has died, the supervisor.
- A worker writes its command line over the server's own, for which ROOM (an argument of blanks)
  keeps the place: `ps` and a successor of the supervisor know it by that.
"""

from __future__ import annotations

import gc
import json
import os
import socket
import sys
from collections.abc import Sequence
from pathlib import Path

from ccproxy.providers.presets import load_presets

OPTION = "--fork-server"
LONGEST_ORDER = 65536
DESCRIPTORS = 3

_PROC = Path("/proc/self")
# Numbers of the fields of proc_pid_stat(5), counted from what follows the name in brackets.
_ARG_START, _ARG_END = 48 - 3, 49 - 3


def serve(fd: int) -> list[str] | None:
    """
    Fork for every order at *fd* until the supervisor hangs up.

    Returns in every worker, with its arguments; in the server at its end, with None.

    Raises:
        OSError: If there is more than one thread, a command line that cannot be shown, or no
            process to spare. The supervisor spawns its workers then.

    """
    place = _Place()
    own = sys.orig_argv[: sys.orig_argv.index(OPTION)]
    with socket.socket(fileno=fd) as channel:
        _make_ready()
        channel.send(b"ready")
        while True:
            order, fds, _, _ = socket.recv_fds(channel, LONGEST_ORDER, DESCRIPTORS)
            if not order:
                return None
            listen, ready, out = fds
            arguments = [*json.loads(order), "--listen-fd", str(listen), "--ready-fd", str(ready)]
            line = place.fill([*own, *arguments])
            pid = _fork_orphan()
            if not pid:
                _become_worker(out)
                place.write(line)
                return arguments
            for received in fds:
                os.close(received)
            channel.send(b"%d" % pid)


class _Place:
    """
    Where this process keeps its command line, which /proc/PID/cmdline and `ps` show.

    Raises:
        OSError: If the system does not tell where, or does not let us write there.

    """

    def __init__(self) -> None:
        fields = (_PROC / "stat").read_text().rpartition(")")[2].split()
        self._begin, end = int(fields[_ARG_START]), int(fields[_ARG_END])
        self._size = end - self._begin
        self.write(self.fill(sys.orig_argv[:-1]))

    def fill(self, words: Sequence[str]) -> bytes:
        """
        Return a command line that fits.

        Raises:
            OSError: If it does not.

        """
        line = b"".join(os.fsencode(word) + b"\0" for word in words)
        if len(line) > self._size:
            raise OSError("the command line is too long")
        return line.ljust(self._size, b"\0")

    def write(self, line: bytes) -> None:
        """Show *line* from now on."""
        with (_PROC / "mem").open("r+b", buffering=0) as memory:
            memory.seek(self._begin)
            memory.write(line)


def _make_ready() -> None:
    """Load what is the same for all workers, and make sure that forking is safe."""
    load_presets()
    if len([*(_PROC / "task").iterdir()]) > 1:
        raise OSError("an import has started a thread")
    gc.collect()
    # No worker's garbage collector touches what is frozen, so its memory stays shared.
    gc.freeze()


def _fork_orphan() -> int:
    """
    Fork a process that nobody here is the parent of; return its pid, and in itself 0.

    Raises:
        OSError: If the system has no process to spare.

    """
    read, write = os.pipe()
    between = os.fork()
    if not between:
        pid = os.fork()
        if pid:
            os.write(write, b"%d" % pid)
            os._exit(0)
        os.close(read)
        os.close(write)
        return 0
    os.close(write)
    os.waitpid(between, 0)  # when it has gone, the worker has its new parent
    told = os.read(read, 20)
    os.close(read)
    if not told:
        raise OSError("no process could be forked")
    return int(told)


def _become_worker(out: int) -> None:
    """Be what a spawned worker is from its first moment on."""
    os.setsid()
    for standard in (sys.stdout, sys.stderr):
        os.dup2(out, standard.fileno())
    os.close(out)

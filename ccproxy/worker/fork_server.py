"""
The fork server: imports the workers' modules once, and forks one worker for each order.

    python -m ccproxy.worker --fork-server FD ROOM

The supervisor runs one during a `start` or `reload`. A fleet is then ready about as soon as its
first worker, and its workers share the memory of all imported modules: 32 proxies start in 1.5 s
and use 342 MiB instead of about 1,000 MiB. An order is one message on the socket FD: a JSON list of
arguments, and three descriptors (the listening socket, the readiness pipe, the crash output). The
answer is the worker's pid. The server ends when the supervisor closes the socket.

- The server opens nothing: no event loop, thread, file or database. It reads no env file and draws
  no random number, so that workers share nothing but code.
- It forks twice, and the intermediate process exits at once. The kernel reparents the orphaned
  worker to the supervisor, which is its subreaper. So the worker is the supervisor's child, as if
  spawned by it, and outlives the fork server.
- A worker replaces the server's command line with its own, for which ROOM (an argument of spaces)
  reserves memory. `ps` shows the new command line, and the next supervisor uses it to identify the
  worker.
"""

from __future__ import annotations

import gc
import json
import os
import shlex
import socket
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from ccproxy.config.catalogue.catalogue_file import active_catalogue
from ccproxy.providers.presets import load_families, load_presets

OPTION = "--fork-server"
MAX_ORDER = 65536
DESCRIPTORS = 3


def serve(fd: int) -> list[str] | None:
    """
    Fork a worker for every order on *fd* until the supervisor closes it.

    Returns the arguments in every worker, and None in the server when it ends.

    Raises:
        OSError: If there is more than one thread, a command line is too long, or no process can
            be forked. The supervisor then spawns its workers instead.
    """
    set_title = _load_title_setter()
    prefix = sys.orig_argv[: sys.orig_argv.index(OPTION)]
    with socket.socket(fileno=fd) as channel:
        _prepare()
        channel.send(b"ready")
        while True:
            order, fds, _, _ = socket.recv_fds(channel, MAX_ORDER, DESCRIPTORS)
            if not order:
                return None
            listen, ready, out = fds
            arguments = [*json.loads(order), "--listen-fd", str(listen), "--ready-fd", str(ready)]
            title = _title([*prefix, *arguments])
            pid = _fork_orphan()
            if not pid:
                _become_worker(out)
                set_title(title)
                return arguments
            for received in fds:
                os.close(received)
            channel.send(b"%d" % pid)


def _load_title_setter() -> Callable[[str], None]:
    # By default, setproctitle also overwrites the memory that /proc/PID/environ shows.
    os.environ["SPT_NOENV"] = "1"
    # Linux only; a spawned worker does not need it.
    from setproctitle import setproctitle, setthreadtitle

    def set_title(title: str) -> None:
        setproctitle(title)
        setthreadtitle("ccproxy")  # else `ps -e` and `top` show the start of the title

    set_title(_title(sys.orig_argv[:-1]))
    del os.environ["SPT_NOENV"]
    return set_title


def _title(arguments: Sequence[str]) -> str:
    """
    Return *arguments* as one string, which `shlex.split` can split again.

    Raises:
        OSError: If the string does not fit into this process's command line.
    """
    title = shlex.join(arguments)
    room = sum(len(os.fsencode(argument)) + 1 for argument in sys.orig_argv)
    if len(os.fsencode(title)) >= room:
        raise OSError("the command line is too long")
    return title


def _prepare() -> None:
    """Load the data that all workers share, and check that forking is safe."""
    load_presets()
    load_families()
    active_catalogue()
    if len([*Path("/proc/self/task").iterdir()]) > 1:
        raise OSError("an import has started a thread")
    gc.collect()
    # The garbage collector of a worker does not touch frozen objects, so their memory stays shared.
    gc.freeze()


def _fork_orphan() -> int:
    """
    Fork a process that is not a child of this one; return its pid here, and 0 in the new process.

    Raises:
        OSError: If no process can be forked.
    """
    read, write = os.pipe()
    intermediate = os.fork()
    if not intermediate:
        pid = os.fork()
        if pid:
            os.write(write, b"%d" % pid)
            os._exit(0)
        os.close(read)
        os.close(write)
        return 0
    os.close(write)
    os.waitpid(intermediate, 0)  # the worker has its new parent from here on
    data = os.read(read, 20)
    os.close(read)
    if not data:
        raise OSError("could not fork a process")
    return int(data)


def _become_worker(out: int) -> None:
    """Set up the process as if it had been spawned."""
    os.setsid()
    for standard in (sys.stdout, sys.stderr):
        os.dup2(out, standard.fileno())
    os.close(out)

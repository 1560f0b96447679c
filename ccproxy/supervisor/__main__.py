"""
The resident process: `python -m ccproxy.supervisor --config FILE`.

Started by `ccproxy start` with the fleet's lock already held (`--lock-fd`) and a pipe on which it
says that it serves (`--ready-fd`); a service starts it with neither, and it stays in front.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from ccproxy.config.fleet import Fleet
from ccproxy.errors import CcproxyError
from ccproxy.supervisor.fleet.host import Settings
from ccproxy.supervisor.main_loop import Supervisor
from ccproxy.supervisor.state.lock import Lock


def main(argv: Sequence[str]) -> int:
    """Be the supervisor."""
    parser = argparse.ArgumentParser(prog="ccproxy.supervisor")
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--lock-fd", type=int)
    parser.add_argument("--ready-fd", type=int)
    parser.add_argument("--detach", action="store_true", help="leave the parent at once")
    parser.add_argument("--worker-command", nargs=argparse.REMAINDER)
    options = parser.parse_args(argv)
    if options.detach and os.fork():
        # The child lives on as nobody's child, so that no parent has to wait for it. Only the
        # descriptors are left behind, without any goodbye of the parent's own.
        os._exit(0)
    os.umask(0o077)
    file = options.config.resolve()
    settings = Settings()
    if options.worker_command:
        settings = Settings(worker_command=options.worker_command, fork_server=())
    fleet = Fleet(home=file.parent, file=file, entries=())
    try:
        with Lock(fleet, command="ccproxy supervisor", fd=options.lock_fd) as lock:
            resident = Supervisor(fleet, lock=lock, settings=settings)
            asyncio.run(_serve(resident, options.ready_fd))
    except CcproxyError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    return 0


async def _serve(resident: Supervisor, ready_fd: int | None) -> None:
    def ready() -> None:
        if ready_fd is not None:
            with contextlib.suppress(OSError):
                os.write(ready_fd, b"ready\n")
            os.close(ready_fd)

    await resident.run(ready)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

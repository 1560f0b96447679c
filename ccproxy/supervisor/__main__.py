"""
The resident process: `python -m ccproxy.supervisor --config FILE`.

`ccproxy start` starts it with the fleet's lock (`--lock-fd`) and a pipe on which it reports that it
is ready (`--ready-fd`). A service manager passes neither; the process then stays in the
foreground.
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
    """Run the supervisor; return the exit code."""
    options = _parse(argv)
    if options.detach and os.fork():
        # The child is reparented, so the starting process need not wait for it. No cleanup here:
        # the descriptors belong to the child.
        os._exit(0)
    os.umask(0o077)
    file = options.config.resolve()
    settings = Settings()
    if options.worker_command:
        settings = Settings(worker_command=options.worker_command, fork_server=())
    fleet = Fleet(home=file.parent, file=file, entries=())
    try:
        with Lock(fleet, command="ccproxy supervisor", fd=options.lock_fd) as lock:
            supervisor = Supervisor(fleet, lock=lock, settings=settings)
            asyncio.run(_serve(supervisor, options.ready_fd))
    except (CcproxyError, OSError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    return 0


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="ccproxy.supervisor")
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--lock-fd", type=int)
    parser.add_argument("--ready-fd", type=int)
    parser.add_argument("--detach", action="store_true", help="leave the parent at once")
    parser.add_argument("--worker-command", nargs=argparse.REMAINDER)
    return parser.parse_args(argv)


async def _serve(supervisor: Supervisor, ready_fd: int | None) -> None:
    def report_ready() -> None:
        if ready_fd is not None:
            with contextlib.suppress(OSError):
                os.write(ready_fd, b"ready\n")
            os.close(ready_fd)

    await supervisor.run(report_ready)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

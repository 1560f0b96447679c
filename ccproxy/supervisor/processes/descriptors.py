"""File descriptors: a higher soft limit, and a reserve for when none are left."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import socket

WANTED = 65_536
"""A supervisor needs about six descriptors per worker, a worker one or two per connection."""

OUT_OF_DESCRIPTORS = {errno.EMFILE, errno.ENFILE}


def raise_soft_limit(target: int = WANTED) -> int:
    """
    Raise the soft limit on open files towards *target*, up to the hard limit; return it.

    Children inherit it. Many systems start processes with 1,024, which 64 workers exceed.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = target if hard == resource.RLIM_INFINITY else min(target, hard)
    if soft == resource.RLIM_INFINITY or soft >= limit:
        return soft
    with contextlib.suppress(ValueError, OSError):  # macOS refuses more than kern.maxfilesperproc
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


class DescriptorReserve:
    """Holds one descriptor in reserve, so that a connection can be accepted when all are in use."""

    def __init__(self) -> None:
        self._fd = -1
        self._refill()

    def accept(self, listener: socket.socket) -> socket.socket:
        """Accept a connection like `socket.accept`, with the reserved descriptor if needed."""
        self._refill()
        try:
            return listener.accept()[0]
        except OSError as error:
            if error.errno not in OUT_OF_DESCRIPTORS or self._fd < 0:
                raise
        self.close()
        return listener.accept()[0]

    def close(self) -> None:
        """Release the descriptor."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _refill(self) -> None:
        if self._fd < 0:
            with contextlib.suppress(OSError):
                self._fd = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)

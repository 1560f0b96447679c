"""Ports for servers that a test starts later."""

from __future__ import annotations

import itertools
import os
import random
import socket

# Below the ephemeral ports, so that no other program gets a port between its choice and its use.
# Each worker of pytest-xdist has its own range.
FIRST, LAST, RANGE = 18_000, 32_000, 1_000
_WORKER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
_START = FIRST + RANGE * (_WORKER % ((LAST - FIRST) // RANGE))
_OFFSET = random.randrange(RANGE)
_PORTS = itertools.cycle(_START + (number + _OFFSET) % RANGE for number in range(RANGE))


def free_port() -> int:
    """Return a port on which no program listens, a different one for each call."""
    while True:
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port := next(_PORTS)))
            except OSError:
                continue
            return port

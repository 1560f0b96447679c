"""
The process on the other end of a unix socket, as reported by the kernel.

The path of a socket proves nothing: any process that could write to its folder may have bound it.
"""

from __future__ import annotations

import os
import socket
import struct
from typing import NamedTuple

_SOL_LOCAL = 0
_LOCAL_PEERCRED = 1
_XUCRED = 76
"""Size in bytes; the BSD structure begins with a version and the uid."""


class Peer(NamedTuple):
    """The process that listens on a socket."""

    uid: int
    pid: int | None
    """The pid; None if the system does not report it."""


def trusted_peer(connection: socket.socket) -> Peer:
    """
    Return the process that listens on the other end; call this before sending anything.

    Raises:
        OSError: If it is neither this user's nor root's process, or the system does not report it.
    """
    peer = _peer_of(connection)
    if peer.uid not in (os.getuid(), 0):
        raise PermissionError(f"the socket belongs to user {peer.uid}, who is neither you nor root")
    return peer


def _peer_of(connection: socket.socket) -> Peer:
    if hasattr(socket, "SO_PEERCRED"):
        fields = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
        pid, uid, _ = struct.unpack("iII", fields)
        return Peer(uid, pid)
    fields = connection.getsockopt(_SOL_LOCAL, _LOCAL_PEERCRED, _XUCRED)
    return Peer(struct.unpack_from("II", fields)[1], None)

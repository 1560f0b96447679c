"""
Who is at the other end of a unix socket, as the kernel tells it.

A path proves nothing: whoever was the first to write to a socket's folder may have bound it.
"""

from __future__ import annotations

import os
import socket
import struct
from typing import NamedTuple

_SOL_LOCAL = 0
_LOCAL_PEERCRED = 1
_XUCRED = 76
"""Bytes; the BSDs begin them with a version and the uid."""


class Peer(NamedTuple):
    """The process that listens at a socket."""

    uid: int
    pid: int | None
    """None where the system does not tell."""


def trusted_peer(connection: socket.socket) -> Peer:
    """
    Return who listens at the other end, to be asked for before anything is sent.

    Raises:
        OSError: If it is neither this user nor root, or if the system does not tell.

    """
    peer = _peer_of(connection)
    if peer.uid not in (os.getuid(), 0):
        raise PermissionError(f"user {peer.uid} listens there, neither you nor root")
    return peer


def _peer_of(connection: socket.socket) -> Peer:
    if hasattr(socket, "SO_PEERCRED"):
        facts = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
        pid, uid, _ = struct.unpack("iII", facts)
        return Peer(uid, pid)
    facts = connection.getsockopt(_SOL_LOCAL, _LOCAL_PEERCRED, _XUCRED)
    return Peer(struct.unpack_from("II", facts)[1], None)

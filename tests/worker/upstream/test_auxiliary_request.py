"""Answers to small requests: limited in size, whatever their pieces."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import pytest

from ccproxy.worker.upstream.auxiliary_request import AuxiliaryRequestError, read_limited

LIMIT = 8 << 20


def answer_of(pieces: int, piece: bytes) -> Any:
    """Return an answer that arrives in *pieces*."""
    arriving = iter([piece] * pieces)

    async def read(_most: int) -> bytes:
        return next(arriving, b"")

    return SimpleNamespace(content=SimpleNamespace(read=read))


async def test_small_pieces_are_joined_in_linear_time():
    """In quadratic time, 8 MiB in pieces of 1 KiB took 40 s of the event loop."""
    began = time.process_time()
    body = await read_limited(answer_of(LIMIT >> 10, b"x" * 1024), LIMIT)
    assert body == b"x" * LIMIT
    assert time.process_time() - began < 10


async def test_a_larger_answer_is_refused():
    with pytest.raises(AuxiliaryRequestError, match="larger than 8192 KiB"):
        await read_limited(answer_of(9, b"x" * (1 << 20)), LIMIT)

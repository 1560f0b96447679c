"""
The sign-ins of a gateway with replicas, as records in Redis that every replica reads and changes.

Each record has an authentication code that depends on its name, so anyone who can write to Redis
can delete records, but not create or move them. While Redis is unavailable, each replica uses the
records that it has read before, so signed-in users can continue until their tokens expire.
"""

from __future__ import annotations

import hmac
from collections import OrderedDict
from collections.abc import Awaitable, Callable

from ccproxy.errors import Problem
from ccproxy.worker.redis.connection import RedisError, Reply
from ccproxy.worker.redis.redis_backend import FORMAT

MOST_REMEMBERED = 4096
"""Maximum number of records cached for use while Redis is unavailable."""
_CODE_BYTES = 32
_REPLACE = """
if (redis.call('GET', KEYS[1]) or '') ~= ARGV[1] then return 0 end
if ARGV[2] == '' then redis.call('DEL', KEYS[1])
else redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3]) end
return 1
"""


class RedisRecords:
    """Records under one prefix, each with an expiry time."""

    def __init__(self, call: Callable[..., Awaitable[Reply]], *, secret: bytes) -> None:
        """*call* sends a command; *secret*, which all replicas share, authenticates records."""
        self._call = call
        self._name_key = hmac.digest(secret, b"ccproxy names of sign-ins", "sha256")
        self._code_key = hmac.digest(secret, b"ccproxy sign-ins", "sha256")
        self._remembered: OrderedDict[str, bytes] = OrderedDict()

    async def read(self, name: str) -> bytes | None:
        """
        Return the record *name*, or None.

        Raises:
            Problem: If Redis is unavailable and the record is not cached.
        """
        try:
            reply = await self._call("GET", self._key(name))
        except RedisError as error:
            if str(error).startswith("WRONGTYPE"):  # a value of another program
                return None
            if (record := self._remembered.get(name)) is not None:
                return record
            raise _unavailable() from error
        reply = reply if isinstance(reply, bytes) else b""
        code, data = reply[:_CODE_BYTES], reply[_CODE_BYTES:]
        record = data if hmac.compare_digest(code, self._code(name, data)) else None
        self._remember(name, record)
        return record

    async def replace(
        self, name: str, old: bytes | None, new: bytes | None, *, seconds: float
    ) -> bool:
        """
        Store *new* for *seconds* if the record is still *old*; None means no record.

        Raises:
            Problem: If Redis is unavailable.
        """
        values = [b"" if one is None else self._code(name, one) + one for one in (old, new)]
        life = max(1, int(seconds * 1000))
        try:
            reply = await self._call("EVAL", _REPLACE, 1, self._key(name), *values, life)
        except RedisError as error:
            raise _unavailable() from error
        is_written = bool(reply == 1)
        if is_written:
            self._remember(name, new)
        return is_written

    def close(self) -> None:
        """Do nothing: the pool owns the connection."""

    def _remember(self, name: str, record: bytes | None) -> None:
        self._remembered.pop(name, None)
        if record is not None:  # made-up names must not evict records
            self._remembered[name] = record
        while len(self._remembered) > MOST_REMEMBERED:
            self._remembered.popitem(last=False)

    def _key(self, name: str) -> str:
        hashed = hmac.new(self._name_key, name.encode(), "sha256").hexdigest()
        return f"ccproxy:{FORMAT}:{{@sign-ins}}:{hashed[:32]}"

    def _code(self, name: str, data: bytes) -> bytes:
        return hmac.digest(self._code_key, b"%b\0%b" % (name.encode(), data), "sha256")


def _unavailable() -> Problem:
    text = "the gateway cannot read its sign-ins, because Redis is unavailable: try again"
    return Problem("api_error", text, status=503, retry_after=1, should_retry=True)

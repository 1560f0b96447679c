"""
The state of a pool as fields of a Redis hash, so that an update transfers only changed fields.

Each key has its own field, the sessions share one, and everything else is in a third. Fields
contain salted names, counts, times, and the provider's refusals, but no keys.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from ccproxy.keys.backends.backend import AccountLimit, LinePlace, PoolState
from ccproxy.keys.key_state import KeyState
from ccproxy.keys.sessions import SessionTable

Fields = dict[bytes, bytes]

_KEY = b"k:"
_COMMON = b"common"
_SESSIONS = b"sessions"


class _Common(msgspec.Struct, omit_defaults=True):
    """The state that belongs to no single key."""

    turn: int = 0
    share: float = 0.0
    last_success: dict[str, float] = {}
    recent_limits: list[tuple[str, str, float]] = []
    account_limits: dict[str, AccountLimit] = {}
    line: dict[int, LinePlace] = {}
    known_uses: dict[str, int] = {}


_ENCODER = msgspec.msgpack.Encoder()
_COMMON_DECODER = msgspec.msgpack.Decoder(_Common)
_KEY_DECODER = msgspec.msgpack.Decoder(KeyState)
_COMMON_NAMES = _Common.__struct_fields__


def changed_fields(state: PoolState, before: Fields) -> Fields:
    """Return the fields of *state* that differ from *before*."""
    encode = _ENCODER.encode
    fields = {
        _COMMON: encode(_Common(*[getattr(state, name) for name in _COMMON_NAMES])),
        _SESSIONS: state.sessions.encoded(),
    }
    for name, key in state.keys.items():
        fields[_KEY + name.encode()] = encode(key)
    return {name: data for name, data in fields.items() if before.get(name) != data}


def decode_fields(fields: Mapping[bytes, bytes], salt: bytes) -> PoolState:
    """
    Return the state with these fields; unknown fields of a later version are ignored.

    Raises:
        msgspec.DecodeError: If another program has written them.
    """
    try:
        return _decode(fields, salt)
    except UnicodeDecodeError as error:
        raise msgspec.DecodeError("the name of a key is not text") from error


def _decode(fields: Mapping[bytes, bytes], salt: bytes) -> PoolState:
    common = _COMMON_DECODER.decode(fields[_COMMON]) if _COMMON in fields else _Common()
    return PoolState(
        salt=salt,
        keys={
            name.removeprefix(_KEY).decode(): _KEY_DECODER.decode(data)
            for name, data in fields.items()
            if name.startswith(_KEY)
        },
        sessions=SessionTable(fields.get(_SESSIONS, b"")),
        **{name: getattr(common, name) for name in _COMMON_NAMES},
    )

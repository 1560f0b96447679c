"""
Sign-ins and sessions of the gateway's users.

Each sign-in or session is one record. A change is written only if the record has not changed since
it was read, and is retried otherwise, so workers and replicas need no lock. Device codes and tokens
contain the name of their record and a 256-bit secret; the record stores only its hash. Records
identify users by a keyed hash of their approval, so a copy of the records reveals neither tokens
nor users.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Callable
from hashlib import sha256
from typing import Literal, Protocol, TypeVar

import msgspec
from msgspec.structs import replace

from ccproxy.config.team.users import TOKEN_PREFIX
from ccproxy.errors import Problem

DEVICE_SECONDS = 600
"""Time limit for the approval of a sign-in."""
ACCESS_SECONDS = 3600
REFRESH_SECONDS = 30 * 86400
"""A client that is idle for longer has to sign in again."""
GRACE_SECONDS = 60
"""How long a replaced refresh token is accepted: the response with the new one may be lost."""
POLL_SECONDS = 5
MOST_BEGUN = 1000
"""Maximum number of sign-ins that can be started within `DEVICE_SECONDS`."""
MOST_MISTAKES = 5
"""Number of wrong tokens on the approval page after which a sign-in is denied."""

USER_CODE_LETTERS = "BCDFGHJKLMNPQRSTVWXZ"
"""No vowels, which would allow words, and no characters that look alike (RFC 8628, section 6.1)."""
USER_CODE_LENGTH = 8

_DEVICE, _SESSION = "device-", "session-"
"""Prefixes of record names, so that no record is read as one of another kind."""
_ID_BYTES = 16
_ID_END = len(TOKEN_PREFIX) + 2 * _ID_BYTES
_FAMILY = slice(_ID_END, _ID_END + 43)
"""The part of a refresh token that all refresh tokens of a session share: 256 random bits."""
_MOST_TRIES = 10
"""Maximum number of attempts to change a record that other workers are also changing."""

DeviceState = Literal["pending", "slow_down", "expired", "denied", "approved"]
R = TypeVar("R", bound="_Record")
T = TypeVar("T")


class Records(Protocol):
    """A store of records."""

    async def read(self, name: str) -> bytes | None:
        """Return the record *name*, or None."""

    async def replace(
        self, name: str, old: bytes | None, new: bytes | None, *, seconds: float
    ) -> bool:
        """Store *new* for *seconds* if the record is still *old*; None means no record."""

    def close(self) -> None:
        """Close the store."""


class _Record(msgspec.Struct, frozen=True, kw_only=True):
    until: float
    """The expiry time, in seconds since the epoch."""


class _Begun(_Record, frozen=True):
    """The number of sign-ins started recently."""

    count: int


class _Device(_Record, frozen=True):
    secret: str
    state: Literal["pending", "approved", "denied"] = "pending"
    approval: str = ""
    mistakes: int = 0
    polled: float = 0.0


class SignedIn(_Record, frozen=True):
    """A session."""

    approval: str
    """The sealed approval of the session, from `SignIns.sealed`."""
    access: str
    access_until: float
    refresh: str
    refreshed: float
    since: float
    family: str = ""
    """Hash of the part shared by its refresh tokens; empty in records written by older versions."""
    old_refresh: str = ""


class TokenPair(msgspec.Struct, frozen=True, kw_only=True):
    """The tokens that a client receives."""

    access: str
    refresh: str


class SignIns:
    """The sign-ins and sessions of a gateway."""

    def __init__(self, records: Records, *, secret: bytes, clock: Callable[[], float]) -> None:
        """*secret* and *clock* (seconds since the epoch) are the same in every worker."""
        self._records = records
        self._secret = secret
        self._clock = clock

    def close(self) -> None:
        """Close the store of records."""
        self._records.close()

    def sealed(self, approval: str) -> str:
        """Return the hash of *approval*, one of `User.approvals`, as it is stored in records."""
        return self._hashed(f"approval\0{approval}")

    # The device flow (RFC 8628).

    async def begin(self) -> tuple[str, str] | None:
        """Return the user code and device code of a new sign-in, or None if there are too many."""
        if not await self._change("begun", _Begun, self._count):
            return None
        until = self._clock() + DEVICE_SECONDS
        while True:
            user_code = "".join(secrets.choice(USER_CODE_LETTERS) for _ in range(USER_CODE_LENGTH))
            name, secret = self._device(user_code), secrets.token_urlsafe(32)
            device = _Device(until=until, secret=_digest(secret))
            if await self._write(name, None, device):  # otherwise, another sign-in has this code
                return user_code, f"{name.removeprefix(_DEVICE)}.{secret}"

    async def is_pending(self, user_code: str) -> bool:
        """Return True if the sign-in with *user_code* can still be approved."""
        device = self._decoded(await self._records.read(self._device(user_code)), _Device)
        return device is not None and device.state == "pending"

    async def approve(self, user_code: str, approval: str) -> bool:
        """Approve a sign-in; return False if it is no longer pending."""
        return await self._decide(user_code, "approved", self.sealed(approval))

    async def deny(self, user_code: str) -> bool:
        """Deny a sign-in; return False if it is no longer pending."""
        return await self._decide(user_code, "denied", "")

    async def note_mistake(self, user_code: str) -> None:
        """Count a wrong token; deny the sign-in after several."""

        def note(device: _Device | None) -> tuple[_Device | None, None]:
            if device is None or device.state != "pending":
                return device, None
            mistakes = device.mistakes + 1
            state = "denied" if mistakes >= MOST_MISTAKES else device.state
            return replace(device, mistakes=mistakes, state=state), None

        await self._change(self._device(user_code), _Device, note)

    async def poll(self, device_code: str) -> tuple[DeviceState, str]:
        """Return the state and sealed approval of a sign-in; an approval is returned only once."""
        identifier, _, secret = device_code.partition(".")

        def look(device: _Device | None) -> tuple[_Device | None, tuple[DeviceState, str]]:
            if device is None or not hmac.compare_digest(device.secret, _digest(secret)):
                return device, ("expired", "")
            if device.state != "pending":
                return None, (device.state, device.approval)
            now = self._clock()
            # One second less than announced, because timers and networks are not exact.
            is_early = now - device.polled < POLL_SECONDS - 1
            return replace(device, polled=now), ("slow_down" if is_early else "pending", "")

        return await self._change(_named(_DEVICE, identifier), _Device, look)

    # Sessions.

    async def open_session(self, approval: str) -> TokenPair:
        """Open a session for the sealed *approval* and return its tokens."""
        identifier, now = secrets.token_hex(_ID_BYTES), self._clock()
        head = TOKEN_PREFIX + identifier
        access, family, refresh = (secrets.token_urlsafe(32) for _ in range(3))
        pair = TokenPair(access=head + access, refresh=head + family + refresh)
        await self._write(
            _SESSION + identifier,
            None,
            SignedIn(
                until=now + REFRESH_SECONDS,
                approval=approval,
                access=_digest(pair.access),
                access_until=now + ACCESS_SECONDS,
                refresh=_digest(pair.refresh),
                refreshed=now,
                since=now,
                family=_digest(family),
            ),
        )
        return pair

    async def find(self, access: str) -> SignedIn | None:
        """Return the session of the *access* token, or None if it is unknown or expired."""
        data = await self._records.read(_named(_SESSION, _session_id(access)))
        session = self._decoded(data, SignedIn)
        if session is None or session.access_until <= self._clock():
            return None
        if not hmac.compare_digest(session.access, _digest(access)):
            return None
        return session

    async def refresh(self, token: str) -> tuple[SignedIn, TokenPair] | None:
        """
        Exchange a refresh *token* for new tokens; return None if it is invalid.

        A refresh token can be used once. If it is used again after the grace period for lost
        responses, or after its successor has been used, it must have been copied, so its session
        ends.
        """
        digest, family = _digest(token), _digest(token[_FAMILY])
        pair = self._successors(token)

        def exchange(
            session: SignedIn | None,
        ) -> tuple[SignedIn | None, tuple[SignedIn, TokenPair] | None]:
            if session is None:
                return None, None
            now, is_old = self._clock(), digest == session.old_refresh
            if is_old and session.refreshed > now - GRACE_SECONDS:
                refreshed = session.refreshed  # since the first exchange: the grace period is fixed
            elif digest == session.refresh:
                refreshed = now
            else:
                return (None if is_old or family == session.family else session), None
            changed = replace(
                session,
                family=family,
                until=refreshed + REFRESH_SECONDS,
                access=_digest(pair.access),
                access_until=now + ACCESS_SECONDS,
                refresh=_digest(pair.refresh),
                old_refresh=digest,
                refreshed=refreshed,
            )
            return changed, (changed, pair)

        return await self._change(_named(_SESSION, _session_id(token)), SignedIn, exchange)

    async def close_session(self, token: str) -> None:
        """End the session of an access or refresh token, if there is one."""
        digest = _digest(token)

        def end(session: SignedIn | None) -> tuple[SignedIn | None, None]:
            own = () if session is None else (session.access, session.refresh, session.old_refresh)
            return (None if digest in own else session), None

        await self._change(_named(_SESSION, _session_id(token)), SignedIn, end)

    def _successors(self, refresh: str) -> TokenPair:
        """Return the successors of a *refresh* token, which are the same for every exchange."""
        access, secret = (self._hashed(f"{kind}\0{refresh}") for kind in ("access", "refresh"))
        return TokenPair(
            access=refresh[:_ID_END] + access, refresh=refresh[: _FAMILY.stop] + secret
        )

    # Records.

    async def _decide(
        self, user_code: str, state: Literal["approved", "denied"], approval: str
    ) -> bool:
        def decide(device: _Device | None) -> tuple[_Device | None, bool]:
            if device is None or device.state != "pending":
                return device, False
            return replace(device, state=state, approval=approval), True

        return await self._change(self._device(user_code), _Device, decide)

    def _count(self, begun: _Begun | None) -> tuple[_Begun, bool]:
        if begun is None:
            return _Begun(until=self._clock() + DEVICE_SECONDS, count=1), True
        if begun.count >= MOST_BEGUN:
            return begun, False
        return replace(begun, count=begun.count + 1), True

    async def _change(
        self, name: str, kind: type[R], decide: Callable[[R | None], tuple[R | None, T]]
    ) -> T:
        """
        Change the record *name* with *decide*, which returns the new record and the result.

        Raises:
            Problem: If other workers have changed the record during every attempt.

        """
        for _ in range(_MOST_TRIES):
            data = await self._records.read(name)
            record = self._decoded(data, kind)
            changed, result = decide(record)
            if changed is record or await self._write(name, data, changed):
                return result
        raise Problem("api_error", "too many sign-ins at once: try again", status=503)

    async def _write(self, name: str, old: bytes | None, record: _Record | None) -> bool:
        if record is None:
            return await self._records.replace(name, old, None, seconds=0.0)
        seconds = record.until - self._clock()
        return await self._records.replace(name, old, msgspec.json.encode(record), seconds=seconds)

    def _decoded(self, data: bytes | None, kind: type[R]) -> R | None:
        record = None if data is None else msgspec.json.decode(data, type=kind)
        return None if record is None or record.until <= self._clock() else record

    def _device(self, user_code: str) -> str:
        """Return the record name of a sign-in, which does not reveal the user code."""
        return _DEVICE + self._hashed(f"device\0{user_code}")

    def _hashed(self, text: str) -> str:
        return hmac.new(self._secret, text.encode("utf-8", "surrogatepass"), "sha256").hexdigest()


def _session_id(token: str) -> str:
    return token.removeprefix(TOKEN_PREFIX)[: 2 * _ID_BYTES]


def _named(kind: str, identifier: str) -> str:
    """Return the name of a record; *identifier* is untrusted input."""
    return kind + identifier[:64].encode("ascii", "replace").decode()


def _digest(secret: str) -> str:
    return sha256(secret.encode("utf-8", "surrogateescape")).hexdigest()

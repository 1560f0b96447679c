"""
Who is signing in to the gateway, and who is signed in: `state/sign_ins.sqlite3`.

The file belongs to the whole fleet, so that a sign-in at one entry counts at every entry with the
same users. It has hashes only: neither a device code nor a token can be read from it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Literal

from ccproxy.store.database import Schema, open_database, transaction

DEVICE_SECONDS = 600
"""How long a user has to approve a sign-in."""
ACCESS_SECONDS = 3600
REFRESH_SECONDS = 30 * 86400
"""A client that was not used for so long has to sign in again."""
GRACE_SECONDS = 60
"""How long a replaced refresh token is accepted: the answer with the new one may be lost."""
POLL_SECONDS = 5
MOST_DEVICES = 1000
"""Sign-ins that may wait for an approval at the same time."""
MOST_MISTAKES = 5
"""Wrong tokens on the approval page after which a sign-in is refused."""

_SCHEMA = Schema(
    version=2,
    tables="""
    CREATE TABLE devices (
        code BLOB PRIMARY KEY, user_code TEXT UNIQUE NOT NULL, expires REAL NOT NULL,
        polled REAL NOT NULL DEFAULT 0, mistakes INTEGER NOT NULL DEFAULT 0,
        state TEXT NOT NULL DEFAULT 'pending', user TEXT NOT NULL DEFAULT '',
        token TEXT NOT NULL DEFAULT ''
    ) WITHOUT ROWID;
    CREATE TABLE sessions (
        id INTEGER PRIMARY KEY, access BLOB UNIQUE NOT NULL, expires REAL NOT NULL,
        refresh BLOB UNIQUE NOT NULL, old_refresh BLOB, refreshed REAL NOT NULL,
        user TEXT NOT NULL, token TEXT NOT NULL, since REAL NOT NULL DEFAULT 0
    );
    CREATE INDEX sessions_old ON sessions (old_refresh);
    """,
    upgrades={1: "ALTER TABLE sessions ADD COLUMN since REAL NOT NULL DEFAULT 0"},
)

DeviceState = Literal["pending", "slow_down", "expired", "denied", "approved"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedIn:
    """The user of the session, and by what it was approved: one of `User.approvals`."""

    user: str
    token: str
    since: float = 0.0
    """When the session began, in seconds since the epoch; 0 before that, or if it is unknown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenPair:
    """What a client receives."""

    access: str
    refresh: str


class SignIns:
    """The sign-ins and sessions of a fleet; every method is one short transaction."""

    def __init__(
        self, folder: Path, *, new_secret: Callable[[], str], clock: Callable[[], float]
    ) -> None:
        """
        Open the file in *folder*; *new_secret* returns a new token or code.

        Raises:
            CcproxyError, OSError, sqlite3.Error: As `open_database`.

        """
        self._connection = open_database(folder / "sign_ins.sqlite3", _SCHEMA).connection
        self._new_secret = new_secret
        self._clock = clock

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    # The device flow (RFC 8628).

    def begin(self, user_code: str) -> str | None:
        """Return the device code of a new sign-in; None if too many wait for an approval."""
        code, now = self._new_secret(), self._clock()
        with transaction(self._connection):
            self._connection.execute("DELETE FROM devices WHERE expires <= ?", (now,))
            (count,) = self._connection.execute("SELECT count(*) FROM devices").fetchone()
            if count >= MOST_DEVICES:
                return None
            self._connection.execute(
                "INSERT INTO devices (code, user_code, expires) VALUES (?, ?, ?)",
                (_digest(code), user_code, now + DEVICE_SECONDS),
            )
        return code

    def is_pending(self, user_code: str) -> bool:
        """Return True if the sign-in with *user_code* can still be approved."""
        row = self._connection.execute(
            "SELECT 1 FROM devices WHERE user_code = ? AND state = 'pending' AND expires > ?",
            (user_code, self._clock()),
        ).fetchone()
        return row is not None

    def approve(self, user_code: str, who: SignedIn) -> bool:
        """Approve a sign-in for *who*; False if it is not pending any more."""
        return self._decide(user_code, "approved", who)

    def deny(self, user_code: str) -> bool:
        """Refuse a sign-in; False if it is not pending any more."""
        return self._decide(user_code, "denied", SignedIn(user="", token=""))

    def note_mistake(self, user_code: str) -> None:
        """Count a wrong token; after several, the sign-in is refused."""
        with transaction(self._connection):
            self._connection.execute(
                "UPDATE devices SET mistakes = mistakes + 1,"
                " state = CASE WHEN mistakes + 1 >= ? THEN 'denied' ELSE state END"
                " WHERE user_code = ? AND state = 'pending'",
                (MOST_MISTAKES, user_code),
            )

    def poll(self, device_code: str) -> tuple[DeviceState, SignedIn | None]:
        """Return the state of a sign-in; an approval is returned once."""
        code, now = _digest(device_code), self._clock()
        if not self._has("SELECT 1 FROM devices WHERE code = ?", code):
            return "expired", None
        with transaction(self._connection):
            row = self._connection.execute(
                "SELECT * FROM devices WHERE code = ?", (code,)
            ).fetchone()
            if row is None or row["expires"] <= now:
                return "expired", None
            if row["state"] == "pending":
                self._connection.execute(
                    "UPDATE devices SET polled = ? WHERE code = ?", (now, code)
                )
                # A second less than promised: timers and networks are not exact.
                is_early = now - row["polled"] < POLL_SECONDS - 1
                return ("slow_down" if is_early else "pending"), None
            self._connection.execute("DELETE FROM devices WHERE code = ?", (code,))
        if row["state"] == "denied":
            return "denied", None
        return "approved", SignedIn(user=row["user"], token=row["token"])

    # Sessions.

    def open_session(self, who: SignedIn) -> TokenPair:
        """Return the tokens of a new session of *who*."""
        pair, now = self._new_pair(), self._clock()
        with transaction(self._connection):
            self._connection.execute(
                "DELETE FROM sessions WHERE refreshed <= ?", (now - REFRESH_SECONDS,)
            )
            self._connection.execute(
                "INSERT INTO sessions (access, expires, refresh, refreshed, user, token, since)"
                " VALUES (?, ?, ?, ?, ?, ?, ?)",
                (
                    _digest(pair.access),
                    now + ACCESS_SECONDS,
                    _digest(pair.refresh),
                    now,
                    who.user,
                    who.token,
                    now,
                ),
            )
        return pair

    def find(self, access: str) -> SignedIn | None:
        """Return the user of the token *access*; None if it is unknown or has expired."""
        row = self._connection.execute(
            "SELECT user, token FROM sessions WHERE access = ? AND expires > ?",
            (_digest(access), self._clock()),
        ).fetchone()
        return None if row is None else SignedIn(user=row["user"], token=row["token"])

    def refresh(self, refresh: str) -> tuple[SignedIn, TokenPair] | None:
        """
        Return new tokens in exchange for *refresh*; None if it is not valid.

        A refresh token is used once. One that is used again, later than a lost answer explains,
        has been copied: its session ends.
        """
        pair, now, digest = self._new_pair(), self._clock(), _digest(refresh)
        if not self._has(
            "SELECT 1 FROM sessions WHERE refresh = ? OR old_refresh = ?", digest, digest
        ):
            return None
        with transaction(self._connection):
            row = self._connection.execute(
                "SELECT * FROM sessions WHERE refresh = ? OR old_refresh = ?", (digest, digest)
            ).fetchone()
            if row is None or row["refreshed"] <= now - REFRESH_SECONDS:
                return None
            is_old = row["refresh"] != digest
            if is_old and row["refreshed"] <= now - GRACE_SECONDS:
                self._connection.execute("DELETE FROM sessions WHERE id = ?", (row["id"],))
                return None
            # Within the grace, the time of the first exchange counts: it must not be prolonged.
            self._connection.execute(
                "UPDATE sessions SET access = ?, expires = ?, refresh = ?, old_refresh = ?,"
                " refreshed = ? WHERE id = ?",
                (
                    _digest(pair.access),
                    now + ACCESS_SECONDS,
                    _digest(pair.refresh),
                    digest,
                    row["refreshed"] if is_old else now,
                    row["id"],
                ),
            )
        return SignedIn(user=row["user"], token=row["token"], since=row["since"]), pair

    def close_session(self, token: str) -> None:
        """End the session of an access or refresh token; nothing happens if there is none."""
        condition, values = "access = ? OR refresh = ? OR old_refresh = ?", [_digest(token)] * 3
        if not self._has(f"SELECT 1 FROM sessions WHERE {condition}", *values):  # noqa: S608 - our own text
            return
        with transaction(self._connection):
            self._connection.execute(f"DELETE FROM sessions WHERE {condition}", values)  # noqa: S608 - as above

    def _has(self, query: str, *values: bytes) -> bool:
        """Return True if *query* finds a row: strangers must not take the lock of all workers."""
        return self._connection.execute(query, values).fetchone() is not None

    def _new_pair(self) -> TokenPair:
        return TokenPair(access=self._new_secret(), refresh=self._new_secret())

    def _decide(self, user_code: str, state: DeviceState, who: SignedIn) -> bool:
        with transaction(self._connection):
            changed = self._connection.execute(
                "UPDATE devices SET state = ?, user = ?, token = ?"
                " WHERE user_code = ? AND state = 'pending' AND expires > ?",
                (state, who.user, who.token, user_code, self._clock()),
            ).rowcount
        return changed == 1


def _digest(secret: str) -> bytes:
    return sha256(secret.encode("utf-8", "surrogateescape")).digest()

"""
Sign-in with a one-time code.

The link that the command prints contains the code in its fragment, which browsers do not send. A
script of the page exchanges it for a session, which consists of two secrets:

- a cookie that scripts cannot read. Browsers send it to every port of the host, so another
  program on this machine may see it.
- a token that the page keeps in the storage of its origin, port included, and sends as a header.
  Pages of other origins can neither read nor send it.

Data and actions require both secrets. Everything is kept in memory.
"""

from __future__ import annotations

import hmac
import secrets
import time
from collections.abc import Callable
from typing import NamedTuple

CODE_SECONDS = 600.0
"""The lifetime of a code."""
SESSION_SECONDS = 24 * 3600.0
MAX_SESSIONS = 16
"""The maximum number of sessions; starting one more ends the oldest."""


class BrowserSession(NamedTuple):
    """The two secrets of one browser."""

    cookie: str
    token: str
    ends: float


def new_secret() -> str:
    """Return 192 random bits as a URL-safe string."""
    return secrets.token_urlsafe(24)


class SignIn:
    """The current one-time code, and the sessions that codes have started."""

    def __init__(
        self,
        *,
        clock: Callable[[], float] = time.monotonic,
        secret: Callable[[], str] = new_secret,
    ) -> None:
        self._clock = clock
        self._secret = secret
        self._code = ""
        self._code_ends = 0.0
        self._sessions: list[BrowserSession] = []

    def new_code(self) -> str:
        """Return a new code, which invalidates the previous one."""
        self._code = self._secret()
        self._code_ends = self._clock() + CODE_SECONDS
        return self._code

    def exchange(self, code: str) -> BrowserSession | None:
        """Start a session if *code* is correct, unused and not expired."""
        if not self._code or self._clock() > self._code_ends or not _equal(code, self._code):
            return None
        self._code = ""
        session = BrowserSession(self._secret(), self._secret(), self._clock() + SESSION_SECONDS)
        self._sessions = [*self._sessions[1 - MAX_SESSIONS :], session]
        return session

    def knows_cookie(self, cookie: str) -> bool:
        """Return True if *cookie* belongs to a session; that is enough for static files."""
        return self._session(cookie) is not None

    def accepts(self, cookie: str, token: str) -> bool:
        """Return True if *cookie* and *token* belong to the same session."""
        session = self._session(cookie)
        return session is not None and _equal(token, session.token)

    def end(self, cookie: str) -> None:
        """End the session of *cookie*."""
        self._sessions = [one for one in self._sessions if not _equal(cookie, one.cookie)]

    def _session(self, cookie: str) -> BrowserSession | None:
        now = self._clock()
        matches = (one for one in self._sessions if one.ends > now and _equal(cookie, one.cookie))
        return next(matches, None)


def _equal(one: str, other: str) -> bool:
    return hmac.compare_digest(one.encode("utf-8", "replace"), other.encode())

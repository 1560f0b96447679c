"""
The exceptions that ccproxy raises.

    CcproxyError
    ├── ConfigError          the user's files have errors; contains all of them      exit 78
    ├── UsageError           a command has invalid arguments (an unknown label)      exit 2
    ├── NotRunning           no supervisor or worker is running                      exit 3
    ├── PortInUse            another program uses a port of the table                exit 5
    ├── Busy                 another ccproxy command holds the lock                  exit 6
    ├── NotReady             a worker was not ready in time                          exit 7
    └── Problem              a request ends with an Anthropic error                  an HTTP answer
        └── BadAnswer        the provider's answer is invalid or incomplete          an HTTP answer

Each message is written for the user: what failed, where, why, and how to fix it. The exit codes are
in `cli/exit_codes.py`; HTTP errors are made in `worker/server/error_response.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

STATUS_OF_KIND = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "conflict_error": 409,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "api_error": 500,
    "timeout_error": 504,
    "overloaded_error": 529,
}
"""The Messages API's error types with their default statuses, from Anthropic's API reference."""


class CcproxyError(Exception):
    """The base class of expected errors; `str()` returns a message for the user."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mistake:
    """One error in one of the user's files, and its fix."""

    file: Path
    line: int | None
    text: str
    fix: str = ""
    is_empty_table: bool = False
    """Whether the table lacks its first entry, which `ccproxy init` adds."""
    is_exposed_file: bool = False
    """Whether other users can read the file, which `ccproxy doctor --fix` corrects."""

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}" if self.line is not None else str(self.file)
        fix = f"\n      fix: {self.fix}" if self.fix else ""
        return f"{where}: {self.text}{fix}"


class ConfigError(CcproxyError):
    """The user's files have errors. Contains every mistake, not only the first."""

    def __init__(self, mistakes: Sequence[Mistake]) -> None:
        self.mistakes = tuple(mistakes)
        super().__init__("\n".join(f"  - {mistake}" for mistake in self.mistakes))


class NoFleetError(ConfigError):
    """There is no ccproxy.toml: no provider has been added yet."""


class UsageError(CcproxyError):
    """A command has invalid arguments, for example a label that is not in the table."""


class NotRunning(CcproxyError):
    """No supervisor or worker is running."""


class PortInUse(CcproxyError):
    """A program that ccproxy did not start uses a port of the table."""


class Busy(CcproxyError):
    """Another ccproxy command holds the fleet's lock."""


class NotReady(CcproxyError):
    """A worker was not ready in time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderRefusal:
    """The parts of a provider's error that its handlers need."""

    status: int
    """The HTTP status; 0 if the error arrived after the answer had begun."""
    text: str
    codes: frozenset[str]
    """Error codes and error types, in lowercase."""
    parameter: str
    """The request parameter that the error names; empty if it names none."""


class Problem(CcproxyError):
    """
    A request that ends with an Anthropic error; raised, returned and stored alike.

    `kind` is one of the Messages API's error types, `retry_after` is in whole seconds, and
    `should_retry` is the `x-should-retry` header (None: no header, the client decides by the
    status). `body` and `headers` are the provider's own, for direct mode, which relays them
    unchanged. `refusal` is the provider's error, or None if the error has another source.
    """

    def __init__(
        self,
        kind: str,
        message: str,
        *,
        status: int | None = None,
        retry_after: int | None = None,
        should_retry: bool | None = None,
        body: bytes | None = None,
        headers: tuple[tuple[str, str], ...] = (),
        refusal: ProviderRefusal | None = None,
    ) -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message
        self.status = STATUS_OF_KIND[kind] if status is None else status
        self.retry_after = retry_after
        self.should_retry = should_retry
        self.body = body
        self.headers = headers
        self.refusal = refusal

    def with_message(self, message: str, *, body: bytes | None = None) -> Problem:
        """Return a copy of this error with *message*, and with *body* if it is not None."""
        return Problem(
            self.kind,
            message,
            status=self.status,
            retry_after=self.retry_after,
            should_retry=self.should_retry,
            body=self.body if body is None else body,
            headers=self.headers,
            refusal=self.refusal,
        )


class BadAnswer(Problem):
    """The provider's answer is invalid or incomplete (502)."""

    def __init__(self, message: str) -> None:
        super().__init__("api_error", message, status=502)

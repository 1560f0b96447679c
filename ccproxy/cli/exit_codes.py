"""The exit codes of `ccproxy`."""

from __future__ import annotations

import click

from ccproxy.errors import (
    Busy,
    CcproxyError,
    ConfigError,
    NotReady,
    NotRunning,
    PortInUse,
    UsageError,
)

MEANINGS = {
    0: "success",
    1: "failed or degraded",
    2: "wrong usage",
    3: "not running",
    4: "the provider rejected the key",
    5: "port in use",
    6: "another ccproxy command is running",
    7: "not ready in time",
    78: "configuration error",
    130: "interrupted",
}
_OF_ERROR: dict[type[Exception], int] = {
    CcproxyError: 1,
    UsageError: 2,
    NotRunning: 3,
    PortInUse: 5,
    Busy: 6,
    NotReady: 7,
    ConfigError: 78,
    click.Abort: 130,
}


def exit_code_of(error: Exception) -> int:
    """Return the exit code for *error*; an unlisted class gets the code of its base class."""
    if isinstance(error, click.ClickException):
        return error.exit_code
    return next((_OF_ERROR[kind] for kind in type(error).mro() if kind in _OF_ERROR), 1)

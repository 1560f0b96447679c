"""Programs that `make test-claude` and `make test-codex` install from npm, run without network."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.fleet import ROOT

CLOSED = "http://127.0.0.1:9"
OFFLINE = {"HTTP_PROXY": CLOSED, "HTTPS_PROXY": CLOSED, "NO_PROXY": "127.0.0.1,localhost"}
"""Requests to any address except loopback go to a closed port."""


def installed_client(
    request: pytest.FixtureRequest, mark: str, title: str, pattern: str, folder: str
) -> Path:
    """
    Return the binary of *title*: $CCPROXY_<MARK>, or the first match of *pattern* in *folder*.

    Skips the test if there is none, or fails it if the tests of *mark* were requested.
    """
    variable = f"CCPROXY_{mark.upper()}"
    if named := os.environ.get(variable):
        return Path(named)
    result = sorted((ROOT / folder).glob(pattern))
    if result:
        return result[0]
    reason = f"needs {title}: run `make test-{mark}`, or set {variable} to its binary"
    if request.config.getoption("markexpr") == mark:
        pytest.fail(reason)  # with -m, skipped tests would look like a success
    pytest.skip(reason)

"""Fixtures of the security tests."""

from __future__ import annotations

from tests.worker.conftest import proxy, start  # noqa: F401 - fixtures, used by their names

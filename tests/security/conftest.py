"""Fixtures of the attacks; each test names the row of the threat model that it shows."""

from __future__ import annotations

from tests.worker.conftest import proxy, start  # noqa: F401 - fixtures, used by their names

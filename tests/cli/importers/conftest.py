"""Import a file into a fleet with two entries."""

from __future__ import annotations

import pytest

from ccproxy.config.fleet_check import load_all


@pytest.fixture
def run_import(home, ccproxy):
    """Import a file and return the command's result and the checked fleet."""

    def run(file, *options):
        done = ccproxy("import", file, *options or ("--write",))
        assert done.exit_code == 0, done.stderr
        return done, load_all(home / "ccproxy.toml")

    return run


@pytest.fixture
def refused(home, ccproxy):
    """Import a file that is rejected; return the error, and check that nothing is written."""

    def run(file):
        before = sorted(home.rglob("*"))
        done = ccproxy("import", file, "--write")
        assert done.exit_code == 78, (done.stdout, done.stderr, done.exception)
        assert sorted(home.rglob("*")) == before
        return done.stderr

    return run

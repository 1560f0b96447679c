"""The overrides of an entry, which its processes read."""

from __future__ import annotations

import json
import signal
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from ccproxy.routing.names import Tiers
from ccproxy.routing.switching import NO_SWITCH, ModelSwitch
from ccproxy.store.overrides import (
    NO_OVERRIDES,
    Overrides,
    change_overrides,
    overrides_path,
    read_overrides,
    read_switch,
    switch_path,
    write_switch,
)


@pytest.fixture
def path(tmp_path):
    return overrides_path(tmp_path / "state", "Kimi")


def test_a_change_keeps_the_other_fields(path):
    assert change_overrides(path, {"is_bypassed": True}) == Overrides(is_bypassed=True)
    both = Overrides(is_bypassed=True, history=False, export="talk")
    assert change_overrides(path, {"history": False, "export": "talk"}) == both
    assert read_overrides(path) == both
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_the_defaults_leave_no_file(path):
    change_overrides(path, {"is_bypassed": True})
    assert change_overrides(path, {"is_bypassed": False}) == NO_OVERRIDES
    assert not path.exists()
    assert read_overrides(path) == NO_OVERRIDES


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "null", '{"is_off": "yes"}', '{"history": 1}', '{"file": null}', '{"x": 1}'],
)
def test_an_unreadable_file_is_ignored(path, text):
    path.parent.mkdir()
    path.write_text(text)
    assert read_overrides(path) == NO_OVERRIDES


def test_concurrent_changes_of_different_fields_are_all_kept(path):
    for number in range(20):
        changes = [{"is_bypassed": True}, {"history": True}, {"export": f"f{number}"}]
        with ThreadPoolExecutor() as pool:
            list(pool.map(lambda change: change_overrides(path, change), changes))
        assert read_overrides(path) == Overrides(
            is_bypassed=True, history=True, export=f"f{number}"
        )
        change_overrides(path, {"is_bypassed": False, "history": None, "export": ""})


def test_a_change_on_a_full_disk_is_an_error_and_keeps_the_old_state(path, disk_limit):
    """A bypassed proxy must not return to its provider because of a full disk."""
    change_overrides(path, {"is_bypassed": True})
    with disk_limit(10), pytest.raises(OSError, match="File too large"):
        change_overrides(path, {"export": "talk"})
    assert read_overrides(path) == Overrides(is_bypassed=True)
    assert sorted(each.name for each in path.parent.iterdir()) == [path.name, f"{path.name}.lock"]


KILLED = """
import os, signal, sys
from pathlib import Path
from ccproxy.store.overrides import change_overrides
os.fsync = lambda fd: os.kill(os.getpid(), signal.SIGKILL)
change_overrides(Path(sys.argv[1]), {"is_bypassed": False, "history": True})
"""


def test_a_change_that_is_killed_before_its_end_changes_nothing(path):
    change_overrides(path, {"is_bypassed": True})
    done = subprocess.run([sys.executable, "-c", KILLED, path], check=False)
    assert done.returncode == -signal.SIGKILL
    assert read_overrides(path) == Overrides(is_bypassed=True)
    assert change_overrides(path, {"history": True}) == Overrides(is_bypassed=True, history=True)


# The switch of models.

SWITCH = ModelSwitch(tiers=Tiers(big="k3", small="glm:glm-5"), preset="fast")


@pytest.fixture
def switch_file(tmp_path):
    path = switch_path(tmp_path / "state", "Kimi")
    write_switch(path, SWITCH)
    return path


def test_a_switch_is_read_as_it_was_written(switch_file):
    assert read_switch(switch_file) == SWITCH
    assert stat.S_IMODE(switch_file.stat().st_mode) == 0o600


def test_an_empty_switch_leaves_no_file(switch_file):
    write_switch(switch_file, NO_SWITCH)
    assert not switch_file.exists()
    assert read_switch(switch_file) is NO_SWITCH
    write_switch(switch_file, NO_SWITCH)


@pytest.mark.parametrize(
    "text",
    [
        *("", "{", "[]", "null", '{"big": 5}', '{"preset": ["fast"]}'),
        pytest.param(json.dumps({"until": 10**400}), id="400 digits"),
    ],
)
def test_an_unreadable_switch_is_ignored(switch_file, text):
    switch_file.write_text(text)
    assert read_switch(switch_file) is NO_SWITCH


def test_a_switch_on_a_full_disk_is_an_error_and_the_old_one_stays(switch_file, disk_limit):
    with disk_limit(10), pytest.raises(OSError, match="File too large"):
        write_switch(switch_file, ModelSwitch(tiers=Tiers(big="other"), preset=None))
    assert read_switch(switch_file) == SWITCH

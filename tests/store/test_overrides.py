"""The overrides of an entry, as its processes read them."""

from __future__ import annotations

import stat
from concurrent.futures import ThreadPoolExecutor

import pytest

from ccproxy.store.overrides import (
    NO_OVERRIDES,
    Overrides,
    change_overrides,
    overrides_path,
    read_overrides,
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

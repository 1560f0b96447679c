"""The switches that are thrown while an entry runs, as its processes find them."""

from __future__ import annotations

import stat
from concurrent.futures import ThreadPoolExecutor

import pytest

from ccproxy.config.overrides import (
    AS_CONFIGURED,
    Standing,
    change_standing,
    read_standing,
    standing_path,
)


@pytest.fixture
def path(tmp_path):
    return standing_path(tmp_path / "state", "Kimi")


def test_what_is_changed_stands_and_the_rest_stays(path):
    assert change_standing(path, {"is_off": True}) == Standing(is_off=True)
    both = Standing(is_off=True, history=False, file="talk")
    assert change_standing(path, {"history": False, "file": "talk"}) == both
    assert read_standing(path) == both
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_what_stands_as_configured_leaves_no_file(path):
    change_standing(path, {"is_off": True})
    assert change_standing(path, {"is_off": False}) == AS_CONFIGURED
    assert not path.exists()
    assert read_standing(path) == AS_CONFIGURED


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "null", '{"is_off": "yes"}', '{"history": 1}', '{"file": null}', '{"x": 1}'],
)
def test_a_torn_file_is_none(path, text):
    path.parent.mkdir()
    path.write_text(text)
    assert read_standing(path) == AS_CONFIGURED


def test_two_fields_that_are_changed_at_once_are_both_changed(path):
    for number in range(20):
        changes = [{"is_off": True}, {"history": True}, {"file": f"f{number}"}]
        with ThreadPoolExecutor() as pool:
            list(pool.map(lambda change: change_standing(path, change), changes))
        assert read_standing(path) == Standing(is_off=True, history=True, file=f"f{number}")
        change_standing(path, {"is_off": False, "history": None, "file": ""})

"""Tests of tool names and tool call IDs."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from ccproxy.convert.common.tool_names import ToolIds, id_literal, tool_name
from ccproxy.protocol.literals import ABSENT
from tests.traced import kept_by

FITS = re.compile(r"[a-zA-Z0-9_-]{1,64}")


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("Read", id="short"),
        pytest.param("mcp__server__tool-1", id="with both marks"),
        pytest.param("x" * 64, id="as long as may be"),
    ],
)
def test_a_valid_name_is_unchanged(name):
    assert tool_name(name, 64) == name


@pytest.mark.parametrize(
    ("name", "head"),
    [
        pytest.param("x" * 65, "x" * 55 + "_", id="too long"),
        pytest.param("files.read/all", "files_read_all_", id="other characters"),
        pytest.param("工具", "__", id="not ASCII"),
        pytest.param("", "_", id="empty"),
        pytest.param("a\n", "a_", id="a line end"),
    ],
)
def test_an_invalid_name_keeps_its_head(name, head):
    outgoing = tool_name(name, 64)
    assert outgoing.startswith(head)
    assert FITS.fullmatch(outgoing)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        pytest.param("x" * 70 + "a", "x" * 70 + "b", id="one long beginning"),
        pytest.param("a.b", "a/b", id="characters that become the same"),
        pytest.param("a.b", "a_b", id="one that fits"),
    ],
)
def test_different_names_stay_distinct(one, other):
    assert tool_name(one, 64) != tool_name(other, 64)


def test_the_length_is_limited_by_the_provider():
    assert len(tool_name("x" * 40, 32)) == 32


@given(st.text(max_size=200))
def test_any_name_becomes_valid_and_stable(name):
    outgoing = tool_name(name, 64)
    assert FITS.fullmatch(outgoing)
    assert tool_name(name, 64) == outgoing
    assert tool_name(outgoing, 64) == outgoing


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        pytest.param(b'"toolu_1"', b'"toolu_1"', id="as it is"),
        pytest.param(b'"a\\/b\\u00e9"', '"a/bé"'.encode(), id="escapes in one form"),
        pytest.param(b"7", b'""', id="a number"),
        pytest.param(b"null", b'""', id="null"),
    ],
)
def test_id_literal(raw, expected):
    assert id_literal(Raw(raw)) == expected


def test_a_missing_id_is_treated_as_empty():
    assert id_literal(ABSENT) == b'""'


@pytest.mark.parametrize(
    ("form", "client_id", "expected"),
    [
        pytest.param("any", b'"functions.Read:0"', True, id="any"),
        pytest.param("any", b'""', False, id="any but empty"),
        pytest.param("forty", b'"' + b"x" * 40 + b'"', True, id="forty"),
        pytest.param("forty", b'"' + b"x" * 41 + b'"', False, id="forty-one"),
        pytest.param("nine", b'"abcDEF123"', True, id="nine"),
        pytest.param("nine", b'"abcDEF12"', False, id="eight"),
        pytest.param("nine", b'"abc_EF123"', False, id="nine with a mark"),
    ],
)
def test_valid_ids_are_unchanged(form, client_id, expected):
    assert (ToolIds(form).assign(client_id, "Bash") == client_id) is expected


@pytest.mark.parametrize("form", ["any", "forty", "nine"])
@given(ids=st.lists(st.sampled_from([b'""', b'"call_0"', b'"abcDEF123"', b'"' + b"y" * 50 + b'"'])))
def test_ids_are_unique_and_depend_only_on_earlier_calls(form, ids):
    made = ToolIds(form)
    outgoing = [made.assign(each, "Bash") for each in ids]
    again = ToolIds(form)
    assert len(set(outgoing)) == len(outgoing)
    assert [again.assign(each, "Bash") for each in ids[: len(ids) // 2]] == outgoing[
        : len(ids) // 2
    ]


def test_only_short_names_are_cached():
    def work():
        for number in range(20):
            assert len(tool_name("x" * 2**20 + str(number), 64)) == 64

    assert kept_by(work) < 2**20

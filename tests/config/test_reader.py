"""The parsing of env files: values, lines and repeated settings."""

from __future__ import annotations

import pytest

from ccproxy.config import settings as s
from ccproxy.config.reader import read_environment, read_file


@pytest.mark.parametrize(
    ("text", "value"),
    [
        pytest.param("BIG_MODEL=x", "x", id="plain"),
        pytest.param("export BIG_MODEL=x", "x", id="export"),
        pytest.param("BIG_MODEL = x ", "x", id="blanks"),
        pytest.param("BIG_MODEL='x # y'", "x # y", id="a hash in quotes"),
        pytest.param('BIG_MODEL="x"  # y', "x", id="a comment after quotes"),
        pytest.param("BIG_MODEL=x # y", "x", id="a comment after a value"),
        pytest.param("BIG_MODEL=x#y", "x#y", id="a hash without a blank"),
        pytest.param("BIG_MODEL=$HOME", "$HOME", id="no interpolation"),
        pytest.param("BIG_MODEL=x\r\n", "x", id="lines of Windows"),
        pytest.param("\ufeffBIG_MODEL=x", "x", id="a byte order mark"),
        pytest.param(
            "BIG_MODEL=x\nBIG_MODEL=", "x", id="an empty value does not replace an earlier one"
        ),
    ],
)
def test_values(write, text, value):
    assert read_file(write("x.env", text), entry=None).read(s.BIG_MODEL) == value


KEEP_ONE = "keep one of these lines; write several keys on one line, separated by commas"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param(
            "\nPROVIDER_API_KEY=a\n\n\nPROVIDER_API_KEY=b",
            [(5, "PROVIDER_API_KEY is set twice (lines 2 and 5)", KEEP_ONE)],
            id="a key",
        ),
        pytest.param(
            "BIG_MODEL=x\nBIG_MODEL=x",
            [(2, "BIG_MODEL is set twice (lines 1 and 2)", "keep one of these lines")],
            id="the same value",
        ),
        pytest.param(
            "PORT=1\nPORT=2\nPORT=3",
            [(3, "PORT is set 3 times (lines 1, 2 and 3)", "keep one of these lines")],
            id="more than twice",
        ),
        pytest.param(
            "CUSTOM_HEADER_A=1\nCUSTOM_HEADER_A=2",
            [(2, "CUSTOM_HEADER_A is set twice (lines 1 and 2)", "keep one of these lines")],
            id="a header",
        ),
        pytest.param("PORT=\nPORT=2\nPORT=", [], id="empty ones do not count"),
        pytest.param("# PORT=1\nPORT=2", [], id="nor do comments"),
        pytest.param("PYTHONPATH=a\nPYTHONPATH=b", [], id="other programs' settings may repeat"),
    ],
)
def test_a_setting_on_two_lines_is_a_mistake(write, text, expected):
    env = read_file(write("x.env", text), entry=None)
    assert [(one.line, one.text, one.fix) for one in env.mistakes] == expected


@pytest.mark.parametrize(
    "text", ["", "# BIG_MODEL=x", "BIG_MODEL=", "BIG_MODEL=''", "BIG_MODEL= # x"]
)
def test_an_empty_value_counts_as_not_set(write, text):
    env = read_file(write("x.env", text), entry=None)
    assert env.value(s.BIG_MODEL) is None
    assert env.read(s.BIG_MODEL) is None
    assert env.mistakes == []


@pytest.mark.parametrize(
    ("text", "line"),
    [
        pytest.param("BIG_MODEL=x", 1, id="the first"),
        pytest.param("\n\n# c\n\nBIG_MODEL=x", 5, id="after blank lines and comments"),
        pytest.param("A='1\n2\n3'\nBIG_MODEL=x", 4, id="after a value of several lines"),
        pytest.param("A=1\r\n\r\nBIG_MODEL=x\r\n", 3, id="lines of Windows"),
        pytest.param("   \n  BIG_MODEL=x", 2, id="indented"),
    ],
)
def test_lines(write, text, line):
    assert read_file(write("x.env", text), entry=None).value(s.BIG_MODEL).line == line


def test_an_alias_keeps_its_name_in_messages(write):
    env = read_file(write("x.env", "OPENAI_BASE_URL=https://x.example/v1"), entry=None)
    assert env.value(s.PROVIDER_BASE_URL).name == "OPENAI_BASE_URL"


def test_an_alias_applies_if_the_setting_is_empty(write):
    env = read_file(write("x.env", "PROVIDER_API_KEY=\nOPENAI_API_KEY=sk-1"), entry=None)
    assert env.read(s.PROVIDER_API_KEY) == ("sk-1",)


def test_only_settings_are_read_from_the_environment():
    env = read_environment(
        {"BIG_MODEL": "x", "HOME": "/root", "CUSTOM_HEADER_A": "1", "MODEL": "y"}
    )
    assert env.read(s.BIG_MODEL) == "x"
    assert [value.name for value in env.prefixed("")] == ["BIG_MODEL", "CUSTOM_HEADER_A"]

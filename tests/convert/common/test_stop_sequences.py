"""Tests of stop sequences: they cut the text at the same position with every chunking."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ccproxy.convert.common.stop_sequences import StopCutter


def run(sequences, pieces):
    cutter = StopCutter(sequences)
    output = [cutter.feed(piece) for piece in pieces]
    return [*output, cutter.flush()], cutter.matched


@pytest.mark.parametrize(
    ("sequences", "pieces", "expected", "matched"),
    [
        pytest.param([], ["a", "b"], ["a", "b", ""], None, id="without sequences all is shown"),
        pytest.param([""], ["a", "b"], ["a", "b", ""], None, id="an empty sequence is none"),
        pytest.param(["END"], ["aENDb"], ["a", ""], "END", id="within a piece"),
        pytest.param(["END"], ["aE", "N", "Db"], ["a", "", "", ""], "END", id="over pieces"),
        pytest.param(["END"], ["aEN", "x"], ["a", "ENx", ""], None, id="a look-alike is released"),
        pytest.param(["END"], ["aEEN", "D"], ["aE", "", ""], "END", id="a beginning in another"),
        pytest.param(["END"], ["aE"], ["a", "E"], None, id="held text is written at the end"),
        pytest.param(["END"], ["END", "more"], ["", "", ""], "END", id="nothing after a match"),
        pytest.param(["xyz", "b"], ["abc"], ["a", ""], "b", id="the existing one"),
        pytest.param(["abc", "b"], ["abc"], ["a", ""], "b", id="the first complete one"),
        pytest.param(["bc", "abc"], ["xabc"], ["x", ""], "abc", id="else the longer one"),
        pytest.param(
            ["</block>"], ["<block>no</bl", "ock>"], ["<block>no", "", ""], "</block>", id="a tag"
        ),
        pytest.param(["\n\n"], ["a\n", "\nb"], ["a", "", ""], "\n\n", id="line ends"),
        pytest.param(["ä€😀"], ["xä", "€", "😀y"], ["x", "", "", ""], "ä€😀", id="any characters"),
        pytest.param(["a.b"], ["axb"], ["axb", ""], None, id="sequences are no patterns"),
    ],
)
def test_cutting(sequences, pieces, expected, matched):
    assert run(sequences, pieces) == (expected, matched)


def test_it_is_active_only_with_sequences():
    assert StopCutter(["a"]).is_active
    assert not StopCutter([]).is_active
    assert not StopCutter([""]).is_active


@settings(deadline=None)
@given(
    st.lists(st.text(alphabet="ab", min_size=1, max_size=3), min_size=1, max_size=3),
    st.lists(st.text(alphabet="abc", max_size=4), max_size=8),
)
def test_the_cut_does_not_depend_on_the_pieces(sequences, pieces):
    text = "".join(pieces)
    output, matched = run(sequences, pieces)
    by_letter, by_letter_matched = run(sequences, list(text))
    assert ("".join(output), matched) == ("".join(by_letter), by_letter_matched)
    assert not any(sequence in "".join(output) for sequence in sequences)
    assert (matched is None) == (not any(sequence in text for sequence in sequences))

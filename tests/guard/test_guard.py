"""
Detect regressions in the cost of a request or a chunk without timing.

The figures in `baseline.json` may grow by 10 %. If a larger growth is worth its cost, run
`python -m tests.guard.record` to record the new figures.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest

from tests.guard import counts, work

ROOM = 1.1
BASELINE = json.loads(Path(__file__).with_name("baseline.json").read_text())
CALLS = BASELINE["calls"].get(f"{sys.version_info.major}.{sys.version_info.minor}", {})
INSTRUCTIONS = BASELINE["instructions"].get(sys.version, {})


@pytest.fixture(scope="module")
def works():
    return work.make()


@pytest.mark.skipif(not CALLS, reason="no counts are recorded for this version of Python")
@pytest.mark.parametrize("name", list(CALLS))
def test_the_number_of_calls_has_not_grown(works, name):
    assert counts.calls_of(works[name]) <= CALLS[name] * ROOM


@pytest.mark.skipif(not CALLS, reason="no counts are recorded for this version of Python")
def test_every_workload_is_guarded(works):
    assert set(CALLS) == set(works)


def test_a_chunk_costs_the_same_late_in_a_stream(works):
    early = counts.calls_of(works["text chunk"])
    for _ in range(2000):
        works["text chunk"]()
    assert counts.calls_of(works["text chunk"]) == early


@pytest.mark.parametrize(
    "recorded", [each for each in BASELINE["instructions"].values() if "key" in each]
)
def test_affinity_costs_less_than_two_per_cent_of_a_turn(recorded):
    assert recorded["key of a session"] - recorded["key"] < 0.02 * recorded["turn"]


@pytest.mark.skipif(not INSTRUCTIONS, reason="no counts are recorded for this build of Python")
@pytest.mark.skipif(shutil.which("valgrind") is None, reason="there is no valgrind")
def test_the_number_of_instructions_has_not_grown():
    counted = counts.instructions_of_each()
    too_many = {name: n for name, n in counted.items() if n > INSTRUCTIONS[name] * ROOM}
    assert not too_many, f"recorded: {INSTRUCTIONS}"

"""Changes of the wall clock are told from the passing of time."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from ccproxy.supervisor.state.wall_clock import WallClock, describe_jump


class AdjustedClock:
    """The wall clock, *ahead* of the real time by some seconds."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead


@pytest.mark.parametrize(
    ("ahead", "is_jump"),
    [
        pytest.param(0.0, False, id="unchanged"),
        pytest.param(1800.0, False, id="half an hour, as time services correct"),
        pytest.param(7200.0, True, id="ahead"),
        pytest.param(-7200.0, True, id="back"),
    ],
)
def test_a_jump_is_what_the_clock_since_boot_does_not_explain(
    tmp_path: Path, ahead: float, *, is_jump: bool
) -> None:
    clock = AdjustedClock()
    WallClock(tmp_path, wall=clock).save()
    clock.ahead = ahead
    jump = WallClock(tmp_path, wall=clock).jump()
    assert jump == (pytest.approx(ahead, abs=5) if is_jump else 0.0)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "{}", json.dumps({"boot": "another", "wall": 0, "steady": 0})]
)
def test_without_an_earlier_check_the_clock_is_trusted(tmp_path: Path, text: str) -> None:
    (tmp_path / "clock.json").write_text(text)
    assert WallClock(tmp_path).jump() == 0.0


def test_a_jump_is_described_in_days_or_hours() -> None:
    assert [describe_jump(seconds) for seconds in (864000.0, 7200.0, -7200.0)] == [
        "clock moved by 10 d",
        "clock moved by 2 h",
        "clock moved by -2 h",
    ]

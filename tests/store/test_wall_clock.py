"""Changes of the wall clock are distinguished from the passing of time."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ccproxy.store.wall_clock import DISTRUST_SECONDS, WallClock, describe_jump


class Clocks:
    """A wall clock and a clock since boot, which advance together unless the wall clock is set."""

    def __init__(self) -> None:
        self.wall, self.steady = 1_800_000_000.0, 1_000.0

    def advance(self, seconds: float, *, wall: float = 0.0) -> None:
        """Let *seconds* pass, and move the wall clock by *wall* in addition."""
        self.steady += seconds
        self.wall += seconds + wall

    def jump(self, folder: Path, *, is_dry_run: bool = False) -> float:
        clock = WallClock(folder, wall=lambda: self.wall, steady=lambda: self.steady)
        return clock.jump(is_dry_run=is_dry_run)


@pytest.mark.parametrize(
    ("moved", "jump"),
    [
        pytest.param(0.0, 0.0, id="unchanged"),
        pytest.param(1800.0, 0.0, id="half an hour, as time services correct"),
        pytest.param(7200.0, 7200.0, id="ahead"),
        pytest.param(-7200.0, -7200.0, id="back"),
    ],
)
def test_a_jump_is_detected_with_the_clock_since_boot(
    tmp_path: Path, moved: float, jump: float
) -> None:
    clocks = Clocks()
    assert clocks.jump(tmp_path) == 0.0
    clocks.advance(5_000, wall=moved)
    assert clocks.jump(tmp_path) == jump


def test_every_process_distrusts_the_clock_for_a_day(tmp_path: Path) -> None:
    clocks = Clocks()
    clocks.jump(tmp_path)
    clocks.advance(60, wall=10 * DISTRUST_SECONDS)
    result = []
    for _ in range(25):
        result.append(clocks.jump(tmp_path))
        clocks.advance(3600)
    assert result == [10 * DISTRUST_SECONDS] * 24 + [0.0]


def test_a_corrected_clock_is_distrusted_too(tmp_path: Path) -> None:
    """Turns may have been stored with wrong times before the correction."""
    clocks = Clocks()
    clocks.jump(tmp_path)
    clocks.advance(60, wall=7200)
    clocks.jump(tmp_path)
    clocks.advance(60, wall=-7200)
    assert clocks.jump(tmp_path) == -7200


def test_a_dry_run_records_nothing(tmp_path: Path) -> None:
    clocks = Clocks()
    clocks.jump(tmp_path, is_dry_run=True)
    assert not (tmp_path / "clock.json").exists()
    assert clocks.jump(tmp_path / "missing") == 0.0
    assert not (tmp_path / "missing").exists()


@pytest.mark.parametrize(
    "text",
    [
        *("", "{", "[]", "{}", json.dumps({"boot": "another", "wall": 0, "steady": 0})),
        pytest.param(json.dumps({"boot": "b", "wall": 10**400, "steady": 0}), id="400 digits"),
    ],
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


def test_a_check_on_a_full_disk_is_not_an_error(tmp_path, disk_limit) -> None:
    clocks = Clocks()
    clocks.jump(tmp_path)
    clocks.advance(60, wall=7200)
    with disk_limit(10):
        assert clocks.jump(tmp_path) == 7200
    assert clocks.jump(tmp_path) == 7200, "compared with the last check that was recorded"


def test_after_a_reboot_the_clock_is_trusted_again(tmp_path, monkeypatch) -> None:
    clocks = Clocks()
    clocks.jump(tmp_path)
    clocks.advance(60, wall=10 * DISTRUST_SECONDS)
    assert clocks.jump(tmp_path) == 10 * DISTRUST_SECONDS
    monkeypatch.setattr("ccproxy.store.wall_clock.boot_id", lambda: "the next boot")
    clocks.steady = 5.0
    assert clocks.jump(tmp_path) == 0.0


def test_small_steps_are_not_a_jump(tmp_path) -> None:
    """A time service adjusts the clock in small steps; each check is compared with the last one."""
    clocks = Clocks()
    for _ in range(10):
        assert clocks.jump(tmp_path) == 0.0
        clocks.advance(600, wall=1800)

"""A figure and its goal."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Figure:
    """A measured value, and whether it meets its goal."""

    what: str
    value: float
    goal: str
    is_met: bool
    note: str = ""

    def __str__(self) -> str:
        mark = "ok  " if self.is_met else "FAIL"
        note = f"   {self.note}" if self.note else ""
        return f"  {mark} {self.what}: {self.value:g} ({self.goal}){note}"


def exactly(what: str, value: float, goal: float, note: str = "") -> Figure:
    """Return a figure that must equal *goal*."""
    return Figure(what, value, f"{goal:g}", value == goal, note)


def at_most(what: str, value: float, goal: float, note: str = "") -> Figure:
    """Return a figure that must not exceed *goal*."""
    return Figure(what, value, f"≤ {goal:g}", value <= goal, note)

"""A figure and its goal."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Figure:
    """What was measured, and whether it is good enough."""

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
    """A figure that has to be *goal*."""
    return Figure(what, value, f"{goal:g}", value == goal, note)


def at_most(what: str, value: float, goal: float, note: str = "") -> Figure:
    """A figure that must not be more than *goal*."""
    return Figure(what, value, f"≤ {goal:g}", value <= goal, note)

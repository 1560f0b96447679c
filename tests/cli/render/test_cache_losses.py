"""The cost of prompt cache misses."""

from __future__ import annotations

import pytest

from ccproxy.cli.render.cache_losses import MAX_LOSSES, cache_lines
from ccproxy.ipc.activity import CacheLoss, RequestTimeline


def request(number, cause="tool_added", *, cost: float | None = 0.5, label="Kimi"):
    loss = CacheLoss(
        cause=cause, block="tools[3] Read", before=9000, after=1000, lost=8000, cost=cost
    )
    return RequestTimeline(
        id=f"req_{number:012d}",
        label=label,
        state="done",
        started=1_760_000_000.0 + number,
        session="0123456789abcdef",
        cache_loss=loss if cause else None,
    )


def test_nothing_was_lost():
    assert cache_lines([request(1, "")], width=None) == []


def test_losses_are_summed_by_cause():
    lines = cache_lines(
        [request(1), request(2, cost=None), request(3, "ttl", label="GLM")], width=None
    )
    assert [line.split() for line in lines[1:3]] == [
        ["Kimi", "tool", "added", "2", "16,000", "$0.50+"],
        ["GLM", "ttl", "1", "8,000", "$0.50"],
    ]
    assert "01234567  Kimi   a tool was added (tools[3] Read)" in lines[5]
    assert "9,000 → 1,000" in lines[5]
    assert len(lines) == 8


def test_the_list_is_bounded():
    lines = cache_lines([request(number) for number in range(50)], width=None)
    assert len(lines) == 2 + 2 + MAX_LOSSES
    assert lines[1].split()[3:5] == ["50", "400,000"]


@pytest.mark.parametrize("width", [70, 100])
def test_it_fits(width):
    assert max(map(len, cache_lines([request(1)], width=width)[:5])) <= width

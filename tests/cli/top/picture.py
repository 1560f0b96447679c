"""
Draw the picture of `ccproxy top` in the documentation.

    python -m tests.cli.top.picture docs/top.svg
"""

from __future__ import annotations

import asyncio
import re
import sys
import time
from dataclasses import replace
from pathlib import Path

from ccproxy.cli.top.dashboard import Dashboard
from ccproxy.cli.top.fleet_view import Snapshot
from ccproxy.ipc.activity import CacheLoss, FailedAttempt
from ccproxy.ipc.control_messages import Traffic
from ccproxy.store.usage_totals import Totals
from tests.cli.top.test_view_text import KIMI, OUT, READY, request

SIZE = (120, 20)


class _Source:
    def snapshot(self) -> Snapshot:
        """Return a fleet with a key that is cooling down."""
        now = time.mktime((2026, 1, 5, 14, 7, 0, 0, 0, -1))
        refused = FailedAttempt(at=0.4, key=OUT.tail, status=429)
        loss = CacheLoss(cause="tool_added", block="tools[12] mcp__db", lost=41_000)
        glm = replace(
            KIMI,
            label="GLM-5",
            state="ready",
            reason=None,
            keys={"ready": 1, "total": 1},
            key_rows=(READY,),
            traffic=Traffic(
                requests_per_minute=4,
                output_tokens_per_s=61,
                ttft_median_s=0.8,
                ttft_p95_s=1.9,
                history=(1, 1, 0, 2, 3, 1, 0, 1, 2, 4),
            ),
        )
        usage = {"input": 2100, "cached": 88_000, "output": 740, "cost": 0.031, "stream": True}
        times = {"first_byte_s": 1.1, "total_s": 14.2}
        glm_model = {"label": "GLM-5", "model": "glm-5.3"}
        return Snapshot(
            at=now,
            rows=(KIMI, glm),
            today={
                "Kimi": Totals(requests=214, cost=3.12),
                "GLM-5": Totals(requests=61, cost=1.07),
            },
            running=(
                request(9, started=now, state="running", status=0, chunks=212, first_byte_s=0.9),
            ),
            recent=(
                request(8, started=now - 9, failures=(refused,), **usage, **times),
                request(7, started=now - 20, cache_loss=loss, **glm_model, **usage, **times),
                request(
                    6,
                    started=now - 31,
                    state="failed",
                    status=502,
                    error="api_error",
                    reason="no answer from api.example.com: connection refused",
                    total_s=0.2,
                ),
                request(5, started=now - 44, **glm_model, **usage, **times),
            ),
        )


async def draw(path: Path) -> None:
    """Write the picture to *path*."""
    app = Dashboard(_Source(), run=lambda _: "", url_of=str, interval=3600)
    async with app.run_test(size=SIZE) as pilot:
        await pilot.pause()
        picture = app.export_screenshot(title="ccproxy top")
    # Without web fonts: the reader's own are used, and nothing is downloaded.
    path.write_text(re.sub(r"@font-face \{.*?\}\s*", "", picture, flags=re.DOTALL))


if __name__ == "__main__":
    asyncio.run(draw(Path(sys.argv[1])))

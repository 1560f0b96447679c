"""Record the current costs for this Python: `python -m tests.guard.record`."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

from tests.guard import counts, work

FILE = Path(__file__).with_name("baseline.json")


def main() -> None:
    """Count, and replace this Python's figures in the file."""
    recorded = json.loads(FILE.read_text()) if FILE.exists() else {"calls": {}, "instructions": {}}
    calls = {name: counts.calls_of(one) for name, one in work.make().items()}
    recorded["calls"][f"{sys.version_info.major}.{sys.version_info.minor}"] = calls
    if shutil.which("valgrind"):
        recorded["instructions"][sys.version] = counts.instructions_of_each(
            {**counts.TIMES, **counts.RECORDED_TIMES}
        )
    FILE.write_text(json.dumps(recorded, indent=2, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()

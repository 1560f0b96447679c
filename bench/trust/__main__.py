"""The command: execute the named runs, or all; exit with 1 if a goal was missed."""

from __future__ import annotations

import asyncio
import resource
import sys
import time
from collections.abc import Callable, Coroutine
from typing import Any

from bench.trust import everything, keys, leaving, status_line, streams, watching
from bench.trust.figures import Figure

RUNS: dict[str, Callable[[], Coroutine[Any, Any, list[Figure]]]] = {
    "broken-streams": streams.broken_streams,
    "six-phases": leaving.six_phases,
    "failover": keys.failover,
    "fairness": keys.fairness,
    "limited-address": keys.limited_address,
    "dead-provider": keys.dead_provider,
    "stalled-readers": streams.stalled_readers,
    "silent-clients": streams.silent_clients,
    "many-streams": streams.many_streams,
    "watched-streams": watching.watched_streams,
    "status-line": status_line.status_line,
    "dying-connections": keys.dying_connections,
    "all": everything.one_good_key,
    "all-fair": everything.three_good_keys,
}


def main() -> int:
    """Execute the runs and print their figures."""
    names = sys.argv[1:] or list(RUNS)
    unknown = [name for name in names if name not in RUNS]
    if unknown:
        sys.stderr.write(f"no run is called {unknown[0]}; there are {', '.join(RUNS)}\n")
        return 2
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    missed = 0
    for name in names:
        began = time.monotonic()
        figures = asyncio.run(RUNS[name]())
        doc = (RUNS[name].__doc__ or "").strip().splitlines()[0]
        print(f"{name}: {doc}   {time.monotonic() - began:.0f} s")
        print("\n".join(map(str, figures)), flush=True)
        missed += sum(not figure.is_met for figure in figures)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())

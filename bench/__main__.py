"""The command: start all targets, take samples in turn, print the tables."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import os
import resource
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import uvloop

from bench import fleet, report, targets
from bench.scenarios import QUICK, SCENARIOS, Rig, Sample, Scenario, take_sample
from bench.targets import NotStarted, Setup, Target

FLEETS = (1, 4, 32)


def main() -> None:
    """Parse the options and run the benchmark."""
    options = _options()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # inherited by every target
    with tempfile.TemporaryDirectory(prefix="ccproxy-bench-") as folder:
        _run(options, Path(folder))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    names = [scenario.name for scenario in SCENARIOS]
    add = parser.add_argument
    add("--only", nargs="+", choices=names, metavar="SCENARIO", help=", ".join(names))
    add("--quick", action="store_true", help="a few scenarios, one minute")
    add("--targets", nargs="+", metavar="NAME", help="measure only these and the bare relay")
    add("--peers", action="store_true", help="also LiteLLM and claude-code-router (installs them)")
    add("--no-fleet", action="store_true", help="leave out start-up and commands")
    add("--results", type=Path, default=report.RESULTS, help="folder for the JSON")
    add("--rounds", type=int, default=3, help="samples of each figure (3)")
    add("--seconds", type=float, default=1.5, help="length of one sample (1.5)")
    add(
        "--minutes",
        type=float,
        default=15,
        help="end after this time with the samples taken so far (15)",
    )
    return parser.parse_args()


def _run(options: argparse.Namespace, folder: Path) -> None:
    deadline = time.monotonic() + options.minutes * 60
    with contextlib.ExitStack() as stack:
        port = stack.enter_context(targets.upstream(folder, options.minutes * 60 + 120))
        setup = Setup(folder=folder, upstream_port=port)
        running = list(_started(stack, setup, options))
        if (os.cpu_count() or 1) > 1:
            os.sched_setaffinity(0, {0})
        rig = Rig(upstream_port=port, seconds=options.seconds)
        scenarios = [one for one in SCENARIOS if one.name in (options.only or _all(options))]
        measuring = _measure(rig, scenarios, running, rounds=options.rounds, deadline=deadline)
        samples = uvloop.run(measuring)
        os.sched_setaffinity(0, range(os.cpu_count() or 1))
        fleets = {} if options.only or options.no_fleet else _measure_fleets(setup)
    content = _report(scenarios, running, samples, fleets)
    print(f"\n{report.write_json(options.results, content)}")


def _all(options: argparse.Namespace) -> Sequence[str]:
    return QUICK if options.quick else [scenario.name for scenario in SCENARIOS]


def _started(
    stack: contextlib.ExitStack, setup: Setup, options: argparse.Namespace
) -> Iterator[Target]:
    """Start every available target; report the unavailable ones."""
    makers = {
        "bare": targets.bare(setup),
        "ccproxy": targets.ccproxy(setup),
        "ccproxy-responses": targets.ccproxy(setup, api="responses"),
        "ccproxy-direct": targets.ccproxy(setup, api="messages"),
        "ccproxy-rotation": targets.ccproxy(setup, name="ccproxy-rotation"),
        "ccproxy-affinity": targets.ccproxy(setup, name="ccproxy-affinity"),
        "ccproxy-redis": targets.ccproxy_with_redis(setup),
        "nginx": targets.nginx(setup),
    }
    if options.peers:
        makers |= {
            "litellm": targets.litellm(setup),
            "router": targets.claude_code_router(setup),
        }
    for name, maker in makers.items():
        if options.targets and name not in ("bare", *options.targets):
            continue
        try:
            yield from stack.enter_context(maker)
        except (NotStarted, OSError) as error:
            _log(f"without {name}: {error}")


async def _measure(
    rig: Rig,
    scenarios: Sequence[Scenario],
    running: Sequence[Target],
    *,
    rounds: int,
    deadline: float,
) -> dict[tuple[str, str], list[Sample]]:
    """Take every sample; targets alternate, so that a slow phase of the machine affects all."""
    gc.freeze()
    samples: dict[tuple[str, str], list[Sample]] = {}
    overloaded: set[tuple[str, str]] = set()
    for scenario in scenarios:
        times = 1 if scenario.family == "memory" else rounds * scenario.parts
        for number in range(times):
            for target in running:
                if not scenario.suits(target) or (scenario.family, target.name) in overloaded:
                    continue
                if time.monotonic() > deadline:
                    _log("time is up: the table holds what there is (--minutes)")
                    return samples
                _progress(f"{scenario.name} {number + 1}/{times} {target.name}")
                sample = await take_sample(rig, scenario, target)
                samples.setdefault((scenario.name, target.name), []).append(sample)
                if sample.get("failures", 0) > sample.get("answers", 0):
                    overloaded.add((scenario.family, target.name))
    return samples


def _measure_fleets(setup: Setup) -> dict[str, dict[str, dict[str, float]]]:
    figures: dict[str, dict[str, dict[str, float]]] = {"start": {}}
    for workers in FLEETS:
        _progress(f"start {workers}")
        figures["start"][f"{workers} workers"] = fleet.start_up(setup, workers)
    figures["commands"] = {"fastest": fleet.commands(setup)}
    return figures


def _report(
    scenarios: Sequence[Scenario],
    running: Sequence[Target],
    samples: dict[tuple[str, str], list[Sample]],
    fleets: dict[str, dict[str, dict[str, float]]],
) -> dict[str, Any]:
    """Print the tables; return the content of the JSON file."""
    machine = report.machine()
    print("\n" + ", ".join(f"{name} {value}" for name, value in machine.items()), end="\n\n")
    print(report.table(scenarios, running, samples))
    for title, values in fleets.items():
        print("\n" + report.pairs(title, values))
    for line in report.failures(samples):
        print(line)
    return {
        "machine": machine,
        "fleets": fleets,
        "samples": [
            {"scenario": scenario, "target": target, "samples": taken}
            for (scenario, target), taken in samples.items()
        ],
    }


def _log(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _progress(text: str) -> None:
    if sys.stderr.isatty():
        print(f"{text:<60}", end="\r", file=sys.stderr, flush=True)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt, asyncio.CancelledError):
        main()

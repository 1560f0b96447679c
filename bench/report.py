"""Tables for people and JSON for programs."""

from __future__ import annotations

import json
import platform
import statistics
import time
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from bench.scenarios import Sample, Scenario
from bench.targets import Target

RESULTS = Path(__file__).parent / "results"
Samples = Mapping[tuple[str, str], Sequence[Sample]]
"""Lists of samples, by scenario and target."""


def median(samples: Iterable[Sample], field: str) -> float:
    """Return the median of *field* over the samples that have it, or NaN if none has."""
    return _median(value for sample in samples if (value := sample.get(field)) is not None)


def ratio(samples: Sequence[Sample], base: Sequence[Sample], field: str) -> float:
    """
    Return the median ratio of *field* to its *base* in the same round, or NaN if there is none.

    The speed of a shared machine varies over time; only samples of one round are comparable.
    """
    both = [(one.get(field), other.get(field)) for one, other in zip(samples, base, strict=False)]
    return _median(ours / theirs for ours, theirs in both if ours is not None and theirs)


def _median(values: Iterable[float]) -> float:
    numbers = [value for value in values if value == value]
    return statistics.median(numbers) if numbers else float("nan")


def table(scenarios: Sequence[Scenario], targets: Sequence[Target], samples: Samples) -> str:
    """Return one line per figure, one column per target, with its `ratio` to bare aiohttp."""
    rows = [["", "", *(target.name for target in targets)]]
    for scenario in scenarios:
        for field, unit in {scenario.figure: scenario.unit, **scenario.others}.items():
            cells = [_cell(scenario.name, field, target, samples) for target in targets]
            if any(cells):
                title = scenario.title if field == scenario.figure else ""
                rows.append([title, unit, *cells])
    return _aligned(rows)


def pairs(title: str, values: Mapping[str, Mapping[str, float]]) -> str:
    """Return one line per key of *values*, one column per inner key."""
    columns = list(dict.fromkeys(name for row in values.values() for name in row))
    rows = [[title, *columns]]
    for name, row in values.items():
        rows.append([name, *(_number(row.get(column, float("nan"))) for column in columns)])
    return _aligned(rows)


def write_json(folder: Path, content: Mapping[str, Any]) -> Path:
    """Write *content* to a new file in *folder*; return the file."""
    folder.mkdir(exist_ok=True)
    file = folder / time.strftime("%Y%m%d-%H%M%S.json")
    file.write_text(json.dumps(content, indent=1))
    return file


def machine() -> dict[str, str]:
    """Describe the machine and the versions on which the figures depend."""
    cpu = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    libraries = {name: _version(name) for name in ("aiohttp", "uvloop", "msgspec")}
    when = time.strftime("%Y-%m-%d %H:%M")
    return {"cpu": cpu, "python": platform.python_version(), **libraries, "when": when}


def failures(samples: Samples) -> list[str]:
    """Return a sentence for each target with failed requests."""
    lines = []
    for (scenario, target), runs in samples.items():
        failed = sum(sample.get("failures", 0) for sample in runs)
        if failed:
            answers = sum(sample.get("answers", 0) for sample in runs)
            lines.append(f"{target}, {scenario}: {failed:.0f} failed, {answers:.0f} answered")
    return lines


def _cell(scenario: str, field: str, target: Target, samples: Samples) -> str:
    own = samples.get((scenario, target.name), ())
    value = median(own, field)
    if value != value:
        return ""
    compared = ratio(own, samples.get((scenario, target.baseline), ()), field)
    is_shown = target.name != target.baseline and compared == compared
    return _number(value) + (f" ({compared:.2f}×)" if is_shown else "")


def _number(value: float) -> str:
    if value != value:
        return ""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _aligned(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    lines.insert(1, "-|-".join("-" * width for width in widths))
    return "\n".join(lines)


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"

"""
Counters, gauges and histograms in the Prometheus text format.

A worker has a few dozen series, so they are kept in dicts that are formatted on request; the usual
client library would add 30 ms to start-up and several microseconds to each observation.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal, NamedTuple

Labels = tuple[str, ...]
"""The values of the labels, in the order of their names."""
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Metric(NamedTuple):
    """The declaration of a metric."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    meaning: str
    labels: Labels = ()
    """The names of its labels, except `entry`."""


class Histogram:
    """Counts observations in buckets, separately for each set of label values."""

    def __init__(self, buckets: Sequence[float]) -> None:
        self._buckets = tuple(buckets)
        self._counts: dict[Labels, list[int]] = {}
        self._sums: Counter[Labels] = Counter()

    def observe(self, value: float, labels: Labels = ()) -> None:
        """Record *value*."""
        counts = self._counts.get(labels)
        if counts is None:
            counts = self._counts[labels] = [0] * (len(self._buckets) + 1)
        counts[bisect_left(self._buckets, value)] += 1
        self._sums[labels] += value  # type: ignore[assignment] # a sum of seconds

    def series(self, names: Labels) -> Iterator[tuple[str, dict[str, str], float]]:
        """Yield the name suffix, labels and value of each series."""
        for values, counts in self._counts.items():
            labels = dict(zip(names, values, strict=True))
            total = 0
            for bound, count in zip((*self._buckets, None), counts, strict=True):
                total += count
                yield "_bucket", {**labels, "le": "+Inf" if bound is None else f"{bound:g}"}, total
            yield "_sum", labels, self._sums[values]
            yield "_count", labels, total


class Exposition:
    """Collects the lines of one response."""

    def __init__(self, entry: str) -> None:
        self._entry = entry
        """The value of the `entry` label, which every series has."""
        self._lines: list[str] = []

    def add(self, metric: Metric, values: Mapping[Labels, float]) -> None:
        """Add the series of a counter or gauge."""
        self._head(metric)
        for labels, value in values.items():
            self._line(metric.name, dict(zip(metric.labels, labels, strict=True)), value)

    def add_histogram(self, metric: Metric, histogram: Histogram) -> None:
        """Add the series of a histogram."""
        self._head(metric)
        for suffix, labels, value in histogram.series(metric.labels):
            self._line(f"{metric.name}{suffix}", labels, value)

    def text(self) -> str:
        """Return the body of the response."""
        return "\n".join([*self._lines, ""])

    def _head(self, metric: Metric) -> None:
        name = metric.name
        self._lines += [f"# HELP {name} {metric.meaning}", f"# TYPE {name} {metric.kind}"]

    def _line(self, name: str, labels: Mapping[str, str], value: float) -> None:
        pairs = {"entry": self._entry, **labels}.items()
        text = ",".join(f'{label}="{_escape(content)}"' for label, content in pairs)
        self._lines.append(f"{name}{{{text}}} {value!r}")


def _escape(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")

"""The next step that commands suggest: the same text everywhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ccproxy.config.worker_config import WorkerConfig


def next_step(labels: Sequence[str], workers: Mapping[str, WorkerConfig]) -> str:
    """
    Return `Next:  ccproxy run LABEL -- claude` with the newest of *labels*, or an empty string.

    `init` adds new providers at the end of the table, so the user probably wants to try the last
    label. The demo provider is suggested only if there is no other.
    """
    real = [label for label in labels if label in workers and not workers[label].serves_demo]
    candidates = real or labels
    return f"Next:  ccproxy run {candidates[-1]} -- claude" if candidates else ""

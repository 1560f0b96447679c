"""The object `reasoning`: effort and summary."""

from __future__ import annotations

from typing import Any

from ccproxy.convert.common.effort import EFFORTS, ReasoningRequest, nearest_effort
from ccproxy.providers.quirks import Quirks


def reasoning_object(requested: ReasoningRequest, quirks: Quirks, *, hide: bool) -> dict[str, Any]:
    """
    Return `reasoning`; empty if the model does not reason or the client requests nothing.

    *hide*: the reasoning is not shown to the client, so no summary is needed.
    """
    if quirks.reasoning not in ("effort", "openrouter"):
        return {}
    fields: dict[str, Any] = {}
    if effort := _effort(requested, quirks):
        fields["effort"] = effort
    if quirks.reasoning_summary and requested.thinks and not hide:
        fields["summary"] = "auto"
    return fields


def _effort(requested: ReasoningRequest, quirks: Quirks) -> str | None:
    if requested.thinks is False:
        return min(quirks.efforts, key=EFFORTS.index, default=None)
    if effort := requested.effort_or_budget():
        return nearest_effort(effort, quirks.efforts)
    # A model that accepts "none" may not reason without an effort.
    return "medium" if requested.thinks and "none" in quirks.efforts else None

"""Measures a model: sends small requests and saves the profile."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import msgspec

from ccproxy.config.catalogue.measured_profiles import (
    MeasuredModel,
    Profiles,
    measured_quirks,
    profiles_path,
    read_profiles,
    save_profile,
)
from ccproxy.errors import CcproxyError, Problem
from ccproxy.ipc.control_messages import ProbeReply, Refusal
from ccproxy.providers.measurement import (
    MOST_REQUESTS,
    UNMEASURED,
    Measurement,
    differences,
    overflow_tokens,
    why_no_overflow,
)
from ccproxy.worker.probing.limit_probe import MeasuredLimits, measure_limits
from ccproxy.worker.probing.probe_client import ProbeClient, schema_forms
from ccproxy.worker.worker import Worker


async def probe(
    worker: Worker, model: str, *, most: float | None, overflow: bool = False
) -> ProbeReply | Refusal:
    """
    Measure *model* for at most *most* dollars; if None, only return the estimated cost.

    With *overflow*, also send a request that is too long for the model.
    """
    model = model or worker.config.models.big or ""
    if not model:
        return Refusal(error="the entry has no model\n  fix: name one with --model")
    client = ProbeClient(worker, model)
    if most is None:
        return _plan(client, worker.config.target(model, "chat").window if overflow else None)
    measurement = Measurement(model, schemas=schema_forms())
    try:
        stopped = await _measure(client, measurement, most)
        limits = None
        if not stopped:
            limits = await measure_limits(worker, client, measurement, overflow=overflow)
        differs = save_measured(worker, model, measurement.quirks, limits)
    except Problem as problem:
        cause = "" if problem.kind == "billing_error" else "the provider does not answer: "
        return Refusal(error=cause + problem.message)
    except OSError as error:
        return Refusal(error=f"the profile cannot be written: {error.strerror}")
    except (CcproxyError, ValueError) as error:
        return Refusal(error=str(error))
    log_measured(worker, model, client, differs)
    return ProbeReply(
        model=model,
        requests=client.requests,
        dollars=_rounded(client.spent),
        measured=len(measurement.quirks),
        differs=tuple(f"{name}: {_text(value)}" for name, value in sorted(differs.items())),
        unmeasured=tuple(UNMEASURED),
        stopped=stopped,
        limits=tuple(limits.lines) if limits else (),
    )


def _plan(client: ProbeClient, window: int | None) -> ProbeReply:
    """Return the maximum cost of a measurement; with a *window*, also of the too-long request."""
    reply = ProbeReply(
        model=client.model, requests=MOST_REQUESTS, dollars=_rounded(client.estimate)
    )
    if window is None or why_no_overflow(window):
        return reply
    tokens = overflow_tokens(window)
    dollars = _rounded(client.price(tokens))
    return replace(reply, overflow_tokens=tokens, overflow_dollars=dollars)


async def _measure(client: ProbeClient, measurement: Measurement, most: float) -> bool:
    """Send the requests; return True if the limit ended the measurement."""
    steps = measurement.steps()
    body = next(steps)
    while client.dollars < most:
        outcome = await client.send(body)
        try:
            body = steps.send(outcome)
        except StopIteration:
            return False
    return True


def save_measured(
    worker: Worker,
    model: str,
    quirks: Mapping[str, Any],
    limits: MeasuredLimits | None = None,
) -> Mapping[str, Any]:
    """
    Save *quirks* in the profile of *model*; return those that differ from the assumed ones.

    A complete measurement also has *limits* and replaces the profile; otherwise, the profile keeps
    its other quirks and its limits.

    Raises:
        OSError: If the profile cannot be written.
    """
    config = worker.config
    path = profiles_path(worker.session.recorder.state, config.base_url)
    earlier = read_profiles(path) if limits is None else None
    profile = earlier.models.get(model) if earlier else None
    merged = {**measured_quirks(earlier).get(model, {}), **quirks}
    if limits is None:
        limits = MeasuredLimits(
            max_output=profile.max_output if profile else None,
            overflow=profile.overflow if profile else "",
        )
    assumed = replace(config, measured={}).target(model, "chat").quirks
    measured = MeasuredModel(
        date=time.strftime("%Y-%m-%d", time.gmtime()),
        quirks=merged,
        differs=tuple(sorted(differences(merged, assumed))),
        max_output=limits.max_output,
        overflow=limits.overflow,
    )
    profiles = Profiles(base_url=config.base_url, provider=config.provider)
    save_profile(path, profiles, model, measured)
    return differences(quirks, assumed)


def log_measured(
    worker: Worker, model: str, client: ProbeClient, differs: Mapping[str, Any]
) -> None:
    """Log the end of a measurement."""
    worker.logs.events.info(
        "model.measured",
        model=model,
        requests=client.requests,
        usd=_rounded(client.spent),
        differs=sorted(differs),
    )


def _rounded(dollars: float | None) -> float | None:
    return None if dollars is None else round(dollars, 6)


def _text(value: object) -> str:
    return msgspec.json.encode(value).decode()

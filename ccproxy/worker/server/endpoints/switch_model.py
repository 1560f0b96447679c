"""GET /models and POST /switch_model: which models and presets there are, and changing to them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from aiohttp import web

from ccproxy.errors import Problem, UsageError
from ccproxy.routing.switching import NO_SWITCH, ModelSwitch, resolve_switch
from ccproxy.routing.tiers import TIERS
from ccproxy.store.overrides import write_switch
from ccproxy.worker.server.endpoints.conversation import json_of
from ccproxy.worker.server.endpoints.health import json_response
from ccproxy.worker.server.http import ClientRequest
from ccproxy.worker.state import Worker


async def models_and_presets(request: ClientRequest) -> web.Response:
    """Row H07: the models of every entry, and every preset."""
    worker = request.worker
    workers = worker.chooser.workers()
    presets = worker.chooser.table.routing_tables.presets
    body = {
        "models": {label: config.models.listed() for label, config in workers.items()},
        "presets": {
            name: {tier: tiers.of(tier) for tier in TIERS} for name, tiers in presets.items()
        },
        "current": _current(worker),
    }
    return json_response(body)


async def switch_model(request: ClientRequest) -> web.Response:
    """
    Rows H05, H06 and H08: answer with other models from the next request on.

    Raises:
        Problem: 400 with what there is, if a name means nothing; then nothing is changed.

    """
    worker = request.worker
    fields = await json_of(request)
    preserve = fields.get("preserve_conversation", True)
    if not isinstance(preserve, bool):
        raise Problem("invalid_request_error", "preserve_conversation must be true or false")
    try:
        switch = _wanted(worker, fields)
    except UsageError as error:
        raise Problem("invalid_request_error", str(error)) from error
    await asyncio.to_thread(write_switch, worker.chooser.switch_file, switch)
    if not preserve:
        await worker.session.history.clear()
    now = _current(worker)
    worker.session.inspector.note("model_switch", **now)
    worker.log.info("models.switched", **now)
    what = f"switched to {switch.name}" if switch.name else "back to the env file's models"
    return json_response({"message": what, "preserved_conversation": preserve, **now})


def _wanted(worker: Worker, fields: Mapping[str, Any]) -> ModelSwitch:
    label, workers = worker.config.label, worker.chooser.workers()
    words = {tier: fields.get(f"{tier}_model") or fields.get(tier) for tier in TIERS}
    given = {
        name: word for name, word in (words | {"preset": fields.get("preset")}).items() if word
    }
    if not all(isinstance(word, str) for word in given.values()):
        raise UsageError("preset, big_model, middle_model and small_model must be names")
    if fields.get("reset") is True and not given:
        return NO_SWITCH
    return resolve_switch(
        given,
        label=label,
        entries=workers,
        presets=worker.chooser.table.routing_tables.presets,
        current=worker.chooser.switch,
    )


def _current(worker: Worker) -> dict[str, Any]:
    tiers = worker.tiers()
    named = {f"{tier}_model": tiers[tier] for tier in TIERS}
    return {**named, "preset": worker.chooser.switch.preset}

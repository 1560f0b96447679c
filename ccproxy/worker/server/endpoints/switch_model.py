"""POST /switch_model: use other models from the next request on."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from aiohttp import web

from ccproxy.errors import Problem, UsageError
from ccproxy.routing.switching import NO_SWITCH, ModelSwitch, resolve_switch
from ccproxy.routing.tiers import TIERS
from ccproxy.store.overrides import write_switch
from ccproxy.worker.server.http import ClientRequest
from ccproxy.worker.server.json_response import json_of, json_response
from ccproxy.worker.worker import Worker


async def switch_model(request: ClientRequest) -> web.Response:
    """
    Switch to other models, or back to those in the env file.

    Raises:
        Problem: 400 with the valid names, if a name is unknown; nothing is changed in that case.
    """
    worker = request.worker
    fields = await json_of(request)
    preserve = fields.get("preserve_conversation", True)
    if not isinstance(preserve, bool):
        raise Problem("invalid_request_error", "preserve_conversation must be true or false")
    try:
        switch = _requested_switch(worker, fields)
    except UsageError as error:
        raise Problem("invalid_request_error", str(error)) from error
    await asyncio.to_thread(write_switch, worker.chooser.switch_file, switch)
    if not preserve:
        await worker.session.history.clear()
    models = current_models(worker)
    worker.session.inspector.note("model_switch", **models)
    worker.logs.events.info("models.switched", **models)
    text = f"switched to {switch.name}" if switch.name else "back to the env file's models"
    return json_response({"message": text, "preserved_conversation": preserve, **models})


def current_models(worker: Worker) -> dict[str, Any]:
    """Return the models of the tiers, and their preset."""
    tiers = worker.chooser.tiers()
    models = {f"{tier}_model": tiers[tier] for tier in TIERS}
    return {**models, "preset": worker.chooser.switch.preset}


def _requested_switch(worker: Worker, fields: Mapping[str, Any]) -> ModelSwitch:
    label, workers = worker.config.label, worker.chooser.workers()
    values: dict[str, Any] = {"preset": fields.get("preset")}
    values |= {tier: fields.get(f"{tier}_model") or fields.get(tier) for tier in TIERS}
    names = {field: value for field, value in values.items() if value}
    if not all(isinstance(name, str) for name in names.values()):
        raise UsageError("preset, big_model, middle_model and small_model must be names")
    if fields.get("reset") is True and not names:
        return NO_SWITCH
    return resolve_switch(
        names,
        label=label,
        entries=workers,
        presets=worker.chooser.table.routing_tables.presets,
        current=worker.chooser.switch,
    )

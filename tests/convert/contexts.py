"""Contexts for tests of conversion."""

from __future__ import annotations

from typing import Any

from ccproxy.convert.common.thinking import Signer
from ccproxy.convert.common.token_estimate import Calibration
from ccproxy.convert.context import ConversionContext
from ccproxy.providers.quirks import Quirks, Target
from ccproxy.routing.tiers import ModelMap


def rules(
    *, window: int | None = None, max_output: int | None = None, **more: Any
) -> ConversionContext:
    """Return the context for the models up-big and up-small."""
    quirks = more.pop("quirks", Quirks())

    def target(model: str) -> Target:
        limits: dict[str, Any] = {"window": window, "max_output": max_output}
        return Target(provider="up", model=model, quirks=quirks, **limits)

    fixed = {
        "pick_model": ModelMap(big="up-big", middle="up-big", small="up-small").pick,
        "target": target,
        "signer": Signer(b"key"),
        "calibration": Calibration(),
    }
    return ConversionContext(**{**fixed, **more})

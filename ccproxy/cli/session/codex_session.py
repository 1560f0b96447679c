"""
Settings that make Codex CLI use one proxy: configuration overrides, and a variable for the key.

`-c` overrides apply to one run. No file is edited, and CODEX_HOME is unchanged, so that the user's
own settings, skills and history keep working. The overrides precede the user's arguments, which
therefore win. All of this was tested with Codex CLI 0.171.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Final

from ccproxy.cli.session.claude_environment import TOKEN, Limits, Session

KEY: Final = "CCPROXY_CLIENT_KEY"
"""The variable that holds the proxy's key; every user of the machine could read an argument."""
_PROVIDER: Final = "ccproxy"


def codex_overrides(
    session: Session, limits: Limits, *, label: str, model: str | None
) -> list[str]:
    """
    Return the arguments that select the proxy of *session* and, unless it is None, *model*.

    Codex has built-in context windows only for OpenAI's models, so the model's window is passed.
    """
    provider = {
        "name": f"{label} by ccproxy",
        "base_url": f"{session['ANTHROPIC_BASE_URL']}/v1",
        "env_key": KEY,
        "wire_api": "responses",
    }
    table = ", ".join(f"{name} = {json.dumps(value)}" for name, value in provider.items())
    overrides = {
        "model_provider": json.dumps(_PROVIDER),
        f"model_providers.{_PROVIDER}": f"{{{table}}}",
    }
    if model is not None:
        overrides["model"] = json.dumps(model)
        if window := limits.windows.get(model):
            overrides["model_context_window"] = str(window)
    return [argument for name, value in overrides.items() for argument in ("-c", f"{name}={value}")]


def codex_environment(session: Session, environ: Mapping[str, str]) -> dict[str, str]:
    """Return *environ*, the environment of *session*, with the proxy's key added."""
    return {**environ, KEY: session[TOKEN] or ""}

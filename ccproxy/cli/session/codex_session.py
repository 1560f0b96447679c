"""
Settings that make Codex CLI use one proxy: configuration overrides, and a variable for the key.

`-c` overrides apply to one run. No file is edited, and CODEX_HOME stays, so that the user's own
settings, skills and history work as before. The overrides come before the user's arguments, which
therefore win. All of this was tested with Codex CLI 0.171.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Final

from ccproxy.cli.session.claude_environment import TOKEN, Limits, Session

KEY: Final = "CCPROXY_CLIENT_KEY"
"""The variable with the proxy's key: every user of the machine can read a process's arguments."""
_PROVIDER: Final = "ccproxy"


def codex_overrides(
    session: Session, limits: Limits, *, label: str, model: str | None
) -> list[str]:
    """
    Return the arguments that select the proxy of *session*, and its *model* if it has a name.

    Codex has context windows for OpenAI's models only, so the window of other models is passed.
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
    """Return *environ*, which belongs to *session*, with the key of the proxy."""
    return {**environ, KEY: session[TOKEN] or ""}

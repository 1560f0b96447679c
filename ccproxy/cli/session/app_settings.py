"""
Settings that make other programs use a proxy: the VS Code extension, JetBrains, Claude Desktop.

The extension reads `claudeCode.environmentVariables` in VS Code's settings.json and otherwise asks
for a login. The JetBrains plugin runs a command in the IDE's terminal. Claude Desktop, with Cowork,
accepts a gateway in "third-party inference" and lists only models with Claude model names.
Pure, except that the location of settings.json depends on the platform.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ccproxy.cli.session.claude_environment import MANAGED, TOKEN, Session
from ccproxy.files import home_folder

VARIABLES = "claudeCode.environmentVariables"
NO_LOGIN = "claudeCode.disableLoginPrompt"
_TIER_NAMES = {"OPUS": "claude-opus-4-8", "SONNET": "claude-sonnet-5", "HAIKU": "claude-haiku-4-5"}
"""A name that Claude Desktop accepts for each tier; the proxy maps it to the tier's model."""


def vscode_file(environ: Mapping[str, str]) -> Path:
    """Return the path of the user's settings.json for VS Code."""
    home = home_folder(environ)
    if sys.platform == "darwin":
        folder = home / "Library" / "Application Support"
    else:
        folder = Path(environ.get("XDG_CONFIG_HOME") or home / ".config")
    return folder / "Code" / "User" / "settings.json"


def vscode_settings(session: Session, present: Mapping[str, Any]) -> dict[str, Any]:
    """
    Return *present* with the variables of *session*; variables that ccproxy does not set are kept.

    With an empty *session*, ccproxy's variables are removed.
    """
    settings = {name: value for name, value in present.items() if name not in (VARIABLES, NO_LOGIN)}
    listed = present.get(VARIABLES)
    foreign = [one for one in listed if not _is_ours(one)] if isinstance(listed, list) else []
    ours = [{"name": name, "value": value} for name, value in session.items() if value is not None]
    if foreign or ours:
        settings[VARIABLES] = [*foreign, *ours]
    if ours:
        settings[NO_LOGIN] = True
    return settings


def desktop_profile(session: Session) -> dict[str, Any]:
    """Return the third-party configuration for Claude Desktop and Cowork."""
    models = [
        {"name": name, "labelOverride": model}
        for tier, name in _TIER_NAMES.items()
        if (model := session.get(f"ANTHROPIC_DEFAULT_{tier}_MODEL"))
    ]
    return {
        "inferenceProvider": "gateway",
        "inferenceGatewayBaseUrl": session["ANTHROPIC_BASE_URL"],
        "inferenceGatewayApiKey": session[TOKEN],
        "inferenceGatewayAuthScheme": "bearer",
        **({"inferenceModels": models} if models else {}),
    }


def _is_ours(variable: object) -> bool:
    return isinstance(variable, dict) and variable.get("name") in MANAGED

"""The verbs, each with its line in `--help`."""

from __future__ import annotations

VERBS = {
    "init": "Add a provider: choose it, paste its key, done.",
    "start": "Start the fleet, or the workers named by LABEL.",
    "stop": "Stop the fleet, or the workers named by LABEL.",
    "restart": "Restart workers; their ports stay open meanwhile.",
    "reload": "Bring the fleet in line with its changed files.",
    "status": "Show who runs where. Also: ps, ls.",
    "keys": "Show, test, disable and enable the providers' keys.",
    "logs": "Show what the workers logged.",
    "switch": "Have a proxy answer with other models, from now on.",
    "route": "Show by which rules a proxy chooses models, and what they decide.",
    "usage": "Show tokens, waiting and costs.",
    "toggle": "Let requests pass a proxy by, to Anthropic, and back.",
    "history": "Show, export or clear what was said, where that is kept.",
    "run": "Run a command, such as claude, on one of the providers.",
    "env": "Print the settings that point this shell at a provider.",
    "check": "Check the configuration and start nothing.",
    "doctor": "Look for what is wrong, and say what mends it.",
    "up": "Run the fleet, or a single proxy, in the foreground.",
    "interactive": "Look after a proxy at a prompt.",
    "import": "Take over the models of a models.yaml.",
    "cleanup": "Remove logs that are older than three days.",
    "install-service": "Have the fleet started by systemd, launchd or cron.",
    "uninstall-service": "Take that back.",
    "completion": "Print the completion script of a shell.",
    "version": "Show the version.",
}
ALIASES = {"ps": "status", "ls": "status"}

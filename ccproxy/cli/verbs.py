"""The verbs, each with its line in `--help`."""

from __future__ import annotations

GROUPS = {
    "fleet": {
        "start": "Start the fleet, or the workers named by LABEL.",
        "stop": "Stop the fleet, or the workers named by LABEL.",
        "restart": "Restart workers; their ports stay open meanwhile.",
        "reload": "Bring the fleet in line with its changed files.",
        "status": "Show who runs where. Also: ps, ls.",
        "up": "Run the fleet, or a single proxy, in the foreground.",
    },
    "session": {
        "run": "Run a command, such as claude, on one of the providers.",
        "env": "Print the settings that point this shell at a provider.",
        "switch": "Have a proxy answer with other models, from now on.",
        "toggle": "Let requests pass a proxy by, to Anthropic, and back.",
        "keys": "Show, test, disable and enable the providers' keys.",
        "route": "Show by which rules a proxy chooses models, and what they decide.",
        "interactive": "Look after a proxy at a prompt.",
    },
    "inspect": {
        "logs": "Show what the workers logged.",
        "usage": "Show tokens, waiting and costs.",
        "history": "Show, export or clear what was said, where that is kept.",
        "check": "Check the configuration and start nothing.",
        "doctor": "Look for what is wrong, and say what mends it.",
        "version": "Show the version.",
    },
    "setup": {
        "init": "Add a provider: choose it, paste its key, done.",
        "import": "Take over the models of a models.yaml.",
        "completion": "Print the completion script of a shell.",
        "cleanup": "Remove logs that are older than three days.",
        "install-service": "Have the fleet started by systemd, launchd or cron.",
        "uninstall-service": "Take that back.",
    },
}
"""The commands by group, each with its line in `--help`; a group is a package of `cli/commands`."""

VERBS = {verb: line for group in GROUPS.values() for verb, line in group.items()}
PACKAGES = {verb: group for group, verbs in GROUPS.items() for verb in verbs}
ALIASES = {"ps": "status", "ls": "status"}

"""A proxy that is switched off: requests pass it by, and a session on it is told so."""

from __future__ import annotations

from collections.abc import Mapping

from ccproxy.cli.render.terminal import clean, say
from ccproxy.cli.session.environment import OWN_KEY
from ccproxy.cli.verb import Options
from ccproxy.config.fleet import Entry, Fleet
from ccproxy.config.overrides import read_standing, standing_path
from ccproxy.config.worker import WorkerConfig


def is_off(fleet: Fleet, entry: Entry) -> bool:
    """Tell whether *entry* is switched off, running or not."""
    return read_standing(standing_path(fleet.state, entry.label)).is_off


def warn_of_passing(options: Options, config: WorkerConfig, environ: Mapping[str, str]) -> None:
    """Say where requests to the proxy of *config* go while it is off, and with which key."""
    label, goes_to = config.label, clean(config.transparent_url)
    text = f"warning: {label} is off: requests go to {goes_to} with your own key"
    fix = f"ccproxy toggle {label} on"
    if environ.get(OWN_KEY):
        say(options, f"{text}, {OWN_KEY}\n  fix: to ask {label} again: {fix}")
    else:
        say(options, f"{text}; {OWN_KEY} holds none\n  fix: export {OWN_KEY}=…, or: {fix}")

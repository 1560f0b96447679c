"""Entries as services of Docker Compose."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ccproxy.cli.containers.container_entry import ContainerEntry

IMAGE = "ccproxy-fleet"
_GRACE = 10
"""Seconds after the drain, for the last responses."""


def compose_file(entries: Iterable[ContainerEntry]) -> Mapping[str, Any]:
    """Return a Compose file that refers to the env files."""
    services = {
        entry.name: {
            "image": IMAGE,
            "restart": "unless-stopped",
            "init": True,
            "read_only": True,
            "cap_drop": ["ALL"],
            "security_opt": ["no-new-privileges:true"],
            "stop_grace_period": f"{entry.drain_seconds(delay='0', timeout='30') + _GRACE}s",
            "tmpfs": ["/tmp:mode=1777,size=16m"],  # noqa: S108 - in the container
            "ports": [f"127.0.0.1:{entry.port}:8080"],
            "volumes": [f"{entry.name}:/var/lib/ccproxy"],
            # $ is doubled, because Compose would expand $NAME.
            "env_file": [str(entry.env_file).replace("$", "$$")],
            "environment": {"HOST": "0.0.0.0", "CCPROXY_PORT": "8080"},  # noqa: S104 - as above
        }
        for entry in entries
    }
    return {"services": services, "volumes": {name: {} for name in services}}

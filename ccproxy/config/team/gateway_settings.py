"""The settings that make an entry the gateway of a team."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ccproxy.config import settings as s
from ccproxy.config.reader import EnvReader
from ccproxy.config.team.users import read_users
from ccproxy.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewaySettings:
    """Who uses an entry, and at which address."""

    users_file: Path | None
    """None: there are no users, and so no gateway."""
    public_url: str
    """The gateway's origin; empty: that of the request, on loopback only."""


def read_gateway(env: EnvReader) -> GatewaySettings:
    """Return the settings; mistakes in them and in the file of users are noted in *env*."""
    path_text, public_url = env.read(s.USERS), env.read(s.PUBLIC_URL)
    if path_text is None:
        return GatewaySettings(users_file=None, public_url=public_url)
    path = (env.file.parent / Path(path_text).expanduser()).resolve()
    try:
        read_users(path)
    except ConfigError as error:
        env.mistakes += error.mistakes
    return GatewaySettings(users_file=path, public_url=public_url)

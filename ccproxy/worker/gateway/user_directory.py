"""The users in `users.toml`, which is read again whenever it changes."""

from __future__ import annotations

from pathlib import Path

from structlog.typing import FilteringBoundLogger

from ccproxy.config.team.users import User, Users, hash_token, read_users, same_email
from ccproxy.errors import ConfigError
from ccproxy.worker.watched_file import Watched


class UserDirectory:
    """Finds users by name or token."""

    def __init__(self, file: Path, *, log: FilteringBoundLogger) -> None:
        """
        Read *file*.

        Raises:
            ConfigError: If it is invalid.
        """
        self.file = file
        self._log = log
        self._users = read_users(file)
        self._watched = Watched(file, self._read)

    @property
    def users(self) -> Users:
        """Every user."""
        return self._watched.get()

    def user(self, name: str) -> User | None:
        """Return the user *name*, or None if the user is unknown or revoked."""
        user = self.users.by_name.get(name)
        return user if user is not None and user.is_active else None

    def user_with_email(self, email: str) -> User | None:
        """Return the user with this *email* at the identity provider, or None."""
        users = self.users.by_name.values()
        same = same_email(email)
        return next((one for one in users if one.uses_oidc and same_email(one.email) == same), None)

    def owner_of(self, token: str) -> User | None:
        """Return the user with this *token*, or None."""
        return self.users.by_hash.get(hash_token(token))

    def _read(self, file: Path) -> Users:
        """Return the users in *file*, or in its last valid version if it is invalid."""
        try:
            self._users = read_users(file)
        except ConfigError as error:
            self._log.error("users.unreadable", file=str(file), reason=str(error))
        return self._users

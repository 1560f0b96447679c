"""
The users of a gateway, read from `users.toml`.

    [roles.developer]
    entries = ["Kimi-K3", "GLM-5"]
    models = ["kimi-*", "glm-*"]
    budgets = ["5 USD/day"]
    settings = "developer.json"

    [[user]]
    name = "anna"
    role = "developer"
    tokens = ["sha256:…"]

Fields that a user does not set are taken from the role. A token has 256 random bits, so its hash
can be neither reversed nor guessed, and needs no salt.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from hashlib import sha256
from pathlib import Path
from typing import Any

from ccproxy.config.locations import is_writable_by_others
from ccproxy.config.toml_document import TomlDocument
from ccproxy.errors import ConfigError
from ccproxy.files import display_path
from ccproxy.keys.budgets import TOKENS, Budget
from ccproxy.providers.pricing import CURRENCY
from ccproxy.text import did_you_mean

TOKEN_PREFIX = "ccu_"  # noqa: S105 - the prefix of every token, not a token
"""Prefix of every user token, so that none is mistaken for a provider's key."""
HASH_PREFIX = "sha256:"
OIDC_PREFIX = "oidc:"

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,63}")
_HASH = re.compile(rf"{HASH_PREFIX}[0-9a-f]{{64}}")
_RIGHTS = ("entries", "models", "budgets", "settings", "admin", "oidc")
_TABLES = ("roles", "user")
_OF_USER = ("name", "role", "email", "tokens", *_RIGHTS)


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """One user, with the permissions of the role."""

    name: str
    role: str = ""
    email: str = ""
    tokens: tuple[str, ...] = field(default=(), repr=False)
    """Hashes, as `hash_token` returns them."""
    entries: tuple[str, ...] = ()
    """Labels of the permitted entries; if empty, all."""
    models: tuple[str, ...] = ()
    """Glob patterns for the permitted models (the provider's names); if empty, all."""
    budgets: tuple[Budget, ...] = ()
    settings: Path | None = None
    """The JSON file with the settings that Claude Code receives."""
    is_admin: bool = False
    """Whether the user may use the proxy's own routes, such as /config."""
    uses_oidc: bool = False
    """Whether the identity provider may approve sign-ins of the user, identified by `email`."""

    @property
    def is_active(self) -> bool:
        """Whether the user has any means of authentication."""
        return bool(self.tokens) or self.uses_oidc

    @property
    def approvals(self) -> tuple[str, ...]:
        """The approvals to which sessions are bound: the hashes of the tokens, and of the email."""
        return (*self.tokens, oidc_approval(self.email)) if self.uses_oidc else self.tokens

    def may_use_entry(self, label: str) -> bool:
        """Return True if the user is allowed to use the entry *label*."""
        return not self.entries or label.lower() in {entry.lower() for entry in self.entries}

    def may_use_model(self, label: str, model: str) -> bool:
        """Return True if the user is allowed to use *model* (the provider's name) at *label*."""
        names = (model.lower(), f"{label}:{model}".lower())
        patterns = [pattern.lower() for pattern in self.models]
        return not patterns or any(fnmatchcase(name, one) for one in patterns for name in names)


@dataclass(frozen=True, slots=True, kw_only=True)
class Users:
    """Every user, by name and by the hash of each token."""

    by_name: Mapping[str, User]
    by_hash: Mapping[str, User]


def hash_token(token: str) -> str:
    """Return the hash that is stored for *token*."""
    return HASH_PREFIX + sha256(token.encode("utf-8", "surrogateescape")).hexdigest()


def same_email(email: str) -> str:
    """
    Return *email* normalized for comparison.

    Only ASCII is lowercased: the lower case of the Kelvin sign, for example, is an ASCII letter.
    """
    return email.lower() if email.isascii() else email


def oidc_approval(email: str) -> str:
    """Return the approval to which a session signed in as *email* is bound."""
    return OIDC_PREFIX + sha256(same_email(email).encode("utf-8", "surrogatepass")).hexdigest()


def read_users(file: Path, text: str | None = None) -> Users:
    """
    Read *file*, or *text* as its content.

    Raises:
        ConfigError: With every mistake in the file.

    """
    document = TomlDocument(file, list_name="user", list_example="[[user]]", text=text)
    users = list(_Reader(document).users()) if document.is_valid else []
    # Not Path.is_file, which raises for a name that is too long.
    if os.path.isfile(file) and is_writable_by_others(file):  # noqa: PTH113
        fix = f"chmod 600 {display_path(file)}"
        document.note(None, "this file is writable by other users, who could add users", fix)
    if document.mistakes:
        raise ConfigError(document.sorted_mistakes())
    return Users(
        by_name={user.name: user for user in users},
        by_hash={one: user for user in users for one in user.tokens},
    )


class _Reader:
    """Reads the tables of a document, and notes mistakes in it."""

    def __init__(self, document: TomlDocument) -> None:
        self._document = document

    def users(self) -> Iterator[User]:
        """Yield the valid users."""
        values = self._document.values
        self._check_names(values, _TABLES, line=None)
        roles = {
            role: self._role(role, self._table(rights, f"roles.{role}"))
            for role, rights in self._table(values.get("roles", {}), "roles").items()
        }
        rows = values.get("user", [])
        if not isinstance(rows, list):
            self._document.note(None, "user must be a list of tables", "write [[user]]")
            return
        names: set[str] = set()
        hashes: set[str] = set()
        emails: set[str] = set()
        for index, row in enumerate(rows):
            line = self._document.array_table_line("user", index)
            user = self._user(self._table(row, "user"), roles, line)
            if user is None:
                continue
            if user.name in names:
                self._document.note(line, f'the user "{user.name}" is listed twice', "remove one")
            if repeated := hashes.intersection(user.tokens):
                text = f'"{user.name}" has a token of another user: {min(repeated)[:15]}…'
                self._document.note(line, text, "run: ccproxy users renew NAME")
            if user.uses_oidc and same_email(user.email) in emails:
                text = f'"{user.name}" has the email of another user with oidc = true'
                self._document.note(line, text, "give each user a different email")
            names.add(user.name)
            emails.update([same_email(user.email)] if user.uses_oidc else [])
            hashes.update(user.tokens)
            yield user

    def _role(self, role: str, rights: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the valid *rights*, so that invalid ones are not reported again for each user."""
        line = self._document.line_of("roles", role) or 0
        self._check_names(rights, _RIGHTS, line=line)
        valid = {}
        for name, value in rights.items():
            mistakes = len(self._document.mistakes)
            match name:
                case "entries" | "models":
                    self._list(rights, name, line)
                case "budgets":
                    list(self._budgets(rights, line))
                case "settings":
                    self._text(rights, name, line)
            if len(self._document.mistakes) == mistakes:
                valid[name] = value
        return valid

    def _user(self, row: Mapping[str, Any], roles: Mapping[str, Any], line: int) -> User | None:
        self._check_names(row, _OF_USER, line=line)
        name = row.get("name")
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            fix = "use letters, digits and . _ @ + -, at most 64 characters"
            self._document.note(line, f"name must be the name of a user, got {name!r}", fix)
            return None
        role = self._text(row, "role", line)
        if role and role not in roles:
            text = f'"{role}" is not a role{did_you_mean(role, roles)}'
            self._document.note(line, text, f"add [roles.{role}], or correct the name")
        rights = {**roles.get(role, {}), **row}
        tokens = self._list(rights, "tokens", line)
        for token in tokens:
            if not _HASH.fullmatch(token):
                # Not quoted: it may be the token itself.
                text = f"a token of {name} is not a hash"
                self._document.note(line, text, f"run: ccproxy users renew {name}")
        settings = self._text(rights, "settings", line)
        email = self._text(row, "email", line)
        if rights.get("oidc") is True and not email:
            text = f"{name} has oidc = true, but no email"
            self._document.note(line, text, f'write email = "{name}@example.com"')
        return User(
            name=name,
            role=role,
            email=email,
            tokens=tokens,
            entries=self._list(rights, "entries", line),
            models=self._list(rights, "models", line),
            budgets=tuple(self._budgets(rights, line)),
            settings=self._document.file.parent / settings if settings else None,
            is_admin=rights.get("admin") is True,
            uses_oidc=rights.get("oidc") is True,
        )

    def _budgets(self, rights: Mapping[str, Any], line: int) -> Iterator[Budget]:
        for text in self._list(rights, "budgets", line):
            try:
                budget = Budget.parse(text)
            except ValueError as error:
                self._document.note(line, f"budgets {error}", "correct the budget")
                continue
            if budget.unit not in (TOKENS, CURRENCY):
                mistake = f"budgets are in {budget.unit}, but prices are in {CURRENCY}"
                self._document.note(line, mistake, f"use {CURRENCY} or tokens")
            yield budget

    def _check_names(
        self, table: Mapping[str, Any], allowed: tuple[str, ...], *, line: int | None
    ) -> None:
        for name in table:
            if name not in allowed:
                text = f'"{name}" is unknown{did_you_mean(name, allowed)}'
                self._document.note(line, text, f"use {', '.join(allowed)}")
        for name in ("admin", "oidc"):
            value = table.get(name, False)
            if not isinstance(value, bool):
                text = f"{name} must be true or false, got {value!r}"
                self._document.note(line, text, "correct it")

    def _table(self, value: object, name: str) -> Mapping[str, Any]:
        if isinstance(value, dict):
            return value
        self._document.note(None, f"{name} must be a table", f"write [{name}]")
        return {}

    def _text(self, table: Mapping[str, Any], name: str, line: int) -> str:
        value = table.get(name, "")
        if isinstance(value, str):
            return value
        self._document.note(line, f"{name} must be a string", f'write {name} = "…"')
        return ""

    def _list(self, table: Mapping[str, Any], name: str, line: int) -> tuple[str, ...]:
        value = table.get(name, [])
        if isinstance(value, list) and all(isinstance(one, str) for one in value):
            return tuple(value)
        self._document.note(line, f"{name} must be a list of strings", f'write {name} = ["…"]')
        return ()

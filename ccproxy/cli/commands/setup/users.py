"""Add, list, renew and revoke users of a team's gateway."""

from __future__ import annotations

import json
import re
import secrets
from pathlib import Path

import click

from ccproxy.cli.command import Options, command
from ccproxy.cli.render.table import Column, table
from ccproxy.cli.render.terminal import columns, notify, short_path, show, show_json
from ccproxy.cli.selection import open_readable_part
from ccproxy.cli.setup.config_edit import exclusive, replace_text, write_new
from ccproxy.errors import UsageError
from ccproxy.text import printable

FILE_NAME = "users.toml"
_OIDC = "oidc = true"
ACTIONS = ("list", "add", "renew", "revoke")
_COLUMNS = (
    Column(head="USER"),
    Column(head="ROLE"),
    Column(head="STATE"),
    Column(head="ENTRIES", drop_order=3),
    Column(head="MODELS", drop_order=2),
    Column(head="BUDGETS", drop_order=1),
)
_HEADER = """\
# The users of this fleet's gateway: docs/team-gateway.md
# To use this file, entries need USERS=../users.toml in their env files.

# [roles.developer]
# entries = ["Kimi-K3"]
# models = ["kimi-*"]
# budgets = ["5 USD/day"]
# settings = "developer.json"
"""


@command(
    "ccproxy users add anna --role developer   # prints the token, once",
    "ccproxy users add bob --oidc --email bob@example.com",
    "ccproxy users                             # list the users",
    "ccproxy users renew anna                  # a new token; the old one stops working",
    "ccproxy users revoke anna                 # ends the token and every session",
)
@click.argument("action", type=click.Choice(ACTIONS), default="list")
@click.argument("name", required=False)
@click.option("--role", default="", help="The role of the new user: a [roles.…] table in the file.")
@click.option("--email", default="", help="The email address, shown to the user at sign-in.")
@click.option(
    "--oidc",
    is_flag=True,
    help="No token: the identity provider (OIDC_ISSUER) approves the new user's sign-ins.",
)
@click.option(
    "--file",
    type=click.Path(path_type=Path),
    help="The users file.  [default: users.toml of the fleet]",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def users(
    options: Options,
    *,
    action: str,
    name: str | None,
    role: str,
    email: str,
    oidc: bool,
    file: Path | None,
    as_json: bool,
) -> None:
    """
    Manage the users of the gateway in users.toml; a running gateway applies changes at once.

    Only a hash of each token is stored, so a token can be shown only once. Rights and budgets are
    edited in the file.
    """
    path = file or open_readable_part(options)[0].file.parent / FILE_NAME
    if action == "list":
        _list(path, as_json=as_json)
        return
    if not name:
        raise UsageError(f"{action} needs a name\n  fix: ccproxy users {action} NAME")
    if oidc and (action != "add" or not email):
        raise UsageError(
            "--oidc can only be used with add and --email\n"
            "  fix: ccproxy users add NAME --oidc --email …"
        )
    with exclusive(path.parent):
        token = _change(path, action, name, _block(name, role, email, oidc=oidc))
    if as_json:
        show_json({"user": name, "token": token or None})
    elif oidc:
        notify(options, f"{name} signs in with /login, as {email} at the identity provider.")
    elif token:
        show(token)
        notify(options, f"Give this token to {name}; it cannot be shown again.")
    else:
        notify(options, f"Revoked {name} and ended every session.")


def _change(path: Path, action: str, name: str, block: str) -> str:
    """
    Write the change to *path*; return the new token, or an empty string.

    *block* is the table of a new user, without its tokens.
    """
    from ccproxy.config.team.users import TOKEN_PREFIX, hash_token

    has_no_token = action == "revoke" or (action == "add" and _OIDC in block)
    token = "" if has_no_token else TOKEN_PREFIX + secrets.token_urlsafe(32)
    hashes = (hash_token(token),) if token else ()

    def change(text: str) -> str:
        return _changed(path, text, action, name, block, tokens=json.dumps(hashes))

    def check(text: str) -> None:
        _check(path, text, name, hashes, is_end=action == "revoke")

    if path.exists():
        replace_text(path, change, check=check)
    else:
        text = change(_HEADER)
        check(text)
        write_new(path, text)
    return token


def _changed(path: Path, text: str, action: str, name: str, block: str, *, tokens: str) -> str:
    """
    Return *text*, the content of *path*, with the change applied.

    Raises:
        ConfigError: If *text* has mistakes.
        UsageError: If a user to add already exists, or a user to change does not exist.
    """
    from ccproxy.config.team.users import read_users

    users = read_users(path, text).by_name
    if action == "add":
        if name in users:
            raise UsageError(f'"{name}" already exists\n  fix: ccproxy users renew {name}')
        return text.rstrip("\n") + f"\n\n{block}tokens = {tokens}\n"
    if name not in users:
        raise UsageError(f'{short_path(path)} has no user "{name}"\n  fix: ccproxy users')
    text = _with_value(text, name, "tokens", tokens)
    if action == "revoke" and users[name].uses_oidc:
        text = _with_value(text, name, "oidc", "false")
    return text


def _check(path: Path, text: str, name: str, hashes: tuple[str, ...], *, is_end: bool) -> None:
    """
    Check that *text*, the new content of *path*, is valid and gives *name* the tokens *hashes*.

    Raises:
        ConfigError: If it is not valid.
        UsageError: If the user would have different tokens.
    """
    from ccproxy.config.team.users import read_users

    user = read_users(path, text).by_name.get(name)
    if user is None or user.tokens != hashes or (user.uses_oidc and not hashes and is_end):
        fix = f"in the table of that user, set tokens = {json.dumps(hashes)}"
        raise UsageError(f"{short_path(path)}: the tokens of {name} were not found\n  fix: {fix}")


def _block(name: str, role: str, email: str, *, oidc: bool) -> str:
    values = {"name": name, "role": role, "email": email}
    # A JSON string is a TOML string.
    lines = [f"{key} = {json.dumps(value)}" for key, value in values.items() if value]
    return "\n".join(["[[user]]", *lines, *([_OIDC] if oidc else []), ""])


def _with_value(text: str, name: str, key: str, value: str) -> str:
    """Return *text* with *key* of the user *name* set to *value* and nothing else changed."""
    parts = re.split(r"(?m)^(?=[ \t]*\[)", text)
    quoted = re.escape(name)
    is_user = re.compile(rf"""(?m)^\s*\[\[\s*user\s*\]\][^\0]*?^\s*name\s*=\s*["']{quoted}["']""")
    old = re.compile(rf"(?m)^([ \t]*){key}[ \t]*=[ \t]*(?:\[[^\]]*\]|true|false)")
    for index, part in enumerate(parts):
        if not is_user.search(part):
            continue
        changed, count = old.subn(rf"\g<1>{key} = {value}", part, count=1)
        parts[index] = changed if count else f"{part.rstrip()}\n{key} = {value}\n\n"
    return "".join(parts)


def _list(path: Path, *, as_json: bool) -> None:
    from ccproxy.config.team.users import read_users

    rows = read_users(path).by_name.values() if path.exists() else ()
    if as_json:
        show_json([
            {
                "name": user.name,
                "role": user.role,
                "email": user.email,
                "oidc": user.uses_oidc,
                "revoked": not user.is_active,
                "entries": user.entries,
                "models": user.models,
                "budgets": [str(budget) for budget in user.budgets],
            }
            for user in rows
        ])  # fmt: skip
        return
    if not rows:
        show("There are no users.  Next:  ccproxy users add NAME")
        return
    cells = [
        (
            user.name,
            printable(user.role) or "-",
            "active" if user.is_active else "revoked",
            printable(", ".join(user.entries)) or "all",
            printable(", ".join(user.models)) or "all",
            ", ".join(map(str, user.budgets)) or "none",
        )
        for user in rows
    ]
    for line in table(_COLUMNS, cells, width=columns()):
        show(line)

"""`ccproxy users`: tokens are printed once, and the rest of the file is unchanged."""

from __future__ import annotations

import json

from ccproxy.config.team.users import hash_token, read_users

OWN = """# our team
[roles.developer]
models = ["kimi-*"]

[[user]]   # the first one
name = 'anna'
role = "developer"
tokens = [
  "sha256:{}",
]
budgets = ["5 USD/day"]

[[user]]
name = "bob"
""".format("0" * 64)


def test_a_token_is_printed_once_and_stored_as_its_hash(ccproxy, home):
    added = ccproxy("users", "add", "anna", "--email", "a@example.com")
    token = added.stdout.strip()
    assert token.startswith("ccu_")
    assert len(token) > 40
    text = (home / "users.toml").read_text()
    assert token not in text
    assert read_users(home / "users.toml").by_hash[hash_token(token)].email == "a@example.com"
    assert (home / "users.toml").stat().st_mode & 0o77 == 0
    again = ccproxy("users", "add", "anna")
    assert again.exit_code == 2
    assert "ccproxy users renew anna" in again.stderr


def test_renew_and_revoke_change_only_tokens(ccproxy, home):
    file = home / "users.toml"
    file.write_text(OWN)
    token = ccproxy("users", "renew", "anna").stdout.strip()
    old = OWN[OWN.index("tokens") : OWN.index("]\nbudgets") + 1]
    assert file.read_text() == OWN.replace(old, f'tokens = ["{hash_token(token)}"]')
    assert ccproxy("users", "renew", "bob").exit_code == 0, "a user without tokens gets one"
    assert ccproxy("users", "revoke", "anna").exit_code == 0
    states = {row["name"]: row["revoked"] for row in json.loads(ccproxy("users", "--json").stdout)}
    assert states == {"anna": True, "bob": False}
    assert "# our team" in file.read_text()


def test_a_user_of_the_identity_provider_has_no_token(ccproxy, home):
    added = ccproxy("users", "add", "anna", "--oidc", "--email", "a@example.com")
    assert (added.exit_code, added.stdout) == (0, "")
    assert read_users(home / "users.toml").by_name["anna"].is_active
    assert ccproxy("users", "add", "bob", "--oidc").exit_code == 2
    assert ccproxy("users", "renew", "anna", "--oidc").exit_code == 2
    (row,) = json.loads(ccproxy("users", "--json").stdout)
    assert (row["oidc"], row["revoked"]) == (True, False)
    assert ccproxy("users", "revoke", "anna").exit_code == 0
    assert not read_users(home / "users.toml").by_name["anna"].is_active


def test_revoking_removes_the_roles_rights(ccproxy, home):
    file = home / "users.toml"
    file.write_text(
        '[roles.all]\noidc = true\n\n[[user]]\nname = "anna"\nrole = "all"\nemail = "a@b.c"\n'
    )
    assert read_users(file).by_name["anna"].is_active
    assert ccproxy("users", "revoke", "anna").exit_code == 0
    assert not read_users(file).by_name["anna"].is_active
    assert read_users(file).by_name["anna"].role == "all"


def test_mistakes_do_not_change_the_file(ccproxy, home):
    file = home / "users.toml"
    file.write_text(OWN)
    for words, text in (
        (("revoke", "nobody"), 'has no user "nobody"'),
        (("add",), "add needs a name"),
        (("add", "x", "--role", "admin"), '"admin" is not a role'),
        (("add", "a b"), "name must be the name of a user"),
    ):
        done = ccproxy("users", *words)
        assert done.exit_code != 0
        assert text in done.stderr
        assert "draft" not in done.stderr, "the message names the user's file"
        assert file.read_text() == OWN
    assert [path.name for path in home.iterdir() if "users" in path.name] == ["users.toml"]


def test_the_file_keeps_its_mode_and_its_link(ccproxy, home):
    target = home / "shared" / "team.toml"
    target.parent.mkdir()
    target.write_text(OWN)
    target.chmod(0o640)
    (home / "users.toml").symlink_to(target)
    for words in (("renew", "anna"), ("add", "carl"), ("revoke", "bob")):
        assert ccproxy("users", *words).exit_code == 0
        assert (home / "users.toml").readlink() == target
        assert target.stat().st_mode & 0o777 == 0o640
    assert set(read_users(target).by_name) == {"anna", "bob", "carl"}


def test_the_list(ccproxy, home):
    assert "There are no users" in ccproxy("users").stdout
    (home / "users.toml").write_text(OWN)
    lines = ccproxy("users").stdout.splitlines()
    assert lines[0].split() == ["USER", "ROLE", "STATE", "ENTRIES", "MODELS", "BUDGETS"]
    assert lines[1].split()[:5] == ["anna", "developer", "active", "all", "kimi-*"]
    assert lines[2].split()[:3] == ["bob", "-", "revoked"]

"""users.toml: the rights in it, and every mistake with its line."""

from __future__ import annotations

import pytest

from ccproxy.config.team.users import hash_token, read_users
from ccproxy.errors import ConfigError

HASH = hash_token("ccu_one")
WHOLE = f"""
[roles.developer]
models = ["kimi-*"]
budgets = ["5 USD/day"]
settings = "developer.json"

[[user]]
name = "anna"
role = "developer"
tokens = ["{HASH}"]

[[user]]
name = "bob"
role = "developer"
models = []
admin = true
"""


def read(tmp_path, text):
    file = tmp_path / "users.toml"
    file.write_text(text)
    return read_users(file)


def test_a_user_has_the_rights_of_the_role_unless_it_sets_them(tmp_path):
    users = read(tmp_path, WHOLE)
    anna, bob = users.by_name["anna"], users.by_name["bob"]
    assert users.by_hash == {HASH: anna}
    assert (anna.models, bob.models) == (("kimi-*",), ())
    assert [str(budget) for budget in bob.budgets] == ["5 USD per day"]
    assert anna.settings == tmp_path / "developer.json"
    assert (anna.is_admin, bob.is_admin) == (False, True)
    assert HASH not in repr(anna)


@pytest.mark.parametrize(
    ("text", "mistakes"),
    [
        ("[[user]\n", ["not valid TOML"]),
        ("a = " + "[" * 10_000, ["nested too deeply"]),
        ("a = " + "1" * 10_000, ["not valid TOML"]),
        ("user = 1", ["user must be a list of tables"]),
        ("user = [1]", ["user must be a table", "name must be the name of a user, got None"]),
        ("roles = 1", ["roles must be a table"]),
        ("[roles]\nx = 1", ["roles.x must be a table"]),
        ('[roles.x]\nbudgets = ["5"]', [':1: budgets must be like "5 USD/day"']),
        (
            '[roles.x]\nmodels = "*"\n[[user]]\nname = "a"\nrole = "x"\n'
            '[[user]]\nname = "b"\nrole = "x"',
            [":1: models must be a list of strings"],
        ),
        ("[rolls]", ['"rolls" is unknown (did you mean "roles"?)']),
        ('[[user]]\nname = "a b"', [":1: name must be the name of a user, got 'a b'"]),
        ('[[user]]\nname = "a"\n[[user]]\nname = "a"', [':3: the user "a" is listed twice']),
        ('[[user]]\nname = "a"\nrole = "x"', ['"x" is not a role']),
        ('[[user]]\nname = "a"\nmodel = ["x"]', ['"model" is unknown (did you mean']),
        ('[[user]]\nname = "a"\nmodels = "x"', ["models must be a list of strings"]),
        ('[[user]]\nname = "a"\nemail = 1', ["email must be a string"]),
        ('[[user]]\nname = "a"\nadmin = "yes"', ["admin must be true or false"]),
        ('[[user]]\nname = "a"\noidc = 1', ["oidc must be true or false"]),
        ('[[user]]\nname = "a"\noidc = true', ["a has oidc = true, but no email"]),
        (
            '[roles.r]\noidc = true\n[[user]]\nname = "a"\nrole = "r"\nemail = "x@y.z"\n'
            '[[user]]\nname = "b"\nrole = "r"\nemail = "X@Y.z"',
            ['"b" has the email of another user'],
        ),
        ('[[user]]\nname = "a"\nbudgets = ["5"]', ['budgets must be like "5 USD/day"']),
        ('[[user]]\nname = "a"\nbudgets = ["5 EUR/day"]', ["budgets are in EUR"]),
        (
            f'[[user]]\nname = "a"\ntokens = ["{HASH}"]\n[[user]]\nname = "b"\ntokens = ["{HASH}"]',
            ['"b" has a token of another user'],
        ),
    ],
)
def test_mistakes(tmp_path, text, mistakes):
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, text)
    assert len(caught.value.mistakes) == len(mistakes), caught.value
    for mistake in mistakes:
        assert mistake in str(caught.value)


def test_a_token_in_place_of_its_hash_is_not_quoted(tmp_path):
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, '[[user]]\nname = "a"\ntokens = ["ccu_secret_0123456789"]')
    assert "a token of a is not a hash" in str(caught.value)
    assert "secret" not in str(caught.value)


def test_a_missing_file_is_a_mistake(tmp_path):
    with pytest.raises(ConfigError, match="cannot be read"):
        read_users(tmp_path / "users.toml")

"""Tests of writing one routing rule: the line appears where a user would write it."""

from __future__ import annotations

import pytest

from ccproxy.cli.setup.route_edit import preview_rule, with_rule, write_rule
from ccproxy.config.fleet import load_fleet
from ccproxy.errors import CcproxyError, ConfigError

HEAD = 'proxies = ["8081:a.env:A", "8082:b.env:B.2"]\n'
A = "# mine\n[routes.A] # rules\nmain = 'x' # keep me not\n# end\n\n[fallback]\nA = [\"B.2\"]\n"


@pytest.mark.parametrize(
    ("before", "label", "rule", "model", "after"),
    [
        pytest.param(
            "", "A", "main", "B.2:big", '\n[routes.A]\nmain = "B.2:big"\n', id="a new table"
        ),
        pytest.param(
            "", "B.2", "main", "x", '\n[routes."B.2"]\nmain = "x"\n', id="a label with a dot"
        ),
        pytest.param(
            A, "A", "main", "y", A.replace("main = 'x' # keep me not", 'main = "y"'), id="replace"
        ),
        pytest.param(
            A, "a", "main", "y", A.replace("main = 'x' # keep me not", 'main = "y"'), id="case"
        ),
        pytest.param(
            A, "A", "pdf", "y", A.replace("rules\n", 'rules\npdf = "y"\n'), id="another rule"
        ),
        pytest.param(
            A, "A", "main", None, A.replace("main = 'x' # keep me not\n", ""), id="remove"
        ),
        pytest.param("", "A", "main", None, "", id="remove nothing"),
        pytest.param(
            "", "A", "main", 'a"\\\u202e<', '\n[routes.A]\nmain = "a\\"\\\\\u202e<"\n', id="quotes"
        ),
    ],
)
def test_the_rule_is_written_and_nothing_else_changes(before, label, rule, model, after):
    assert with_rule(HEAD + before, label, rule, model) == (HEAD + after)


@pytest.mark.parametrize(
    "routes",
    [
        pytest.param('routes = { A = { main = "x" } }\n', id="inline"),
        pytest.param('routes.A.main = "x"\n', id="dotted"),
        pytest.param('[routes]\nA = { main = "x" }\n', id="inline in a table"),
        pytest.param('[routes.A]\nmain = """\nx"""\n', id="several lines"),
    ],
)
def test_another_form_is_left_to_the_user(routes):
    with pytest.raises(CcproxyError, match="by hand"):
        with_rule(HEAD + routes, "A", "main", "y")


@pytest.fixture
def fleet(tmp_path):
    (tmp_path / "a.env").write_text("PROVIDER=demo\n")
    (tmp_path / "a.env").chmod(0o600)
    table = tmp_path / "ccproxy.toml"
    table.write_text('proxies = ["8081:a.env:A"]\n')
    return load_fleet(table)


def test_the_preview_writes_nothing(fleet):
    change = preview_rule(fleet, "A", "main", "demo-small")
    assert change.toml == '[routes.A]\nmain = "demo-small"'
    assert '+main = "demo-small"' in change.diff
    assert fleet.file.read_text() == 'proxies = ["8081:a.env:A"]\n'


def test_a_rule_is_written(fleet):
    write_rule(fleet, "A", "main", "demo-small")
    assert fleet.file.read_text().endswith('[routes.A]\nmain = "demo-small"\n')


def test_a_model_that_does_not_exist_is_refused(fleet):
    with pytest.raises(ConfigError, match="Nowhere") as caught:
        write_rule(fleet, "A", "main", "Nowhere:big")
    assert caught.value.mistakes[0].file.name == "ccproxy.toml"
    assert "routes" not in fleet.file.read_text()


@pytest.mark.parametrize(
    ("local", "has_rule"),
    [
        pytest.param('proxies = ["8082:a.env:B"]\n', "ccproxy.toml", id="of an entry here"),
        pytest.param(
            '[routes.A]\nsubagent = "demo-small"\n', "ccproxy.local.toml", id="that it replaces"
        ),
    ],
)
def test_a_rule_is_written_to_the_effective_table(local, has_rule, fleet):
    (fleet.home / "ccproxy.local.toml").write_text(local)
    write_rule(load_fleet(fleet.file), "A", "main", "demo-small")
    files = [file for file in fleet.home.glob("*.toml") if "main =" in file.read_text()]
    assert [file.name for file in files] == [has_rule]


def test_a_rule_of_a_local_entry_is_written_to_the_local_table(fleet):
    local = fleet.home / "ccproxy.local.toml"
    local.write_text('proxies = ["8082:a.env:B"]\n')
    write_rule(load_fleet(fleet.file), "B", "main", "A:big")
    assert local.read_text().endswith('[routes.B]\nmain = "A:big"\n')

"""Editing the user's files changes only the named part, or nothing."""

from __future__ import annotations

import stat

import pytest

from ccproxy.cli.setup.config_edit import (
    append,
    read_keys,
    remove_entry,
    without_secrets,
    write_keys,
)
from ccproxy.config.fleet import Entry, Fleet, load_fleet
from ccproxy.errors import CcproxyError

OLD, NEW = "sk-old-0123456789abcdef", "sk-new-fedcba9876543210"


def kimi_of(fleet: Fleet) -> Entry:
    return next(entry for entry in fleet.entries if entry.label == "Kimi-K2")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param("PROVIDER_API_KEY={}\n", "PROVIDER_API_KEY={}\n", id="plain"),
        pytest.param(
            "# mine\nexport PROVIDER_API_KEY = '{}'  # why\n\nBIG_MODEL=x",
            "# mine\nexport PROVIDER_API_KEY = '{}'  # why\n\nBIG_MODEL=x",
            id="quotes, comments and the rest stay",
        ),
        pytest.param("OPENAI_API_KEY={}\n", "OPENAI_API_KEY={}\n", id="the other name"),
        pytest.param(
            "OPENAI_API_KEY=sk-unused-0123456789\nPROVIDER_API_KEY={}\n",
            "OPENAI_API_KEY=sk-unused-0123456789\nPROVIDER_API_KEY={}\n",
            id="the name that counts",
        ),
        pytest.param(
            "PROVIDER_API_KEY={}\nPROVIDER_API_KEY={}\n".replace("{}", "x", 1),
            "PROVIDER_API_KEY=x\nPROVIDER_API_KEY={}\n",
            id="the last line counts",
        ),
        pytest.param("# no key\n", "# no key\nPROVIDER_API_KEY={}\n", id="none"),
        pytest.param("PROVIDER_API_KEY=\nA=1\n", "PROVIDER_API_KEY={}\nA=1\n", id="empty"),
        pytest.param(
            'PROVIDER_API_KEY="{},\n  sk-other-0123456789"\n',
            'PROVIDER_API_KEY="{}"\n',
            id="a value of two lines",
        ),
    ],
)  # fmt: skip
def test_keys_are_replaced_and_every_other_line_stays(before, after, tmp_path):
    file = tmp_path / "a.env"
    file.write_text(before.replace("{}", OLD))
    file.chmod(0o640)
    write_keys(file, [NEW])
    assert file.read_text() == after.replace("{}", NEW)
    assert read_keys(file) == (NEW,)
    assert stat.S_IMODE(file.stat().st_mode) == 0o640
    assert list(tmp_path.iterdir()) == [file]


def test_line_ends_of_windows_stay(home):
    file = home / "envs/kimi.env"
    file.write_bytes(f"# mine\r\nPROVIDER_API_KEY={OLD}\r\n".encode())
    write_keys(file, [NEW])
    assert file.read_bytes() == f"# mine\r\nPROVIDER_API_KEY={NEW}\r\n".encode()
    table = home / "ccproxy.toml"
    before = table.read_bytes().replace(b"\n", b"\r\n")
    table.write_bytes(before)
    append(load_fleet(table), table, '[presets.y]\nbig = "b"\n')
    assert table.read_bytes() == before + b'\r\n[presets.y]\r\nbig = "b"\r\n'
    table.write_bytes(before + b"# mixed\n")
    append(load_fleet(table), table, '[presets.y]\nbig = "b"\n')
    assert b"\r" not in table.read_bytes()


@pytest.mark.parametrize("key", ["sk-a#b-0123456789", "sk-it's-0123456789", 'sk-a"b\\c-012345'])
def test_any_key_is_read_back(key, tmp_path):
    file = tmp_path / "a.env"
    file.write_text(f"PROVIDER_API_KEY={OLD}\n")
    write_keys(file, [OLD, key])
    assert read_keys(file) == (OLD, key)


def test_a_symbolic_link_is_preserved(tmp_path):
    (tmp_path / "real.env").write_text(f"PROVIDER_API_KEY={OLD}\n")
    (tmp_path / "a.env").symlink_to("real.env")
    write_keys(tmp_path / "a.env", [NEW])
    assert (tmp_path / "a.env").is_symlink()
    assert NEW in (tmp_path / "real.env").read_text()


def test_a_linked_table_remains_a_link(home):
    (home / "real.toml").write_text('[presets.x]\nbig = "a"\n')
    (home / "ccproxy.local.toml").symlink_to("real.toml")
    fleet = load_fleet(home / "ccproxy.toml")
    append(fleet, home / "ccproxy.local.toml", '[presets.y]\nbig = "b"\n')
    assert (home / "ccproxy.local.toml").is_symlink()
    assert "presets.y" in (home / "real.toml").read_text()


ENTRIES = '"18081:envs/kimi.env:Kimi-K2"', '"18082:envs/glm.env:GLM-4.6"'
OTHER_LONG = '[[proxy]]\nport = 18082\nenv_file = "envs/glm.env"\nlabel = "GLM-4.6"\n'
LONG = '[[proxy]]\nport = 18081\nenv_file = "envs/kimi.env"\nlabel = "Kimi-K2"\n'


@pytest.mark.parametrize(
    ("table", "rest"),
    [
        pytest.param(
            f"# mine\nproxies = [\n  {ENTRIES[0]},  # first\n  {ENTRIES[1]},\n]\n",
            f"# mine\nproxies = [\n  {ENTRIES[1]},\n]\n",
            id="a line of the short form",
        ),
        pytest.param(
            f"proxies = [{ENTRIES[0]}, {ENTRIES[1]}]\n",
            f"proxies = [{ENTRIES[1]}]\n",
            id="all on one line",
        ),
        pytest.param(
            f"proxies = [{ENTRIES[1]}]\n\n{LONG}\n[presets.x]\nbig = 'a'\n",
            f"proxies = [{ENTRIES[1]}]\n\n[presets.x]\nbig = 'a'\n",
            id="the long form",
        ),
        pytest.param(
            f"# one\n{LONG}# two\n\n# three\n[fallback]\n\n{OTHER_LONG}",
            f"# one\n# two\n\n# three\n[fallback]\n\n{OTHER_LONG}",
            id="comments around the long form stay",
        ),
        pytest.param(
            f"{OTHER_LONG}\n{LONG}\n# end\n",
            f"{OTHER_LONG}\n# end\n",
            id="the long form at the end",
        ),
        pytest.param(f"proxies = [{ENTRIES[0]}]\n", "proxies = []\n", id="the last entry"),
    ],
)  # fmt: skip
def test_an_entry_is_removed_and_the_rest_stays(table, rest, home):
    (home / "ccproxy.toml").write_text(table)
    fleet = load_fleet(home / "ccproxy.toml")
    remove_entry(fleet, kimi_of(fleet))
    assert (home / "ccproxy.toml").read_text() == rest


@pytest.mark.parametrize(
    ("table", "text"),
    [
        (
            f'proxies = [{", ".join(ENTRIES)}]\n[fallback]\n"GLM-4.6" = ["Kimi-K2"]\n',
            r"Kimi-K2 is still in use.*\n  ccproxy.toml:3: fallback of GLM-4.6",
        ),
        (
            f'proxies = [\n{ENTRIES[0]},\n{ENTRIES[1]}]\n[fallback]\n"GLM-4.6" = ["Kimi-K2"]\n',
            r"\n  ccproxy.toml:5: fallback of GLM-4.6",
        ),
        (
            "proxy = [{port = 18081, env_file = 'envs/kimi.env', label = 'Kimi-K2'}]\n",
            "cannot locate Kimi-K2",
        ),
    ],
    ids=["a fallback names it", "a line above is removed", "another form"],
)
def test_a_table_that_would_not_be_valid_is_not_changed(table, text, home):
    (home / "ccproxy.toml").write_text(table)
    fleet = load_fleet(home / "ccproxy.toml")
    with pytest.raises(CcproxyError, match=text):
        remove_entry(fleet, kimi_of(fleet))
    assert (home / "ccproxy.toml").read_text() == table


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("PROVIDER_API_KEY=sk-0123456789abcdef;priority=2", "PROVIDER_API_KEY=…cdef;priority=2"),
        ("TRACES_HEADERS=Authorization=Bearer 0123456789", "TRACES_HEADERS=…6789"),
        ("CUSTOM_HEADER_X_TEAM=blue", "CUSTOM_HEADER_X_TEAM=…"),
        ("UPSTREAM_PROXY=http://me:p@ss@proxy:3128", "UPSTREAM_PROXY=http://…@proxy:3128"),
        ("REDIS_URL=redis://h?password=short", "REDIS_URL=redis://h?…"),
        ("BIG_MODEL=@cf/openai/gpt-oss-120b", "BIG_MODEL=@cf/openai/gpt-oss-120b"),
    ],
)
def test_a_written_file_is_shown_without_secrets(line, shown):
    assert without_secrets(line) == f"  {shown}\n"

"""The search order for the table, and tables that are not used."""

from __future__ import annotations

import grp
import os
import pwd
import sys
from pathlib import Path

import pytest

from ccproxy.config.locations import find_config, place_for_config
from ccproxy.errors import ConfigError

TABLE = 'proxies = ["8081:envs/kimi.env:Kimi-K3"]\n'
NOBODY = 65534


@pytest.fixture(autouse=True)
def closed_to_others():
    """Give only the user access to the folders, regardless of the umask."""
    before = os.umask(0o022)
    yield
    os.umask(before)


@pytest.fixture
def places(write, here):
    """Write a table in every searched location, and folders without one."""
    for name in (
        *("option.toml", "variable.toml", "xdg/ccproxy/ccproxy.toml"),
        *("home/ccproxy.toml", "home/cwd/ccproxy.toml", "clone/ccproxy.toml"),
    ):
        write(name, TABLE)
    for name in ("home/cwd/src/deep", "home/empty/deep", "outside"):
        (here / name).mkdir(parents=True)
    return here


@pytest.fixture
def after_make_run(places, monkeypatch):
    """Make clone/.venv the environment of the running command."""
    program = places / "clone/.venv/bin/ccproxy"
    program.parent.mkdir(parents=True)
    program.touch()
    monkeypatch.setattr(sys, "prefix", str(places / "clone/.venv"))
    monkeypatch.setattr(sys, "argv", [str(program)])
    return program


def environ_of(places: Path, **more: str) -> dict[str, str]:
    return {"HOME": str(places / "home"), "XDG_CONFIG_HOME": str(places / "xdg"), **more}


@pytest.mark.parametrize(
    ("cwd", "option", "variable", "expected"),
    [
        pytest.param("home/cwd", "../../option.toml", "x", "option.toml", id="option"),
        pytest.param("home/cwd", None, "../../variable.toml", "variable.toml", id="variable"),
        pytest.param("home/cwd", None, "", "home/cwd/ccproxy.toml", id="the current folder"),
        pytest.param("home/cwd/src", None, "", "home/cwd/ccproxy.toml", id="the folder above"),
        pytest.param("home/cwd/src/deep", None, "", "home/cwd/ccproxy.toml", id="far above"),
        pytest.param("home/empty/deep", None, "", "home/ccproxy.toml", id="the home folder's"),
        pytest.param("outside", None, "", "xdg/ccproxy/ccproxy.toml", id="the config folder"),
        pytest.param("outside", "../home/cwd", "", "home/cwd/ccproxy.toml", id="a folder named"),
    ],
)
@pytest.mark.usefixtures("after_make_run")
def test_the_order_of_the_locations(places, monkeypatch, cwd, option, variable, expected):
    monkeypatch.chdir(places / cwd)
    environ = environ_of(places, CCPROXY_CONFIG=variable)
    assert find_config(option, environ=environ) == places / expected
    assert place_for_config(option, environ=environ) == places / expected


def test_an_unknown_home_folder_is_named_like_any_missing_file():
    with pytest.raises(ConfigError, match=r"^  - ~no-such-user/x\.toml: this file does not exist"):
        find_config("~no-such-user/x.toml", environ={})


def test_the_config_folder_without_xdg(write, here, monkeypatch):
    file = write("home/.config/ccproxy/ccproxy.toml", TABLE)
    (here / "elsewhere").mkdir()
    monkeypatch.chdir(here / "elsewhere")
    assert find_config(None, environ={"HOME": str(here / "home")}) == file


def test_folders_above_the_home_folder_are_not_searched(write, here, monkeypatch):
    write("ccproxy.toml", TABLE)
    (here / "home/cwd").mkdir(parents=True)
    environ = environ_of(here)
    for folder in ("home", "home/cwd"):
        monkeypatch.chdir(here / folder)
        assert place_for_config(None, environ=environ) == here / "xdg/ccproxy/ccproxy.toml"


def test_the_search_ends_with_the_filesystem(write, here, monkeypatch):
    write("ccproxy.toml", TABLE)
    (here / "mount/cwd").mkdir(parents=True)
    monkeypatch.chdir(here / "mount/cwd")
    assert find_config(None, environ=environ_of(here)) == here / "ccproxy.toml"
    monkeypatch.setattr(os.path, "ismount", lambda path: str(path) in ("/", str(here / "mount")))
    assert place_for_config(None, environ=environ_of(here)) != here / "ccproxy.toml"


# Next to the virtual environment.


def test_the_folder_of_the_virtual_environment_is_the_last(after_make_run, places, monkeypatch):
    monkeypatch.chdir(places / "outside")
    (places / "xdg/ccproxy/ccproxy.toml").unlink()
    assert find_config(None, environ=environ_of(places)) == places / "clone/ccproxy.toml"
    # A symbolic link on PATH also leads to this command.
    link = places / "outside/ccproxy"
    link.symlink_to(after_make_run)
    monkeypatch.setattr(sys, "argv", [str(link)])
    assert place_for_config(None, environ=environ_of(places)) == places / "clone/ccproxy.toml"


@pytest.mark.parametrize(
    ("program", "prefix"),
    [
        pytest.param("clone/.venv/bin/pytest", "clone/.venv", id="another command"),
        pytest.param("clone/bin/ccproxy", "clone/.venv", id="not inside"),
        pytest.param("clone/.venv/bin/ccproxy", None, id="no virtual environment"),
    ],
)
def test_other_commands_do_not_add_a_folder(program, prefix, places, monkeypatch):
    monkeypatch.chdir(places / "outside")
    prefix = sys.base_prefix if prefix is None else str(places / prefix)
    monkeypatch.setattr(sys, "prefix", prefix)
    monkeypatch.setattr(sys, "argv", [str(places / program)])
    environ = environ_of(places, XDG_CONFIG_HOME=str(places / "none"))
    own = places / "none/ccproxy/ccproxy.toml"
    assert place_for_config(None, environ=environ) == own


# Who could have created the table.


def shared_by(group: str, members: list[str]):
    """Set the system's answer about the group of the user's files."""
    return lambda number: grp.struct_group((group, "x", number, members))


def user_name() -> str:
    return pwd.getpwuid(os.geteuid()).pw_name


@pytest.mark.parametrize(
    ("folder_mode", "mode", "is_used"),
    [
        pytest.param(0o755, 0o644, True, id="the user's alone"),
        pytest.param(0o755, 0o646, False, id="others can write it"),
        pytest.param(0o777, 0o644, False, id="others can replace it"),
        pytest.param(0o1777, 0o644, False, id="others can put another next to it"),
    ],
)
def test_a_table_above_must_be_the_users(folder_mode, mode, is_used, write, here, monkeypatch):
    file = write("shared/ccproxy.toml", TABLE)
    (here / "shared/cwd").mkdir()
    monkeypatch.chdir(here / "shared/cwd")
    file.chmod(mode)
    file.parent.chmod(folder_mode)
    result = place_for_config(None, environ=environ_of(here))
    assert (result == file) is is_used


def test_a_table_of_the_environment_must_be_the_users(after_make_run, places, monkeypatch):
    monkeypatch.chdir(places / "outside")
    (places / "clone").chmod(0o777)
    own = places / "none/ccproxy/ccproxy.toml"
    environ = environ_of(places, XDG_CONFIG_HOME=str(places / "none"))
    assert place_for_config(None, environ=environ) == own


@pytest.mark.parametrize(
    ("group", "members", "is_used"),
    [
        pytest.param(user_name(), [], True, id="a group of the user's own"),
        pytest.param(user_name(), [user_name()], True, id="without other members"),
        pytest.param(user_name(), ["somebody"], False, id="with another member"),
        pytest.param("staff", [], False, id="another group"),
    ],
)
def test_a_group_that_may_write(group, members, is_used, write, here, monkeypatch):
    file = write("cwd/ccproxy.toml", TABLE)
    (here / "cwd/src").mkdir()
    monkeypatch.chdir(here / "cwd/src")
    file.chmod(0o664)
    monkeypatch.setattr(grp, "getgrgid", shared_by(group, members))
    result = place_for_config(None, environ=environ_of(here))
    assert (result == file) is is_used


def test_a_table_of_another_user_is_not_used(write, here, monkeypatch):
    file = write("cwd/ccproxy.toml", TABLE)
    (here / "cwd/src").mkdir()
    monkeypatch.chdir(here / "cwd/src")
    if os.geteuid() == 0:
        os.chown(file, NOBODY, NOBODY)
    else:
        monkeypatch.setattr(os, "geteuid", lambda: NOBODY)
    assert place_for_config(None, environ=environ_of(here)) != file


# Without a table.


@pytest.mark.parametrize(
    ("option", "environ", "expected"),
    [
        pytest.param(
            "no.toml",
            {},
            "no.toml: this file does not exist (set by --config)\n      fix: correct --config",
            id="the option names nothing",
        ),
        pytest.param(
            None,
            {"CCPROXY_CONFIG": "no.toml"},
            "no.toml: this file does not exist (set by $CCPROXY_CONFIG)\n"
            "      fix: correct $CCPROXY_CONFIG",
            id="the variable names nothing",
        ),
    ],
)
def test_an_explicit_file_that_does_not_exist(here, complaints, option, environ, expected):
    assert complaints(find_config, option, environ=environ) == [expected]


def test_every_searched_location_is_reported(write, here, complaints, monkeypatch):
    table = write("home/shared/ccproxy.toml", TABLE)
    table.chmod(0o666)
    (here / "home/shared/cwd").mkdir()
    monkeypatch.chdir(here / "home/shared/cwd")
    assert complaints(find_config, None, environ=environ_of(here)) == [
        "ccproxy.toml: there is no ccproxy.toml in the searched locations\n"
        f"      ccproxy.toml: neither in this folder nor above it, up to {here}/home\n"
        f"      {here}/xdg/ccproxy/ccproxy.toml: does not exist\n"
        f"      {table}: not used, because other users can change it or its folder\n"
        "      fix: create one with ccproxy init, or name yours with -c FILE or $CCPROXY_CONFIG"
    ]


@pytest.mark.parametrize(
    ("option", "environ", "location"),
    [
        pytest.param("new.toml", {}, "new.toml", id="the folder of the option"),
        pytest.param(".", {}, "ccproxy.toml", id="in the folder that the option names"),
        pytest.param(
            None, {"CCPROXY_CONFIG": "a/b.toml"}, "a/b.toml", id="the folder of the variable"
        ),
        pytest.param(None, {"XDG_CONFIG_HOME": "x"}, "x/ccproxy/ccproxy.toml", id="the user's own"),
    ],
)
def test_the_path_of_a_first_table(here, option, environ, location):
    assert place_for_config(option, environ=environ) == here / location

"""The launchd agent, parsed by plistlib, and by plutil if it is installed."""

from __future__ import annotations

import plistlib
import shutil
import subprocess
from pathlib import Path

import pytest

from ccproxy.cli.service.launchd import PREFIX, agent_for, table_of
from ccproxy.config.fleet import Fleet
from ccproxy.errors import CcproxyError
from tests.cli.service.test_systemd import ODD


def agent_of(folder="/h", name="ccproxy"):
    fleet = Fleet(home=Path(folder), file=Path(folder) / "ccproxy.toml", entries=())
    command = [f"{folder}/python", "-m", "ccproxy", "--config", f"{folder}/ccproxy.toml", "up"]
    return agent_for(fleet, name=name, command=command).encode(), command


def test_the_agent_is_restarted_with_a_delay():
    agent = plistlib.loads(agent_of(name="work")[0])
    assert agent["Label"] == PREFIX + "work"
    assert agent["RunAtLoad"] is True
    assert agent["KeepAlive"] == {"SuccessfulExit": False}
    assert agent["ThrottleInterval"] >= 10
    assert agent["ExitTimeOut"] > 30
    assert agent["Umask"] == 0o077
    assert agent["HardResourceLimits"]["Core"] == 0


@pytest.mark.parametrize("folder", [*ODD, "/<tag>&amp;", "/]]>"])
def test_any_path_reads_back(folder):
    data, command = agent_of(folder)
    agent = plistlib.loads(data)
    assert agent["ProgramArguments"] == command
    assert agent["StandardErrorPath"] == f"{folder}/logs/service.out"
    assert table_of(data) == Path(folder) / "ccproxy.toml"


@pytest.mark.parametrize("char", ["\x1b", "\udce9"])
def test_a_path_that_xml_cannot_represent_is_refused(char):
    with pytest.raises(CcproxyError, match="fix: move the fleet"):
        agent_of(f"/a{char}b")


@pytest.mark.parametrize(
    "data",
    [
        *(b"", b"not xml", b"<?xml version='1.0'?><plist><dict>", b"bplist00\xff"),
        *map(plistlib.dumps, ([], {"Label": "x"}, {"ProgramArguments": ["x"]})),
    ],
)
def test_an_agent_of_another_program_has_no_table(data):
    assert table_of(data) is None


@pytest.mark.skipif(shutil.which("plutil") is None, reason="plutil is macOS's own")
def test_plutil_accepts_the_agent(tmp_path):
    file = tmp_path / "agent.plist"
    file.write_bytes(agent_of()[0])
    assert subprocess.run(["plutil", "-lint", file], check=False).returncode == 0

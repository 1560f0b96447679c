"""Changes of the table and the env files since the workers were started."""

from __future__ import annotations

from pathlib import Path

from ccproxy.config.fleet import read_fleet
from ccproxy.supervisor.config_changes import ConfigChanges, source_of
from ccproxy.supervisor.state.records import Spec


def write(home: Path, name: str, text: str) -> Path:
    file = home / name
    file.parent.mkdir(exist_ok=True)
    file.write_text(text)
    return file


def spec_of(table: Path, label: str) -> Spec:
    """Return the spec that the supervisor records when it starts the entry *label*."""
    fleet, _ = read_fleet(table)
    (entry,) = (entry for entry in fleet.entries if entry.label == label)
    return Spec(
        label=entry.label,
        host="127.0.0.1",
        port=entry.port,
        env_file=str(entry.env_file),
        source=source_of(entry),
    )


def test_an_entry_that_init_adds_to_the_local_table_is_not_changed(tmp_path: Path) -> None:
    table = write(tmp_path, "ccproxy.toml", 'proxies = ["8081:envs/a.env:A"]\n')
    write(tmp_path, "envs/a.env", "PROVIDER=demo\n")
    changes = ConfigChanges(table)
    assert changes.of(spec_of(table, "A")) == ""
    write(tmp_path, "envs/b.env", "PROVIDER=demo\n")
    local = write(tmp_path, "ccproxy.local.toml", 'proxies = ["8082:envs/b.env:B"]\n')
    added = spec_of(table, "B")
    assert changes.of(added) == ""
    local.write_text('proxies = ["8083:envs/b.env:B"]\n')
    assert changes.of(added) == "changed"
    local.unlink()
    assert changes.of(added) == "removed"
    assert changes.of(spec_of(table, "A")) == ""


def test_a_changed_or_removed_env_file_is_a_change(tmp_path: Path) -> None:
    table = write(tmp_path, "ccproxy.toml", 'proxies = ["8081:envs/a.env:A"]\n')
    env = write(tmp_path, "envs/a.env", "PROVIDER=demo\n")
    changes, spec = ConfigChanges(table), spec_of(table, "A")
    assert changes.of(spec) == ""
    env.write_text("PROVIDER=demo\nMAX_RETRIES=1\n")
    assert changes.of(spec) == "changed"
    env.unlink()
    assert changes.of(spec) == "unreadable"

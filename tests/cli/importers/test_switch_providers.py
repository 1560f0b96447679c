"""cc-switch: database, export and early config.json, with the tables of its version 3."""

from __future__ import annotations

import json
import sqlite3

import pytest

from ccproxy.config.routing_tables import read_routing_tables

SCHEMA = """CREATE TABLE providers (
    id TEXT NOT NULL, app_type TEXT NOT NULL, name TEXT NOT NULL, settings_config TEXT NOT NULL,
    website_url TEXT, category TEXT, created_at INTEGER, sort_index INTEGER, notes TEXT,
    icon TEXT, icon_color TEXT, meta TEXT NOT NULL DEFAULT '{}',
    is_current BOOLEAN NOT NULL DEFAULT 0, in_failover_queue BOOLEAN NOT NULL DEFAULT 0,
    PRIMARY KEY (id, app_type))"""
LOGS = "CREATE TABLE proxy_request_logs (request_id TEXT, at TEXT DEFAULT (datetime('now')))"
KEY = "sk-0123456789abcdef%d"


def claude(address, key, **models):
    env = {"ANTHROPIC_BASE_URL": address, "ANTHROPIC_AUTH_TOKEN": key, **models}
    return {"env": env}


CODEX = """\
model_provider = "custom"
model = "gpt-5.4"
[model_providers.custom]
base_url = "https://relay.example/v1"
wire_api = "responses"
"""
ROWS = [
    ("claude", "Claude Official", {"env": {}}, {}, 0, 0),
    (
        "claude",
        "Kimi For; Coding's",
        claude(
            "https://api.kimi.com/coding/",
            KEY % 1,
            ANTHROPIC_MODEL="kimi-k3[1m]",
            ANTHROPIC_DEFAULT_HAIKU_MODEL="kimi-k2.7",
        ),
        {},
        1,
        1,
    ),
    ("claude", "智谱 GLM", claude("https://open.bigmodel.cn/api/anthropic", KEY % 2), {}, 0, 1),
    (
        "claude",
        "Relay",
        claude("https://relay.example/v1", KEY % 3, ANTHROPIC_MODEL="gpt-5.4"),
        {"apiFormat": "openai_chat"},
        0,
        0,
    ),
    ("claude", "Gem", claude("https://x.example", KEY % 4), {"apiFormat": "gemini_native"}, 0, 0),
    (
        "claude",
        "Copilot",
        claude("https://y.example", ""),
        {"providerType": "github_copilot"},
        0,
        0,
    ),
    ("codex", "Relay", {"auth": {"OPENAI_API_KEY": KEY % 5}, "config": CODEX}, {}, 1, 0),
    ("codex", "ChatGPT", {"auth": {}, "config": ""}, {}, 0, 0),
    ("gemini", "Google", {"env": {"GEMINI_API_KEY": KEY % 6}}, {}, 1, 0),
]


def fill(database):
    database.execute(SCHEMA)
    database.execute(LOGS)
    for number, (app, name, settings, meta, current, failover) in enumerate(ROWS):
        database.execute(
            "INSERT INTO providers (id, app_type, name, settings_config, sort_index, meta,"
            " is_current, in_failover_queue) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (
                f"id{number}",
                app,
                name,
                json.dumps(settings),
                number,
                json.dumps(meta),
                current,
                failover,
            ),
        )
    database.execute("INSERT INTO proxy_request_logs (request_id) VALUES ('a;b')")
    database.commit()


def write_database(home):
    file = home / "cc-switch.db"
    database = sqlite3.connect(file)
    fill(database)
    database.close()
    return file


def write_dump(home):
    database = sqlite3.connect(":memory:")
    fill(database)
    lines = [line for line in database.iterdump() if not line.startswith(("BEGIN", "COMMIT"))]
    database.close()
    head = "-- CC Switch SQLite 导出\n-- 2026-11-01\nPRAGMA foreign_keys=OFF;\nBEGIN TRANSACTION;\n"
    file = home / "export.sql"
    file.write_text(head + "\n".join(lines) + "\nCOMMIT;\n")
    return file


def write_config(home):
    document = {"version": 2, "mcp": {}}
    for number, (app, name, settings, meta, current, failover) in enumerate(ROWS):
        manager = document.setdefault(app, {"providers": {}, "current": ""})
        manager["providers"][f"id{number}"] = {
            "id": f"id{number}",
            "name": name,
            "settingsConfig": settings,
            "meta": meta,
            "inFailoverQueue": bool(failover),
        }
        if current:
            manager["current"] = f"id{number}"
    file = home / "config.json"
    file.write_text(json.dumps(document))
    return file


@pytest.mark.parametrize("write", [write_database, write_dump, write_config])
def test_every_form_becomes_the_same_fleet(home, run_import, ccproxy, write):
    file = write(home)
    content = file.read_bytes()
    done, checked = run_import(file)
    assert ccproxy("check").exit_code == 0
    kimi, glm = checked.workers["Kimi-For-Coding-s"], checked.workers["GLM-2"]
    assert (kimi.provider, kimi.api, kimi.models.big) == ("kimi-code", "messages", "kimi-k3")
    assert (kimi.models.middle, kimi.models.small) == ("kimi-k3", "kimi-k2.7")
    assert kimi.messages_url() == "https://api.kimi.com/coding/v1/messages"
    assert (glm.provider, glm.api) == ("bigmodel", "messages")
    relays = {checked.workers[label].api: label for label in checked.workers if "Relay" in label}
    assert set(relays) == {"chat", "responses"}
    assert (
        checked.workers[relays["chat"]].chat_url("m") == "https://relay.example/v1/chat/completions"
    )
    tables, mistakes = read_routing_tables(checked.fleet)
    assert not mistakes
    assert tables.fallbacks == {"kimi-for-coding-s": ("GLM-2",)}
    for line in (
        "Claude Official (claude): it has no ANTHROPIC_BASE_URL: it is the login of Claude Code",
        'Gem (claude): its format "gemini_native" is not supported',
        "Copilot (claude): it uses a login that cc-switch keeps, not a key",
        "ChatGPT (codex): it has no base_url: it is the login of Codex",
        "1 of gemini: only providers of Claude Code and Codex are imported",
    ):
        assert line in done.stdout
    assert "sk-0123456789" not in done.stdout
    assert file.read_bytes() == content
    assert not [path for path in home.iterdir() if path.name.startswith("cc-switch.db-")]


HEADER = "-- CC Switch SQLite 导出\n"


@pytest.mark.parametrize(
    "sql",
    [
        "INSERT INTO providers VALUES (load_extension('x'));",
        "CREATE TABLE providers AS SELECT readfile('/etc/passwd');",
        "CREATE TABLE providers AS WITH RECURSIVE n(x) AS (VALUES(1) UNION ALL SELECT x+1 FROM n)"
        " SELECT x FROM n;",
        "CREATE TABLE providers (a",
        "CREATE TABLE providers (a TEXT);",
        "DROP TABLE providers;",
    ],
)
def test_an_export_can_only_fill_a_table(home, refused, sql):
    file = home / "export.sql"
    file.write_text(HEADER + sql)
    assert "cannot be read" in refused(file)


def test_other_statements_of_an_export_are_not_run(home, refused):
    file = home / "export.sql"
    file.write_text(
        f"{HEADER}ATTACH DATABASE '{home}/new.db' AS other; VACUUM INTO '{home}/copy.db';"
    )
    assert "no such table: providers" in refused(file)


def test_a_damaged_database_is_reported(home, refused):
    file = home / "cc-switch.db"
    file.write_bytes(b"SQLite format 3\0" + bytes(range(256)) * 20)
    assert "cannot be read" in refused(file)


def test_a_database_of_another_program_is_refused(home, refused):
    database = sqlite3.connect(home / "x.db")
    database.execute("CREATE VIEW providers AS SELECT 1")
    database.execute("CREATE TABLE other (a)")
    database.commit()
    database.close()
    assert "none of the formats" in refused(home / "x.db")


def test_unsupported_values_are_left_out(home, run_import):
    """The database contains nested TOML of Codex, and computed columns of any size."""
    schema = SCHEMA.replace("name TEXT NOT NULL", "name TEXT AS (hex(zeroblob(1000000)))")
    with sqlite3.connect(home / "cc-switch.db") as database:
        database.execute(schema)
        for number, config in enumerate((CODEX, f"a = {'[' * 100_000}")):
            settings = {"auth": {"OPENAI_API_KEY": KEY % number}, "config": config}
            database.execute(
                "INSERT INTO providers (id, app_type, settings_config) VALUES (?, 'codex', ?)",
                (number, json.dumps(settings)),
            )
    database.close()
    done, checked = run_import(home / "cc-switch.db")
    assert len(checked.workers) == 3
    assert "recursion" in done.stdout
    assert max(map(len, done.stdout.splitlines())) < 400


def test_a_long_export_of_comments_takes_linear_time(home, refused):
    file = home / "export.sql"
    file.write_text(HEADER + "SELECT 1" + "\n--" * 300_000)
    assert "no such table: providers" in refused(file)

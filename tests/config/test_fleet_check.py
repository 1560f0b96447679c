"""The check of the table together with all env files."""

from __future__ import annotations

import time

import pytest

from ccproxy.config.fleet_check import check_fleet, load_all
from ccproxy.errors import ConfigError

KEY = "sk-provider-000000001"


@pytest.fixture
def fleet(write):
    """A fleet of two entries with valid files."""
    write("envs/kimi.env", f"PROVIDER=kimi\nPROVIDER_API_KEY={KEY}\n")
    write("envs/demo.env", "PROVIDER=demo\n")
    table = 'proxies = [\n  "8081:envs/kimi.env:Kimi",\n  "8082:envs/demo.env:Demo",\n]\n'
    return write("ccproxy.toml", table)


def test_a_fleet_without_mistakes(fleet):
    checked = load_all(fleet)
    assert [entry.label for entry in checked.fleet.entries] == ["Kimi", "Demo"]
    assert checked.workers["Kimi"].port == 8081
    assert checked.workers["Demo"].provider == "demo"


def test_mistakes_of_all_files_are_reported_at_once(fleet, write, complaints):
    write("envs/kimi.env", "PROVIDER=kimi\nPROVIDER_API_KEY=sk-xxx\nMAX_RETRIES=x\n")
    table = fleet.read_text().replace("]", '  "0:envs/demo.env:Zero",\n  "8084:envs/no.env:No",\n]')
    write("ccproxy.toml", table)
    assert [one.split(" ")[0] for one in complaints(load_all, fleet)] == [
        "ccproxy.toml:4:",
        "envs/kimi.env:2:",
        "envs/kimi.env:3:",
        "ccproxy.toml:5:",
    ]


def test_valid_entries_are_loaded_despite_mistakes(fleet, write):
    write("envs/kimi.env", "PROVIDER=kimi\n")
    checked = check_fleet(fleet)
    assert list(checked.workers) == ["Demo"]
    assert len(checked.mistakes) == 1


def test_a_loop_through_another_entry_is_reported(fleet, write, complaints):
    write("envs/demo.env", "PROVIDER=demo\nPROVIDER_BASE_URL=http://localhost:8081/v1\n")
    [expected] = complaints(load_all, fleet)
    assert "PROVIDER_BASE_URL must not be the address of the proxy Kimi" in expected


@pytest.mark.parametrize(
    ("kimi", "demo", "message"),
    [
        pytest.param(
            "BIG_MODEL=Demo:big",
            "BIG_MODEL=Kimi:big",
            "Kimi:big -> Demo:big -> Kimi:big"
            "\n      envs/kimi.env:4   BIG_MODEL=Demo:big"
            "\n      envs/demo.env:3   BIG_MODEL=Kimi:big",
            id="two",
        ),
        pytest.param(
            "SMALL_MODEL=Kimi:small",
            "",
            "Kimi:small -> Kimi:small\n      envs/kimi.env:4   SMALL_MODEL=Kimi:small",
            id="one",
        ),
        pytest.param(
            "BIG_MODEL=Demo:middle",
            "BIG_MODEL=Kimi:middle",
            "Demo:middle -> Kimi:middle -> Demo:middle"
            "\n      envs/demo.env:3   BIG_MODEL=Kimi:middle"
            "\n      envs/kimi.env:4   BIG_MODEL=Demo:middle",
            id="the middle tier has the big one's model",
        ),
    ],
)
def test_a_cycle_of_tiers_is_reported_with_its_lines(write, kimi, demo, message, complaints):
    url = "PROVIDER_BASE_URL=http://127.0.0.1:9/v1\n"
    write("envs/kimi.env", f"# Kimi\nPROVIDER_API_KEY={KEY}\n{url}{kimi}\n")
    write("envs/demo.env", f"PROVIDER_API_KEY={KEY}\n{url}{demo}\n")
    table = write("ccproxy.toml", 'proxies = ["8081:envs/kimi.env:Kimi","8082:envs/demo.env:Demo"]')
    [expected] = complaints(load_all, table)
    assert expected.startswith("envs/")
    assert expected.partition(" in a cycle: ")[2].partition("\n    fix")[0].startswith(message)


def test_a_chain_of_entries_is_not_a_cycle(write):
    url = f"PROVIDER_API_KEY={KEY}\nPROVIDER_BASE_URL=http://127.0.0.1:9/v1\n"
    write("envs/kimi.env", f"{url}BIG_MODEL=Demo:small\nSMALL_MODEL=k\n")
    write("envs/demo.env", f"{url}BIG_MODEL=d\nSMALL_MODEL=Kimi:small\n")
    rows = '"8081:envs/kimi.env:Kimi","8082:envs/demo.env:Demo"'
    assert set(load_all(write("ccproxy.toml", f"proxies = [{rows}]")).workers) == {"Kimi", "Demo"}


def test_a_threshold_needs_a_model_for_long_requests(fleet, write, complaints):
    write("envs/demo.env", "PROVIDER=demo\nLONG_CONTEXT_THRESHOLD=60000\n")
    [expected] = complaints(load_all, fleet)
    assert expected.startswith("envs/demo.env:2: LONG_CONTEXT_THRESHOLD")
    assert "below [routes.Demo] in ccproxy.toml" in expected
    write("ccproxy.toml", f'{fleet.read_text()}\n[routes.Demo]\nlong_context = "Kimi:big"\n')
    assert load_all(fleet).workers["Demo"].long_context_threshold == 60000


def test_a_mistake_of_a_shared_env_file_is_reported_once(fleet, write, complaints):
    write("envs/kimi.env", "PROVIDER=kimi\n")
    write("ccproxy.toml", fleet.read_text().replace("envs/demo.env", "envs/kimi.env"))
    assert len(complaints(load_all, fleet)) == 1


def test_the_message_is_one_list_for_the_user(fleet, write):
    write("envs/kimi.env", "PROVIDER=kimi\n")
    with pytest.raises(ConfigError, match=r"^  - envs/kimi.env:1: PROVIDER_API_KEY is missing"):
        load_all(fleet)


def test_a_broken_table_is_reported_without_an_exception(write):
    checked = check_fleet(write("ccproxy.toml", "proxies = ["))
    assert checked.fleet.entries == ()
    assert len(checked.mistakes) == 1


def test_a_large_fleet_is_checked_at_once(write):
    """Forty entries, each with a mistake, take less than half a second of CPU time."""
    rows = [f'"{8100 + i}:envs/{i}.env:L{i}"' for i in range(40)]
    for i in range(40):
        write(f"envs/{i}.env", f"PROVIDER=kimi\nPROVIDER_API_KEY={KEY}\nBIG_MODLE=x\n")
    table = write("ccproxy.toml", f"proxies = [{','.join(rows)}]")
    check_fleet(table)
    started = time.process_time()
    assert len(check_fleet(table).mistakes) == 40
    assert time.process_time() - started < 0.5

"""Keys with attributes, keys in a separate file, and the resulting strategy."""

from __future__ import annotations

import pytest

from ccproxy.config.worker_config import load_worker
from ccproxy.keys.policy import KeyPolicy, KeyRank

ENV = "envs/x.env"
HEAD = "PROVIDER=kimi\n"
A, B, C = "sk-first-key-aaaa", "sk-second-key-bbbb", "sk-third-key-cccc"


def load(write, text):
    return load_worker(write(ENV, HEAD + text))


@pytest.mark.parametrize(
    ("line", "strategy", "ranks"),
    [
        pytest.param(f"{A},{B}", "rotate", [(1, 1), (1, 1)], id="a plain list"),
        pytest.param(f"{A},{B};priority=2", "priority", [(1, 1), (2, 1)], id="free first"),
        pytest.param(f"{A};weight=3, {B}", "weights", [(1, 3), (1, 1)], id="weights"),
        pytest.param(
            f"{A} ; Weight = 3 ; priority=2 , {B}",
            "priority",
            [(2, 3), (1, 1)],
            id="both, with blanks",
        ),
    ],
)
def test_the_attributes_of_a_key_decide_the_strategy(write, line, strategy, ranks):
    config = load(write, f"PROVIDER_API_KEY={line}\n")
    assert config.api_keys == (A, B)
    assert config.key_policy == KeyPolicy(
        strategy=strategy,
        ranks=tuple(KeyRank(priority=priority, weight=weight) for priority, weight in ranks),
    )


def test_the_policy_has_the_settings_of_the_user(write):
    text = f"PROVIDER_API_KEY={A}\nKEY_STRATEGY=Fill_First\nKEY_AFFINITY=off\nKEY_MOVE_WAIT=0\n"
    policy = load(write, text).key_policy
    assert (policy.strategy, policy.affinity, policy.move_wait) == ("fill-first", "off", 0.0)


@pytest.mark.parametrize(
    ("line", "text"),
    [
        pytest.param(
            f"{A},{B};prio=2",
            '(key 2 of 2) contains the unknown attribute "prio" (did you mean "priority"?): '
            "write ;priority=2 or ;weight=3 (…bbbb)",
            id="an unknown attribute",
        ),
        pytest.param(
            f"{A};priority=0",
            'contains the attribute "priority" without a whole number from 1 to 99 (…aaaa)',
            id="too small",
        ),
        pytest.param(
            f"{A};weight=101",
            'contains the attribute "weight" without a whole number from 1 to 100 (…aaaa)',
            id="too large",
        ),
        pytest.param(
            f"{A};weight",
            'contains the attribute "weight" without a whole number from 1 to 100 (…aaaa)',
            id="no number",
        ),
        pytest.param(
            f"{A};weight=2;weight=3", 'contains the attribute "weight" twice (…aaaa)', id="twice"
        ),
        pytest.param(
            f"{A};{B}", 'contains a semicolon: separate keys with "," (…aaaa)', id="two keys"
        ),
        pytest.param(
            f"{A};{B}=1", 'contains a semicolon: separate keys with "," (…aaaa)', id="like a key"
        ),
        pytest.param(
            f"{A},;priority=2",
            "(key 2 of 2) contains attributes without a key before them (…)",
            id="no key",
        ),
        pytest.param(
            f"{A},{A};weight=2",
            "contains key 1 (…aaaa) again as key 2, with different attributes",
            id="the same key with other attributes",
        ),
    ],
)
def test_a_mistake_in_the_attributes_names_its_position(write, complaints, line, text):
    [complaint] = complaints(load, write, f"PROVIDER_API_KEY={line}\n")
    assert complaint.startswith(f"{ENV}:2: PROVIDER_API_KEY {text}")
    assert not any(secret in complaint for secret in (A, B))


@pytest.mark.parametrize(
    ("keys", "strategy", "text"),
    [
        pytest.param(f"{A};priority=2,{B}", "rotate", "ignores the priority", id="rotate"),
        pytest.param(
            f"{A};priority=2;weight=2,{B}",
            "fill-first",
            "ignores the priority and weight",
            id="fill first",
        ),
        pytest.param(f"{A};priority=2;weight=2", "weights", "ignores the priority", id="weights"),
        pytest.param(
            f"{A},{B}",
            "priority",
            "is priority, but no key has a priority above 1",
            id="no priority",
        ),
        pytest.param(f"{A},{B}", "weights", "is weights, but no key has a weight", id="no weight"),
        pytest.param(f"{A},{B}", "rotat", '(did you mean "rotate"?)', id="a wrong word"),
    ],
)
def test_a_strategy_that_contradicts_the_keys(write, complaints, keys, strategy, text):
    [complaint] = complaints(load, write, f"PROVIDER_API_KEY={keys}\nKEY_STRATEGY={strategy}\n")
    assert complaint.startswith(f"{ENV}:3: KEY_STRATEGY ")
    assert text in complaint


@pytest.mark.parametrize("strategy", ["priority", "weights"])
def test_a_strategy_that_fits_the_keys(write, strategy):
    mark = "priority=2" if strategy == "priority" else "weight=2"
    config = load(write, f"PROVIDER_API_KEY={A},{B};{mark}\nKEY_STRATEGY={strategy}\n")
    assert config.key_policy.strategy == strategy


# A separate file.


def test_keys_in_a_file(write):
    write("envs/own.keys", f"# free\n{A}   # mine\n\n{B};priority=2\n  {C};priority=2  \n")
    config = load(write, "PROVIDER_API_KEYS_FILE=own.keys\n")
    assert config.api_keys == (A, B, C)
    assert config.key_policy.strategy == "priority"
    assert [rank.priority for rank in config.key_policy.ranks] == [1, 2, 2]


@pytest.mark.parametrize(
    ("content", "text"),
    [
        pytest.param("# none\n", "envs/own.keys contains no key", id="empty"),
        pytest.param(
            f"{A}\n\n{B},{C}\n",
            "envs/own.keys:3 contains a comma (…cccc)",
            id="two on a line",
        ),
        pytest.param(
            f"{A}\n{B};prio=1\n", 'envs/own.keys:2 contains the unknown attribute "prio"', id="mark"
        ),
        pytest.param(
            f"{A}\n{A}\n", "envs/own.keys:2 contains the key from line 1 again (…aaaa)", id="twice"
        ),
        pytest.param("x" * 300_000, "envs/own.keys is larger than 256 KiB", id="too large"),
    ],
)
def test_a_mistake_in_the_file_of_keys_names_its_line(write, complaints, content, text):
    write("envs/own.keys", content)
    [complaint] = complaints(load, write, "PROVIDER_API_KEYS_FILE=own.keys\n")
    assert complaint.startswith(f"{ENV}:2: PROVIDER_API_KEYS_FILE: {text}")
    assert not any(secret in complaint for secret in (A, B, C))


def test_a_file_of_keys_saved_on_windows_is_read(write):
    write("envs/own.keys", "").write_bytes(b"\xef\xbb\xbf" + f"{A}\r\n{B}\r\n".encode())
    assert load(write, "PROVIDER_API_KEYS_FILE=own.keys\n").api_keys == (A, B)


def test_a_file_of_keys_that_cannot_be_read(write, complaints):
    [complaint] = complaints(load, write, "PROVIDER_API_KEYS_FILE=own.keys\n")
    assert "envs/own.keys cannot be read: No such file or directory" in complaint
    write("envs/own.keys", "").write_bytes(b"\xff\xfe")
    [complaint] = complaints(load, write, "PROVIDER_API_KEYS_FILE=own.keys\n")
    assert "envs/own.keys is not UTF-8 text" in complaint


def test_a_file_of_keys_must_be_private(write, complaints):
    write("envs/own.keys", A).chmod(0o644)
    [complaint] = complaints(load, write, "PROVIDER_API_KEYS_FILE=own.keys\n")
    assert "envs/own.keys is readable by other users" in complaint
    assert "chmod 600 envs/own.keys" in complaint


def test_keys_in_two_places_are_a_mistake(write, complaints):
    write("envs/own.keys", A)
    text = f"PROVIDER_API_KEYS_FILE=own.keys\nPROVIDER_API_KEY={B}\n"
    [complaint] = complaints(load, write, text)
    assert complaint.startswith(
        f"{ENV}:2: PROVIDER_API_KEYS_FILE is set, but the env file also contains a "
    )

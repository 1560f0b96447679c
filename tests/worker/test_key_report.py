"""The keys over the control socket: listed, tested, disabled and enabled."""

from __future__ import annotations

import re

import pytest

from ccproxy.worker.control_socket import ControlSocket
from ccproxy.worker.key_report import reason
from tests.provider import completion, failure
from tests.worker.test_lifecycle import say

KEYS = ("sk-first-key-aaaa", "sk-second-key-bbbb", "sk-third-key-cccc")


@pytest.fixture
async def proxy(start):
    return await start(PROVIDER_API_KEY=",".join(KEYS))


@pytest.fixture
async def control(proxy, tmp_path):
    socket_file = ControlSocket(tmp_path / "c.sock", proxy.worker, proxy.lifecycle, nonce="n1")
    socket_file.open()
    yield tmp_path / "c.sock"
    socket_file.close()


def key_trouble(proxy):
    return reason(proxy.worker, proxy.worker.pool.snapshot())


async def about_keys(control, action="list", key_id=None):
    return await say(control, {"op": "keys", "action": action, "id": key_id})


def by_key(answers, otherwise=None):
    """Return a provider's script with a different answer for each key."""
    return lambda call: answers.get(call.key, otherwise or completion("ok"))


async def test_the_rows_show_use_and_never_the_key(proxy, control):
    await proxy.ask()
    answer = await about_keys(control)
    assert [(row["id"], row["tail"], row["state"]) for row in answer["keys"]] == [
        ("k1", "…aaaa", "ready"),
        ("k2", "…bbbb", "ready"),
        ("k3", "…cccc", "ready"),
    ]
    assert [row["used_today"] for row in answer["keys"]] == [1, 0, 0]
    assert not any(key in str(answer) for key in KEYS)


async def test_a_key_at_its_daily_limit_is_not_ready(start):
    proxy = await start(PROVIDER_API_KEY=",".join(KEYS), KEY_PER_DAY="1")
    await proxy.ask()
    pattern = r"1 of 3 keys out: k1 …aaaa at its limit of requests per day, next attempt in \d+ \w+"
    assert re.fullmatch(pattern, key_trouble(proxy))


async def test_a_disabled_key_is_not_used_until_it_is_enabled(proxy, control, provider):
    answer = await about_keys(control, "disable", "k1")
    assert [row["state"] for row in answer["keys"]] == ["disabled", "ready", "ready"]
    for _ in range(4):
        await proxy.ask()
    assert KEYS[0] not in [call.key for call in provider.calls]
    assert key_trouble(proxy) == "1 of 3 keys out: k1 …aaaa disabled by the user"
    await about_keys(control, "enable", "k1")
    await proxy.ask()
    assert provider.calls[-1].key == KEYS[0]
    assert proxy.lines("keys.disable")[0]["keys"] == ["k1"]


async def test_a_change_that_a_restart_will_undo_is_reported(proxy, control):
    assert (await about_keys(control, "disable", "k1"))["unsaved"] == ""
    await proxy.worker.keeper.close()
    proxy.worker.keeper = None
    assert "could not be opened" in (await about_keys(control, "enable", "k1"))["unsaved"]
    assert (await about_keys(control))["unsaved"] == ""


async def test_a_reset_ends_the_cooldowns_of_one_key_or_all(proxy, control, provider):
    limits = {key: failure(401) for key in KEYS[:2]}
    provider.script(by_key(limits))
    await proxy.ask()
    states = [row["state"] for row in (await about_keys(control))["keys"]]
    assert states == ["rejected", "rejected", "ready"]
    states = [row["state"] for row in (await about_keys(control, "reset", "k2"))["keys"]]
    assert states == ["rejected", "ready", "ready"]
    states = [row["state"] for row in (await about_keys(control, "reset"))["keys"]]
    assert states == ["ready", "ready", "ready"]


async def test_a_test_uses_the_given_key_and_updates_the_pool(proxy, control, provider):
    provider.script(by_key({KEYS[1]: failure(401, "no such key")}))
    answer = await about_keys(control, "test")
    assert [call.key for call in provider.calls] == list(KEYS)
    assert [test["ok"] for test in answer["tests"]] == [True, False, True]
    bad = answer["tests"][1]
    assert (bad["id"], bad["kind"], bad["status"]) == ("k2", "authentication_error", 401)
    assert [row["state"] for row in answer["keys"]] == ["ready", "rejected", "ready"]
    assert all(row["in_flight"] == 0 for row in answer["keys"])
    # The key works again: a successful test ends every cooldown.
    provider.script(completion("ok"))
    answer = await about_keys(control, "test", "k2")
    assert [row["state"] for row in answer["keys"]] == ["ready", "ready", "ready"]


async def test_a_disabled_key_can_be_tested_and_stays_disabled(control):
    await about_keys(control, "disable", "k3")
    answer = await about_keys(control, "test", "k3")
    assert answer["tests"][0]["ok"]
    assert answer["keys"][2]["state"] == "disabled"


async def test_a_test_that_fails_again_does_not_extend_the_cooldown(proxy, control, provider):
    provider.script(by_key({KEYS[0]: failure(401)}))
    await proxy.ask()
    for _ in range(3):
        await about_keys(control, "test", "k1")
    (rest,) = (await about_keys(control))["keys"][0]["cooldowns"]
    assert rest["seconds"] <= 60


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        pytest.param(
            {"action": "burn"}, "action: must be one of list, test", id="an unknown action"
        ),
        pytest.param(
            {"action": "test", "id": "k9"}, "the keys are k1, k2, k3", id="an unknown key"
        ),
        pytest.param({"action": "test", "id": ["k1"]}, "id: must be str", id="a list of keys"),
    ],
)
async def test_an_invalid_action_is_refused(control, fields, complaint):
    answer = await say(control, {"op": "keys", **fields})
    assert answer["ok"] is False
    assert complaint in answer["error"]


async def test_the_reason_has_cause_and_time_of_every_unavailable_key(proxy, control, provider):
    provider.script(
        by_key({KEYS[0]: failure(429, retry_after=41), KEYS[2]: failure(401)}, completion("ok"))
    )
    for _ in range(3):
        await proxy.ask()
    message = (await say(control, {"op": "state"}))["reason"]
    assert re.fullmatch(
        r"2 of 3 keys out: k1 …aaaa cooling down for 4[01] s \(429, retry-after\) · "
        r"k3 …cccc rejected \(401\) since \d\d:\d\d",
        message,
    )


async def test_an_open_breaker_is_reported(start, provider):
    proxy = await start(PROVIDER_API_KEY=",".join(KEYS))
    provider.script(failure(500))
    for _ in range(5):
        await proxy.ask()
    assert re.fullmatch(
        r"gpt-4o at \S+ is failing; next attempt in (9|10) s · the last 5 requests failed, "
        r"since \d\d:\d\d; last error: The provider had an internal error \(500\).*",
        key_trouble(proxy) or "",
    )


async def test_missing_credit_is_reported_with_its_next_attempt(proxy, control, provider):
    provider.script(by_key({KEYS[0]: failure(402, "credit balance is too low")}))
    await proxy.ask()
    assert re.search(
        r"k1 …aaaa out of credit \(402\) since \d\d:\d\d, next attempt in (59|60) min",
        key_trouble(proxy) or "",
    )


async def test_every_request_gets_the_providers_text(start, provider):
    proxy = await start(PROVIDER_API_KEY=",".join(KEYS))
    provider.script(failure(402, f"Insufficient Balance of {KEYS[1]}"))
    answers = [await proxy.ask() for _ in range(3)]
    assert len(provider.calls) == len(KEYS), "later requests are not sent"
    for answer in answers:
        message = answer.error["message"]
        assert "The provider's last answer: " in message
        assert "Insufficient Balance" in message
        assert KEYS[1] not in message
    assert all("Insufficient Balance" in key.last_error for key in proxy.worker.pool.snapshot())

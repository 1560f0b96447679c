"""A provider that always fails: the cause, the time and the count, until it answers again."""

from __future__ import annotations

import re

import pytest

from ccproxy.ipc.activity import FailedAttempt
from ccproxy.worker.activity.provider_failures import WINDOW, ProviderFailures
from ccproxy.worker.key_report import reason
from ccproxy.worker.server.access_record import CLIENT_LEFT, AccessRecord
from tests.messages import prompt
from tests.ports import free_port
from tests.provider import completion, failure, hang_up, raw
from tests.worker.family import Family


def record(cause: str = "", *, status: int = 502, **fields) -> AccessRecord:
    """Return the record of a request that succeeded or that the provider refused with *cause*."""
    if cause:
        refused = FailedAttempt(at=0.1, key="…0001", status=status, cause=cause, reason="oops")
        fields = {"error": "api_error", "reason": "oops", "failures": (refused,), **fields}
    else:
        status = 200
    values = {"attempts": 1, "status": status, **fields}
    return AccessRecord(request_id="req_1", method="POST", path="/v1/messages", **values)


def trouble(proxy):
    return reason(proxy.worker, proxy.worker.pool.snapshot())


GOOD, BAD = record(), record("server")
PAGE = raw("<html>no route</html>", status=404, headers={"Content-Type": "text/html"})


@pytest.mark.parametrize(
    ("records", "expected"),
    [
        pytest.param([], "", id="no requests"),
        pytest.param([GOOD], "", id="a success"),
        pytest.param([BAD], "the first request failed at TIME; last error: oops", id="the first"),
        pytest.param([GOOD, BAD], "", id="one failure may be by chance"),
        pytest.param(
            [GOOD, BAD, BAD],
            "the last 2 requests failed, since TIME; last error: oops",
            id="two in a row are not",
        ),
        pytest.param([BAD, BAD, BAD, BAD, GOOD], "", id="a success ends an outage"),
        pytest.param([BAD, BAD, GOOD, GOOD, GOOD], "", id="most succeed"),
        pytest.param(
            [BAD, GOOD, BAD, GOOD],
            "2 of 4 requests failed in the last five minutes; last error: oops",
            id="half of them fail",
        ),
        pytest.param([GOOD, *[record("bad_request", status=400)] * 3], "", id="wrong requests"),
        pytest.param([GOOD, *[record("overflow", status=400)] * 3], "", id="too long requests"),
        pytest.param(
            [GOOD, *[record("wrong_url", status=404)] * 3],
            "the last 3 requests failed, since TIME; last error: oops",
            id="a wrong address",
        ),
        pytest.param(
            [GOOD, *[record("server", attempts=0)] * 2],
            "the last 2 requests failed, since TIME; last error: oops",
            id="nothing could be sent",
        ),
        pytest.param(
            [GOOD, *[record(error="api_error", reason="was cut off")] * 2],
            "the last 2 requests failed, since TIME; last error: was cut off",
            id="answers that break off",
        ),
        pytest.param(
            [GOOD, *[record("server", error=None, reason=None, answered_by="GLM")] * 2],
            "the last 2 requests failed, since TIME; last error: oops",
            id="a fallback answered",
        ),
        pytest.param([GOOD, *[record(attempts=0, answered_by="GLM")] * 3], "", id="a route"),
        pytest.param(
            [GOOD, *[record(attempts=0, error="overloaded_error", status=529)] * 3],
            "",
            id="refused by the breaker",
        ),
        pytest.param([GOOD, *[record("server", status=CLIENT_LEFT)] * 3], "", id="clients left"),
    ],
)
def test_failures_are_described(records, expected):
    failures = ProviderFailures()
    for one in records:
        if one.status == 200 and one.error:
            one.status = 502
        failures.note(one)
    assert re.sub(r"\d\d:\d\d", "TIME", failures.describe()) == expected


def test_the_time_is_that_of_the_first_failure_and_the_share_is_of_five_minutes():
    now = 1_760_000_000.0
    failures = ProviderFailures(clock=lambda: now)
    for one in (GOOD, BAD, GOOD, BAD):
        failures.note(one)
    assert failures.describe().startswith("2 of 4 requests failed")
    now += WINDOW
    assert failures.describe() == ""
    text = None
    for _ in range(3):
        failures.note(BAD)
        since = failures.describe().partition("since ")[2][:5]
        assert text in (None, since)
        text = since
        now += 60


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        pytest.param(failure(500), "internal error (500)", id="500"),
        pytest.param(PAGE, "404", id="a web server's 404"),
        pytest.param(hang_up(), "closed the connection without a response", id="hang-up"),
    ],
)
@pytest.mark.parametrize("api", ["chat", "messages", "responses"])
async def test_every_api_shows_it(start, provider, api, answer, text):
    proxy = await start(PROVIDER_API=api)
    provider.script(answer)
    for count in (1, 2):
        await proxy.ask(prompt(stream=count == 1))
    assert "the last 2 requests failed, since " in (trouble(proxy) or "")
    assert text in (trouble(proxy) or "")
    provider.script(completion("hello"))
    await proxy.ask()
    assert trouble(proxy) is None


async def test_an_unreachable_provider_is_shown_between_the_attempts_too(start):
    proxy = await start(PROVIDER_BASE_URL=f"http://127.0.0.1:{free_port()}/v1")
    await proxy.ask()
    assert re.fullmatch(
        r"the first request failed at \d\d:\d\d; last error: no answer from \S+: connection .*",
        trouble(proxy) or "",
    )


async def test_a_fallback_does_not_hide_the_failures(tmp_path):
    async with Family(tmp_path) as family:
        await family.start('[fallback]\nKimi = ["GLM"]', Kimi={}, GLM={})
        kimi = family.proxies["Kimi"]
        family.providers["Kimi"].script(failure(500))
        for _ in range(2):
            assert (await kimi.ask()).status == 200
        assert "the last 2 requests failed" in (trouble(kimi) or "")

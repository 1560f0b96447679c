"""Small requests to the provider: their limits and errors."""

from __future__ import annotations

import pytest

from ccproxy.worker.upstream.auxiliary_request import AuxiliaryRequestError, auxiliary_request
from tests.provider import raw

LIMIT = 2048


async def fetch(proxy, provider):
    return await auxiliary_request(proxy.worker.config, f"{provider.url}/x", {}, most=LIMIT)


async def test_a_body_of_the_maximum_size_is_returned(start, provider):
    provider.pages["/v1/x"] = raw("x" * LIMIT)
    assert await fetch(await start(), provider) == b"x" * LIMIT


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        pytest.param(raw("x" * (LIMIT + 1)), "the answer is larger than 2 KiB", id="too large"),
        pytest.param(
            raw("x" * (LIMIT + 1), status=403),
            "the provider answered with status 403",
            id="an error that is too large",
        ),
    ],
)
async def test_errors(start, provider, answer, reason):
    provider.pages["/v1/x"] = answer
    with pytest.raises(AuxiliaryRequestError, match=reason):
        await fetch(await start(), provider)

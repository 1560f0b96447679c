"""Small requests to the provider that are not for a model, limited in time and size."""

from __future__ import annotations

from collections.abc import Mapping

import aiohttp

from ccproxy.config.forward_proxy import proxy_for
from ccproxy.config.worker_config import WorkerConfig
from ccproxy.worker.upstream.connections import explain, open_session

SECONDS = 15.0
"""Time limit for one answer."""


class AuxiliaryRequestError(Exception):
    """The request got no usable answer; the message states the reason."""


async def auxiliary_request(
    config: WorkerConfig, url: str, headers: Mapping[str, str], *, most: int
) -> bytes:
    """
    Return the body of the answer to GET *url*, at most *most* bytes. Redirects are not followed.

    Raises:
        AuxiliaryRequestError: If there is no answer, its status is not 200, or it is too large.
    """
    timeout = aiohttp.ClientTimeout(total=SECONDS)
    try:
        async with (
            open_session(config.ca_bundle, timeout=timeout) as session,
            session.get(
                url,
                headers=headers,
                allow_redirects=False,
                proxy=proxy_for(url, config.upstream_proxy),
            ) as answer,
        ):
            if answer.status != 200:
                raise AuxiliaryRequestError(f"the provider answered with status {answer.status}")
            return await read_limited(answer, most)
    except (aiohttp.ClientError, OSError, TimeoutError) as error:
        raise AuxiliaryRequestError(explain(error)) from error


async def read_limited(answer: aiohttp.ClientResponse, most: int) -> bytes:
    """Return the body of *answer*; raise AuxiliaryRequestError if it exceeds *most* bytes."""
    body = bytearray()  # not bytes: a server might send many small pieces
    while len(body) <= most and (more := await answer.content.read(most + 1)):
        body += more
    if len(body) > most:
        raise AuxiliaryRequestError(f"the answer is larger than {most >> 10} KiB")
    return bytes(body)

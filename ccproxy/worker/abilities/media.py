"""Images and documents of a request that the model cannot read, as text."""

from __future__ import annotations

from ccproxy.convert.abilities.media_blocks import MediaBody
from ccproxy.protocol.messages import BASE64
from ccproxy.worker.abilities.eyes import Eyes
from ccproxy.worker.server.http import ClientRequest

HINT = "this model sees no images; VISION in the env file names a model that describes them"


def needs_text(request: ClientRequest, body: bytes, model: str) -> bool:
    """Return True if *body* may hold images that *model* cannot see but another one describes."""
    worker = request.worker
    if BASE64 not in body or worker.rules.target_of(model).quirks.images:
        return False
    if worker.descriptions is None and b'"image"' in body and model not in worker.hinted:
        worker.hinted.add(model)
        worker.logs.events.warning("image.dropped", model=model, hint=HINT)
    return worker.descriptions is not None


async def as_text(request: ClientRequest, body: bytes) -> bytes:
    """Return *body* with descriptions in place of images."""
    media = MediaBody(body)
    if (store := request.worker.descriptions) is not None:
        await Eyes(request, store).describe(media)
    return media.body()

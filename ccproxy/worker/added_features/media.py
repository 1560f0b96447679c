"""Convert images and documents that the model cannot read into text."""

from __future__ import annotations

from typing import NamedTuple

from ccproxy.convert.added_features.media_blocks import (
    PDF_TYPE,
    Content,
    MediaBody,
    data_of,
    media_type_of,
)
from ccproxy.convert.added_features.pdf_pages import pdf_blocks
from ccproxy.protocol.messages import BASE64
from ccproxy.providers.quirks import Quirks
from ccproxy.worker.added_features.image_describer import ImageDescriber
from ccproxy.worker.added_features.pdf_texts import PdfTexts, can_read_pdfs
from ccproxy.worker.server.http import ClientRequest

IMAGE_HINT = (
    "this model does not accept images; VISION in the env file names a model that describes them"
)
PDF_HINT = (
    "this provider does not accept PDFs; `pip install 'ccproxy-fleet[pdf]'` makes ccproxy send "
    "their text instead"
)

MAX_HINTS = 256
"""Maximum number of hints that are remembered; clients can name any number of models."""


class MediaNeeds(NamedTuple):
    """The kinds of media to convert into text."""

    images: bool
    pdfs: bool
    vision: bool
    """Whether the model accepts images."""
    model: str


def media_needs(
    request: ClientRequest, body: bytes, quirks: Quirks, model: str
) -> MediaNeeds | None:
    """Return the media in *body* that must and can be converted for *model*, or None."""
    worker = request.worker
    if BASE64 not in body:
        return None
    # Quotes inside strings are escaped, so these patterns match only values.
    has_images = not quirks.images and b'"image"' in body
    has_pdfs = (
        quirks.pdf == "text" and worker.config.api != "messages" and b'"application/pdf"' in body
    )
    describes, reads = worker.descriptions is not None, can_read_pdfs() if has_pdfs else False
    if has_images and not describes:
        _hint(request, "image.dropped", model, IMAGE_HINT)
    if has_pdfs and not reads:
        _hint(request, "pdf.dropped", model, PDF_HINT)
    needs = MediaNeeds(has_images and describes, has_pdfs and reads, quirks.images, model)
    return needs if needs.images or needs.pdfs else None


async def as_text(request: ClientRequest, body: bytes, needs: MediaNeeds) -> bytes:
    """Return *body* with PDFs, images and images in PDFs replaced with text."""
    media = MediaBody(body)
    store = request.worker.descriptions
    if needs.pdfs:
        await _read_pdfs(request, media, needs, shows_pictures=needs.vision or store is not None)
    if store is not None and not needs.vision:
        await ImageDescriber(request, store).describe(media)
    return media.body()


async def _read_pdfs(
    request: ClientRequest, media: MediaBody, needs: MediaNeeds, *, shows_pictures: bool
) -> None:
    worker = request.worker
    texts = worker.pdf_texts = worker.pdf_texts or PdfTexts()
    read = await texts.read(data_of(block) for _, block in media.media() if _is_pdf(block))
    if not shows_pictures and any(page.image for pdf in read.values() for page in pdf.pages):
        _hint(request, "scan.dropped", needs.model, IMAGE_HINT)

    def change(block: Content) -> list[Content] | None:
        if not _is_pdf(block):
            return None
        return pdf_blocks(block, read[data_of(block)], shows_pictures=shows_pictures)

    media.replace(change)


def _is_pdf(block: Content) -> bool:
    return block["type"] == "document" and media_type_of(block) == PDF_TYPE


def _hint(request: ClientRequest, event: str, model: str, hint: str) -> None:
    """Log a hint for the user, once per event and model."""
    worker = request.worker
    if (event, model) not in worker.hinted and len(worker.hinted) < MAX_HINTS:
        worker.hinted.add((event, model))
        worker.logs.events.warning(event, model=model, hint=hint)

"""Describe images for models without vision, with the model in VISION."""

from __future__ import annotations

import asyncio

from ccproxy.convert.added_features.image_descriptions import (
    MAX_IMAGE,
    ImageQuestion,
    SeenImage,
    add_block,
    answered,
    described,
    describer_request,
    description_in,
    description_key,
    image_key,
    images_of,
    is_refusal,
    not_described,
    questions_of,
)
from ccproxy.convert.added_features.media_blocks import Content, MediaBody, data_of
from ccproxy.errors import Problem
from ccproxy.worker.added_features.description_store import DescriptionStore
from ccproxy.worker.added_features.model_call import ask_model
from ccproxy.worker.server.http import ClientRequest

MAX_NEW_IMAGES = 8
"""The maximum number of new descriptions per request; further images are replaced by notes."""


class ImageDescriber:
    """Describes the images of one request."""

    def __init__(self, request: ClientRequest, store: DescriptionStore) -> None:
        self._request = request
        self._store = store

    async def describe(self, body: MediaBody) -> None:
        """Replace the images in *body* with descriptions, and answer the user's later questions."""
        images = images_of(body)
        new = [image for image in images if self._cached(image) is None]
        late = {image.key for image in new[MAX_NEW_IMAGES:]}
        questions = list(questions_of(body, images))
        texts, answers = await asyncio.gather(
            asyncio.gather(*(self._look(image, is_late=image.key in late) for image in images)),
            asyncio.gather(*(self._ask(question) for question in questions)),
        )
        blocks = {image.key: text for image, text in zip(images, texts, strict=True)}

        def change(block: Content) -> list[Content] | None:
            return [blocks[image_key(block)]] if block["type"] == "image" else None

        body.replace(change)
        for question, answer in zip(questions, answers, strict=True):
            if answer is not None:
                add_block(body.message(question.message), answer)

    def _cached(self, image: SeenImage, question: str = "") -> str | None:
        return self._store.get(description_key(image, self._store.describer, question))

    async def _look(self, image: SeenImage, *, is_late: bool) -> Content:
        """Return the block that replaces *image*."""
        if is_late:
            return not_described(image, f"more than {MAX_NEW_IMAGES} new pictures in one request")
        if len(data_of(image.block)) > MAX_IMAGE:
            return not_described(image, "it is larger than 5 MB")
        try:
            text = await self._text(image)
        except Problem as problem:
            return not_described(image, problem.message)
        return described(image, text, self._store.describer)

    async def _ask(self, question: ImageQuestion) -> Content | None:
        """Return the answer block for *question*; only the latest one is sent to the describer."""
        text = self._cached(question.image, question.text)
        if text is None and not question.is_latest:
            return None
        try:
            text = text or await self._text(question.image, question.text)
        except Problem:
            return None  # the general description remains
        return answered(question, text, self._store.describer)

    async def _text(self, image: SeenImage, question: str = "") -> str:
        """Return a description, or the answer to *question*. Raises Problem."""
        describer = self._store.describer

        async def describe() -> str:
            target = self._request.worker.chooser.target(describer)
            if not target.quirks.images:  # it would hallucinate a description
                raise Problem("api_error", f"{describer} cannot see images; change VISION")
            fields = describer_request(image, question)
            message = await ask_model(self._request, describer, fields)
            if is_refusal(message):
                raise Problem("api_error", f"{describer} refused to describe it")
            text = description_in(message)
            if not text:
                raise Problem("api_error", f"{describer} returned no text")
            return text

        key = description_key(image, describer, question)
        return await self._store.get_or_make(key, describe)

"""
Read the text of PDFs in a child process with resource limits; see `pdf_reader.py`.

This requires the optional library pypdfium2 (`pip install 'ccproxy-fleet[pdf]'`).
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import sys
from collections.abc import Iterable
from contextlib import suppress
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import msgspec

from ccproxy.convert.added_features.media_blocks import digest
from ccproxy.convert.added_features.pdf_pages import PdfPages

READ_SECONDS = 30.0
"""The timeout for one file, including the start of the process."""
PARALLEL_READERS = 2
MAX_NEW_FILES = 16
"""The maximum number of new files per request; further files are replaced by notes."""
KEPT_FILES = 64
"""The maximum number of cached files; clients send a PDF again in every turn."""
KEPT_CHARACTERS = 64_000_000
"""The limit for all cached pages; a scanned page has about a million characters."""
_READER = Path(__file__).with_name("pdf_reader.py")


@cache
def can_read_pdfs() -> bool:
    """Return True if pypdfium2 is installed."""
    return find_spec("pypdfium2") is not None


class PdfTexts:
    """Reads the PDFs of one worker's requests."""

    def __init__(self) -> None:
        self._kept: dict[str, PdfPages] = {}
        self._turn = asyncio.Semaphore(PARALLEL_READERS)

    async def read(self, files: Iterable[str]) -> dict[str, PdfPages]:
        """Return the pages of the base64 *files*; failures are errors in the results."""
        keys = {data: digest(data) for data in files}
        # Other requests can evict files while this one reads its new ones.
        cached = {data: self._kept[key] for data, key in keys.items() if key in self._kept}
        new = [data for data in keys if data not in cached]
        too_many = _not_now(f"more than {MAX_NEW_FILES} new PDFs in one request")
        results = await asyncio.gather(*map(self._read, new[:MAX_NEW_FILES]))
        pages = dict.fromkeys(new, too_many) | dict(zip(new, results, strict=False)) | cached
        for data, each in pages.items():
            self._kept.pop(keys[data], None)  # the last item is the most recently used
            if each.is_final:
                self._kept[keys[data]] = each
        size = sum(each.size for each in self._kept.values())
        while len(self._kept) > KEPT_FILES or size > KEPT_CHARACTERS:
            size -= self._kept.pop(next(iter(self._kept))).size
        return pages

    async def _read(self, data: str) -> PdfPages:
        async with self._turn:
            return await _read(data)


async def _read(data: str) -> PdfPages:
    try:
        content = base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError):
        return PdfPages(error="it is not valid base64")
    pipe = asyncio.subprocess.PIPE
    try:
        reader = await asyncio.create_subprocess_exec(
            sys.executable, "-I", str(_READER), stdin=pipe, stdout=pipe, stderr=pipe, env={}
        )
    except OSError as error:
        return _not_now(f"its reader cannot be started: {error.strerror}")
    try:
        async with asyncio.timeout(READ_SECONDS):
            out, stderr = await reader.communicate(content)
    except TimeoutError:
        return _not_now(f"reading it took more than {READ_SECONDS:g} s")
    finally:
        with suppress(ProcessLookupError):  # it has already exited
            reader.kill()
        await reader.wait()
    if reader.returncode != 0:
        text = stderr.decode("utf-8", "replace").strip()
        return PdfPages(error=text or "it needs too much memory or time")
    return msgspec.json.decode(out, type=PdfPages)


def _not_now(error: str) -> PdfPages:
    """Return a failure that may not occur again."""
    return PdfPages(error=error, is_final=False)

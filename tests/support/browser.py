"""A headless Chromium, Debian's, as Playwright drives it."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from playwright.async_api import Browser, async_playwright, expect

from tests.support.bounds import TIMEOUT_SECONDS

START_SECONDS = TIMEOUT_SECONDS

expect.set_options(timeout=1_000 * TIMEOUT_SECONDS)

# Every name leads to this machine: a page may be served as any origin, and nothing leaves it.
_EVERY_NAME_IS_HERE = "--host-resolver-rules=MAP * 127.0.0.1"


@asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    """A browser of its own; a context of it is a person's profile. Skips where there is none.

    ``http://any.name.example:PORT`` reaches ``127.0.0.1:PORT``.
    """
    executable = shutil.which("chromium")
    if executable is None:
        pytest.skip("there is no Chromium; run: apt-get install chromium")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=executable,
            args=[_EVERY_NAME_IS_HERE, "--disable-dev-shm-usage"],
            timeout=START_SECONDS * 1_000,
        )
        try:
            yield browser
        finally:
            await browser.close()

"""A page of another origin, in a real browser, with plain ``fetch``."""

from __future__ import annotations

import re
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any

import anyio
import pytest
from playwright.async_api import Browser, Page
from playwright.async_api import Error as BrowserError

from tests.clients.harness import BUCKETS, DEADLINE_SECONDS, KEYS, MODERN, OF_ANALYST, Stack
from tests.support.browser import chromium
from tests.support.http import Answer, Site, serving_http
from tests.support.node import FOLDER

pytestmark = pytest.mark.anyio

SESSIONS = "2025-11-25"


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """For all of the module, as the browser is."""
    return "asyncio"


@pytest.fixture(scope="module")
async def browser() -> AsyncIterator[Browser]:
    async with chromium() as running:
        yield running


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    """Serves the app, by whatever name it is asked for."""
    with serving_http() as running:
        page = b'<!doctype html><script type="module" src="/page.mjs"></script>'
        script = (FOLDER / "page.mjs").read_bytes()
        running.answers = {
            "/": Answer(page, headers={"Content-Type": "text/html"}),
            "/page.mjs": Answer(script, headers={"Content-Type": "text/javascript"}),
        }
        yield running


@dataclass
class App:
    """The app in its page, and what it remembers: a session and a token."""

    page: Page
    url: str
    version: str = SESSIONS
    session: str | None = None
    token: str | None = None

    async def post(self, method: str, **params: object) -> dict[str, Any]:
        how = {"token": self.token, "session": self.session, "version": self.version}
        answer: dict[str, Any] = await self.page.evaluate(
            "request => post(...request)", [self.url, method, params, how]
        )
        return answer

    async def call(self, tool: str, **arguments: object) -> dict[str, Any]:
        return await self.post("tools/call", name=tool, arguments=arguments)

    async def buckets(self) -> list[str]:
        answer = await self.call("discover_buckets")
        found = answer["body"]["result"]["structuredContent"]["buckets"]
        return [bucket["name"] for bucket in found]

    async def keys(self) -> list[str]:
        answer = await self.call("bucket_objects_list", bucket="s3://bucket-00")
        found = answer["body"]["result"]["structuredContent"]["objects"]
        return [item["key"] for item in found]


async def opened(browser: Browser, site: Site, host: str) -> Page:
    """The app's page at that host, in a profile of its own."""
    context = await browser.new_context()
    context.set_default_timeout(DEADLINE_SECONDS * 1_000)
    page = await context.new_page()
    await page.goto(site.url.replace("127.0.0.1", host))
    await page.wait_for_function("window.post !== undefined")
    return page


@pytest.fixture
async def page(browser: Browser, site: Site) -> AsyncIterator[Page]:
    """A page of an origin that the adapter lets in."""
    page = await opened(browser, site, "app.example.com")
    with anyio.fail_after(DEADLINE_SECONDS):
        yield page
    await page.context.close()


@pytest.fixture
async def foreign_page(browser: Browser, site: Site) -> AsyncIterator[Page]:
    """A page of another one."""
    page = await opened(browser, site, "attacker.example.net")
    with anyio.fail_after(DEADLINE_SECONDS):
        yield page
    await page.context.close()


@pytest.mark.parametrize("version", [SESSIONS, MODERN])
async def test_the_flow(page: Page, stack: Stack, version: str) -> None:
    app = App(page, stack.url, version)
    if version == SESSIONS:
        hello = {"name": "page", "version": "1"}
        opened = await app.post(
            "initialize", protocolVersion=version, capabilities={}, clientInfo=hello
        )
        app.session = opened["session"]
        assert app.session, "exposed to the page"
    assert (await app.post("tools/list"))["status"] == 200

    # The 401 can be read, and leads to the metadata.
    refused = await app.call("discover_buckets")
    assert refused["status"] == 401
    metadata_url = re.search(r'resource_metadata="([^"]+)"', refused["challenge"])
    assert metadata_url is not None
    metadata = await page.evaluate("url => fetch(url).then(r => r.json())", metadata_url[1])
    assert metadata["resource"] == stack.url
    assert metadata["authorization_servers"] == [stack.authorization_server]

    app.token = stack.token("reader")
    assert await app.buckets() == BUCKETS
    assert await app.keys() == KEYS

    # Refreshed as another role, on the same session.
    app.token = stack.token("analyst")
    assert await app.buckets() == OF_ANALYST

    if version == SESSIONS:
        how = {"token": app.token, "session": app.session}
        assert await page.evaluate("request => end(...request)", [app.url, how]) == 204
        assert (await app.post("ping"))["status"] == 404


async def test_a_page_can_read_why_a_token_is_refused(page: Page, stack: Stack) -> None:
    app = App(page, stack.url, MODERN)

    app.token = stack.token(exp=time.time() - 60)
    expired = await app.call("discover_buckets")
    assert expired["status"] == 401
    assert 'error="invalid_token"' in expired["challenge"]
    assert expired["body"]["error"]["data"]["reason"] == "TOKEN_EXPIRED"

    app.token = stack.token(scope="buckets.read")
    narrow = await app.call("bucket_objects_list", bucket="bucket-00")
    assert narrow["status"] == 403
    assert 'scope="objects.read", error="insufficient_scope"' in narrow["challenge"]


async def test_a_foreign_page_gets_nothing(foreign_page: Page, stack: Stack) -> None:
    app = App(foreign_page, stack.url, MODERN, token=stack.token())
    with pytest.raises(BrowserError, match="Failed to fetch"):
        await app.call("discover_buckets")

    async with foreign_page.expect_response(stack.url) as sent:
        await foreign_page.evaluate("url => force(url)", stack.url)
    assert (await (await sent.value).all_headers()).get("access-control-allow-origin") is None
    assert (await sent.value).status == 403


async def test_a_name_that_was_rebound_to_us_gets_nothing(foreign_page: Page, stack: Stack) -> None:
    # To the browser, the page and the endpoint are now of one origin: no CORS holds it back.
    rebound = stack.url.replace("127.0.0.1", "attacker.example.net")
    await foreign_page.goto(rebound.removesuffix("/mcp") + "/healthz")
    status = await foreign_page.evaluate(
        "url => fetch(url, {method: 'POST'}).then(r => r.status)", rebound
    )
    assert status == 421

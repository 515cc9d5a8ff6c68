"""A web app on an origin of its own, in a real browser: with plain ``fetch``, and with the SDK."""

from __future__ import annotations

import re
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import urlencode, urlsplit

import httpx2
import pytest
from playwright.async_api import Browser, Page
from playwright.async_api import Error as BrowserError

from tests.clients.harness import BUCKETS, DEADLINE_SECONDS, KEYS, MODERN, OF_ANALYST, Stack
from tests.support.browser import chromium
from tests.support.http import listening
from tests.support.node import FOLDER, bundled

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
def site() -> Iterator[str]:
    """Serves the pages, by whatever name it is asked for."""
    html = '<!doctype html><output></output><script type="module" src="{}"></script>'
    scripts = {"/page.mjs": (FOLDER / "page.mjs").read_bytes(), "/app.mjs": bundled("app.mjs")}
    files = {
        "/": ("text/html", html.format("/page.mjs").encode()),
        "/app": ("text/html", html.format("/app.mjs").encode()),
        **{path: ("text/javascript", script) for path, script in scripts.items()},
    }

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            kind, body = files.get(urlsplit(self.path).path, ("text/plain", b"nothing here"))
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments: object) -> None:
            """Say nothing."""

    with listening(Handler) as url:
        yield url


@dataclass
class App:
    """The page, and what an app in it remembers: a session and a token."""

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
        answer = await self.call("bucket_objects_list", bucket="s3://shelf-00")
        found = answer["body"]["result"]["structuredContent"]["objects"]
        return [item["key"] for item in found]


@asynccontextmanager
async def page_at(site: str, host: str, browser: Browser) -> AsyncIterator[Page]:
    """The first page of the site by that name, in a profile of its own."""
    context = await browser.new_context()
    context.set_default_timeout(DEADLINE_SECONDS * 1_000)
    try:
        page = await context.new_page()
        await page.goto(site.replace("127.0.0.1", host))
        await page.wait_for_function("window.post !== undefined")
        yield page
    finally:
        await context.close()


@pytest.fixture
async def page(browser: Browser, site: str) -> AsyncIterator[Page]:
    """A page of an origin that the adapter lets in."""
    async with page_at(site, "app.localhost", browser) as page:
        yield page


@pytest.fixture
async def foreign_page(browser: Browser, site: str) -> AsyncIterator[Page]:
    """A page of another one."""
    async with page_at(site, "attacker.example.net", browser) as page:
        yield page


@pytest.mark.parametrize("version", [SESSIONS, MODERN])
async def test_the_flow(page: Page, stack: Stack, version: str) -> None:
    app = App(page, stack.url, version)
    if version == SESSIONS:
        hello = {"name": "page", "version": "1"}
        answer = await app.post(
            "initialize", protocolVersion=version, capabilities={}, clientInfo=hello
        )
        app.session = answer["session"]
        assert app.session, "exposed to the page"
    assert (await app.post("tools/list"))["status"] == 200

    # The 401 can be read, and leads to the metadata.
    refused = await app.call("discover_buckets")
    assert refused["status"] == 401
    metadata_url = re.search(r'resource_metadata="([^"]+)"', refused["challenge"])
    assert metadata_url is not None
    metadata = await page.evaluate("url => read(url)", metadata_url[1])
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
    narrow = await app.call("bucket_objects_list", bucket="shelf-00")
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
    post = "url => fetch(url, {method: 'POST', signal: AbortSignal.timeout(60_000)})"
    assert await foreign_page.evaluate(f"{post}.then(response => response.status)", rebound) == 421


@pytest.mark.parametrize("mode", ["legacy", "auto"])
async def test_an_app_sends_its_user_to_log_in(page: Page, stack: Stack, mode: str) -> None:
    app = page.url + "app"
    registration = {
        "redirect_uris": [app],
        "grant_types": ["authorization_code"],
        "token_endpoint_auth_method": "none",
    }
    # Not by the page: the server lets no page register (RFC 7591).
    async with httpx2.AsyncClient(timeout=DEADLINE_SECONDS) as http:
        registered = await http.post(f"{stack.authorization_server}/reg", json=registration)
    query = {"endpoint": stack.url, "client": registered.json()["client_id"], "mode": mode}

    await page.goto(f"{app}?{urlencode(query)}")
    await page.get_by_label("subject").fill("ada")
    await page.get_by_label("role").fill("analyst")
    await page.get_by_role("button").click()

    await page.wait_for_url(f"{app}?code=*")
    await page.wait_for_function("document.querySelector('output').textContent")
    assert (await page.locator("output").text_content() or "").split() == OF_ANALYST

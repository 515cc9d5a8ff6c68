"""The console in Chromium: with the keyboard alone, without scripts, and against hostile names."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from playwright.async_api import Browser, Page, expect

from authsvc.domain.errors import Reason
from tests.support.browser import chromium
from tests.support.console import NAME, PASSPHRASE, Office
from tests.support.operators import WAIT_SECONDS
from tests.support.processes import ROOT
from tests.support.tokens import IdentityProvider

pytestmark = pytest.mark.anyio

SCREENS = ROOT / "var" / "console"
HOSTILE = "<img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """One event loop for all of these tests, and one browser on it."""
    return "asyncio"


@pytest.fixture(scope="module")
async def browser() -> AsyncIterator[Browser]:
    async with chromium() as running:
        yield running


async def opened(browser: Browser, office: Office, *, scripts: bool = True) -> Page:
    """A page in a browser; whatever it reports as an error fails the test."""
    context = await browser.new_context(
        java_script_enabled=scripts, color_scheme="dark" if scripts else "light"
    )
    context.set_default_timeout(WAIT_SECONDS * 1_000)
    page = await context.new_page()
    await page.goto(office.url)
    return page


async def typed(page: Page, text: str) -> None:
    """Type into the focused field, and go to the next one."""
    await page.keyboard.type(text)
    await page.keyboard.press("Tab")


async def tab_to(page: Page, name: str) -> None:
    """Press Tab until the element with that name has the focus."""
    for _ in range(60):
        await page.keyboard.press("Tab")
        focused = page.locator(":focus")
        if await focused.count():
            text = (await focused.inner_text()) or (await focused.get_attribute("id")) or ""
            if text.strip() == name:
                # Where one is can be seen, once the style sheet of a new page has arrived.
                await expect(focused).to_have_css("outline-style", "solid")
                return
    raise AssertionError(f"Tab does not lead to {name!r}")


async def test_a_session_is_revoked_with_the_keyboard_alone(
    browser: Browser, office: Office, idp: IdentityProvider
) -> None:
    await office.site.resolve("adas", idp.token("ada"))
    await office.site.resolve("bobs", idp.token("bob"))
    page = await opened(browser, office)
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))

    # The first field gets the focus by itself, a moment after the page is there.
    await expect(page.locator("#name")).to_be_focused()
    await typed(page, NAME)
    await page.keyboard.type(PASSPHRASE)
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("heading", level=1)).to_have_text("Overview")

    await tab_to(page, "Sessions")
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("heading", level=1)).to_have_text("Sessions")
    await tab_to(page, "subject")
    await page.keyboard.type("ada")
    await page.keyboard.press("Enter")
    await expect(page.get_by_text("bobs")).to_have_count(0)

    await tab_to(page, "adas")
    await page.keyboard.press("Enter")
    await tab_to(page, "This session…")
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("heading", level=1)).to_have_text("Revoke this session?")
    await page.screenshot(path=shot("confirm"))
    assert await office.site.refusal("adas", idp.token("ada")) is None

    await tab_to(page, "Revoke")  # the page of that name, in the bar
    await tab_to(page, "Revoke")  # the way back
    await tab_to(page, "Revoke")  # the button
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("status")).to_have_text("The session is revoked.")
    await page.screenshot(path=shot("session"))
    assert await office.site.refusal("adas", idp.token("ada")) is Reason.SESSION_REVOKED
    assert await office.site.refusal("bobs", idp.token("bob")) is None
    assert complaints == []


async def test_the_overview_updates_itself(
    browser: Browser, office: Office, idp: IdentityProvider
) -> None:
    page = await opened(browser, office)
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    dialogs: list[str] = []
    page.on("dialog", lambda dialog: dialogs.append(dialog.message))
    await page.get_by_label("Operator").fill(NAME)
    await page.get_by_label("Passphrase").fill(PASSPHRASE)
    await page.get_by_role("button", name="Sign in").click()
    await expect(page.get_by_text("Watched without a gap")).to_be_visible()
    await office.site.resolve(HOSTILE.replace(" ", "/"), idp.token(HOSTILE))
    table = page.get_by_role("table")
    await expect(table).to_contain_text(HOSTILE, timeout=WAIT_SECONDS * 1_000)
    await expect(page.get_by_role("img", name="Sessions created: 1 in the last")).to_be_visible()
    await page.screenshot(path=shot("overview"), full_page=True)
    await page.get_by_role("button", name="Live, every 5 s").click()
    await expect(page.get_by_role("button", name="Paused")).to_be_visible()
    assert (dialogs, complaints) == ([], [])


async def test_everything_works_without_scripts(
    browser: Browser, office: Office, idp: IdentityProvider
) -> None:
    token = idp.token(jti="j1")
    await office.site.resolve("s", token)
    page = await opened(browser, office, scripts=False)
    await page.get_by_label("Operator").fill(NAME)
    await page.get_by_label("Passphrase").fill(PASSPHRASE)
    await page.get_by_role("button", name="Sign in").click()
    await page.get_by_role("link", name="Refresh").click()
    await page.goto(f"{office.url}/session?id=s")
    await page.get_by_role("link", name="Token…").click()
    await page.screenshot(path=shot("token"))
    await page.get_by_role("button", name="Revoke").click()
    await expect(page.get_by_role("status")).to_contain_text("The tokens are revoked")
    assert await office.site.refusal("s", token) is Reason.TOKEN_REVOKED
    await page.get_by_role("button", name="Sign out").click()
    await expect(page.get_by_role("heading", level=1)).to_have_text("Sign in")


async def test_another_origin_can_neither_post_nor_embed_the_console(
    browser: Browser, office: Office, idp: IdentityProvider
) -> None:
    await office.site.resolve("s", idp.token())
    page = await opened(browser, office)
    await page.get_by_label("Operator").fill(NAME)
    await page.get_by_label("Passphrase").fill(PASSPHRASE)
    await page.get_by_role("button", name="Sign in").click()
    await expect(page.get_by_role("heading", level=1)).to_have_text("Overview")
    # Same site, another port: the browser sends the cookie, so that the Origin has to be checked.
    evil = await page.context.new_page()
    await evil.route(
        "http://127.0.0.1:9/",
        lambda route: route.fulfill(
            content_type="text/html",
            body=f"""<iframe src="{office.url}/"></iframe><form method="post"
            action="{office.url}/revoke"><input name="what" value="session"><input
            name="session_id" value="s"><button>Win</button></form>""",
        ),
    )
    await evil.goto("http://127.0.0.1:9/")
    frame = evil.frames[1]
    assert "Overview" not in await frame.content()
    await evil.get_by_role("button", name="Win").click()
    await expect(evil.locator("body")).to_contain_text("The request was sent from another origin.")
    assert await office.site.refusal("s", idp.token()) is None


def shot(name: str) -> Path:
    SCREENS.mkdir(parents=True, exist_ok=True)
    return SCREENS / f"{name}.png"

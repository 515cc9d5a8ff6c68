"""A console over a real authsvc, and an operator who signs in."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from html import unescape
from pathlib import Path
from typing import Any

import httpx2

from authsvc.console.config import ConsoleSettings
from tests.support.bounds import TIMEOUT_SECONDS
from tests.support.clock import Clock
from tests.support.operators import Site

NAME, PASSPHRASE = "grace", "correct horse battery"


@dataclass
class Office:
    """A running console, and the authsvc behind it."""

    url: str
    site: Site
    operators_file: Path
    clock: Clock

    def visitor(self) -> httpx2.AsyncClient:
        """A browser without scripts: it keeps cookies, and sends Origin with forms."""
        return httpx2.AsyncClient(
            base_url=self.url, headers={"Origin": self.url}, timeout=TIMEOUT_SECONDS
        )

    @asynccontextmanager
    async def operator(self) -> AsyncIterator[httpx2.AsyncClient]:
        """As ``visitor``, signed in."""
        async with self.visitor() as visitor:
            answer = await sign_in(visitor)
            assert (answer.status_code, answer.headers["location"]) == (303, "/")
            yield visitor


async def sign_in(
    visitor: httpx2.AsyncClient, name: str = NAME, passphrase: str = PASSPHRASE
) -> httpx2.Response:
    """Fill in the form."""
    fields = hidden_fields((await visitor.get("/sign-in")).text)
    return await visitor.post("/sign-in", data={**fields, "name": name, "passphrase": passphrase})


def hidden_fields(page: str) -> dict[str, str]:
    """What the last form of a page carries by itself."""
    form = page[page.rindex("<form") :]
    found = re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)">', form)
    return {name: unescape(value) for name, value in found}


def console_settings(site: Site, operators_file: Path, **changes: object) -> ConsoleSettings:
    """Settings of a console for ``site``."""
    values: dict[str, Any] = {
        "listen": "127.0.0.1:0",
        "operators_file": operators_file,
        "authsvc": {
            "target": site.address,
            "ca_file": site.tls / "ca.pem",
            "service_token_file": site.tls / "operator",
        },
        **changes,
    }
    return ConsoleSettings(**values)

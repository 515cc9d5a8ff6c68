"""The tools behind the adapter's gate, over real HTTP, and the official client."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

import httpx2
from mcp.client.client import Client
from mcp.client.streamable_http import streamable_http_client

from authsvc.domain.credential_requests import CredentialRequest
from authsvc.domain.resolution import Credentials, Principal, Resolution
from mcp_adapter.server.app import build_app
from mcp_adapter.tools import Tool, Toolset
from mcp_adapter.tools.settings import S3Settings
from tests.mcp_adapter.harness import (
    DEADLINE_SECONDS,
    ISSUER,
    MODERN,
    MemoryResolver,
    running,
    settings,
)
from tests.mcp_adapter.tools.calls import PERMISSIONS, credentials

ERAS = ("legacy", MODERN)
ALL_SCOPES = ("buckets.read", "objects.read", "objects.write")


def somebody(
    subject: str = "alice",
    *,
    buckets: tuple[str, ...] = ("alpha", "missing-one"),
    scopes: tuple[str, ...] = ALL_SCOPES,
    permissions: tuple[str, ...] = PERMISSIONS,
) -> Principal:
    """Somebody with a token for an hour."""
    return Principal(
        ISSUER,
        subject,
        time.time() + 3600,
        client_id="client",
        scopes=scopes,
        roles=("reader",),
        buckets=buckets,
        permissions=permissions,
    )


class IssuingResolver(MemoryResolver):
    """A resolver that issues credentials, by subject.

    Attributes:
        issued: by subject, what is issued without a name; reader's keys for the others.
        selections: the credentials that each resolve and create has asked for.
    """

    def __init__(self, tokens: Mapping[str, Principal]) -> None:
        super().__init__(tokens)
        self.issued: dict[str, Credentials] = {}
        self.selections: list[Sequence[CredentialRequest] | None] = []

    def _selected(
        self, resolution: Resolution, token: str, selection: Sequence[CredentialRequest] | None
    ) -> Resolution:
        self.selections.append(selection)
        return super()._selected(resolution, token, selection)

    def _resolution(self, session_id: str, token: str) -> Resolution:
        answer = super()._resolution(session_id, token)
        if answer.principal is None:
            return answer
        issued = self.issued.get(answer.principal.subject, credentials())
        return replace(answer, credentials=issued)


@dataclass
class Served:
    """A served toolset.

    Attributes:
        url: of the server.
        resolver: the tokens that count.
    """

    url: str
    resolver: IssuingResolver

    @asynccontextmanager
    async def client(self, era: str, token: str = "alice") -> AsyncIterator[Client]:
        """The official client, which has listed the tools."""
        headers = {"Authorization": f"Bearer {token}"}
        async with httpx2.AsyncClient(headers=headers, timeout=DEADLINE_SECONDS) as http:
            transport = streamable_http_client(f"{self.url}/mcp", http_client=http)
            async with Client(transport, mode=era) as client:
                await client.list_tools()
                yield client


@asynccontextmanager
async def served(tools: Iterable[Tool], storage_url: str) -> AsyncIterator[Served]:
    """Serve tools on a storage; ``alice`` is a token of hers, ``bob`` one of his."""
    resolver = IssuingResolver(
        tokens={"alice": somebody(), "bob": somebody("bob", buckets=("empty-one",))}
    )
    async with Toolset(tools, S3Settings(endpoint_url=storage_url)) as toolset:
        app = build_app(
            settings(),
            toolset.server(),
            resolver=resolver,
            ready=resolver.ready,
            requirement=toolset.requirement,
            scopes=toolset.scopes,
        )
        async with running(app) as url:
            yield Served(url, resolver)

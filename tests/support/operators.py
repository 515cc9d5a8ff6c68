"""An authsvc with an MCP server and an operator as its callers, over TLS."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex

import pytest
from grpc import aio

from authsvc.client import AdminClient, AuthClient, ClientTls
from authsvc.client.admin_watch import Watched
from authsvc.domain.errors import AuthError, Reason
from authsvc.domain.events import RecordFilter
from authsvc.domain.resolution import Resolution
from authsvc.net.development_certificates import write_development_certificates
from authsvc.server.config import Settings
from authsvc.v1 import auth_pb2_grpc as pb_grpc
from tests.support.bounds import TIMEOUT_SECONDS
from tests.support.service import settings_for
from tests.support.tokens import OTHER_RESOURCE, RESOURCE, IdentityProvider

SERVICE_TOKENS = {name: f"{name}-{token_hex(20)}" for name in ("server", "operator")}

WAIT_SECONDS = TIMEOUT_SECONDS


def write_tls(folder: Path) -> Path:
    """Certificates, and each caller's service token in a file of its name."""
    write_development_certificates(folder, client_name="spiffe://dev/client")
    for name, token in SERVICE_TOKENS.items():
        (folder / name).write_text(token)
    return folder


@dataclass
class Site:
    """A running authsvc, an MCP server's client of it, and an operator's."""

    address: str
    tls: Path
    server: AuthClient
    operator: AdminClient

    async def resolve(
        self, session_id: str, token: str = "", *, resource: str = RESOURCE, create: bool = True
    ) -> Resolution:
        """As the MCP server."""
        return await self.server.resolve(session_id, token, resource=resource, create=create)

    async def refusal(
        self, session_id: str, token: str = "", *, resource: str = RESOURCE
    ) -> Reason | None:
        """Why a request is refused; None when it is served."""
        try:
            await self.resolve(session_id, token, resource=resource)
        except AuthError as error:
            return error.reason
        return None

    async def listed(self, which: RecordFilter | None = None, page_size: int = 0) -> list[str]:
        """Ids of all sessions, newest first."""
        found = self.operator.list(which or RecordFilter(), page_size=page_size)
        return [record.id async for record in found]

    def stub(self, name: str) -> AbstractAsyncContextManager[Raw]:
        """The bare stub, as some caller."""
        return stub(self.address, self.tls, name)


@dataclass
class Raw:
    """A stub without any client of ours, and what proves its caller."""

    admin: pb_grpc.SessionAdminServiceAsyncStub
    metadata: tuple[tuple[str, str], ...]


@asynccontextmanager
async def stub(address: str, tls: Path, name: str) -> AsyncIterator[Raw]:
    """The bare stub of ``SessionAdminService``, as some caller; as a stranger if unknown."""
    credentials = ClientTls(tls / "ca.pem").channel_credentials()
    token = SERVICE_TOKENS.get(name, "")
    metadata = (("authorization", f"Bearer {token}"),) if token else ()
    async with aio.secure_channel(address, credentials) as channel:
        yield Raw(pb_grpc.SessionAdminServiceStub(channel), metadata)


def settings(folder: Path, tls: Path, idp: IdentityProvider, store: str = "sqlite") -> Settings:
    """Settings with an MCP server and an operator, known by their service tokens."""

    def digest(name: str) -> str:
        return hashlib.sha256(SERVICE_TOKENS[name].encode()).hexdigest()

    return settings_for(
        folder,
        idp,
        store,
        listen="127.0.0.1:0",
        resources=(),
        tls={"certificate_file": tls / "server.pem", "key_file": tls / "server.key"},
        callers=[
            {
                "name": "server",
                "resources": [RESOURCE, OTHER_RESOURCE],
                "service_token_sha256": [digest("server")],
            },
            {"name": "operator", "admin": True, "service_token_sha256": [digest("operator")]},
        ],
        grace_seconds=5.0,
    )


@asynccontextmanager
async def clients(address: str, tls: Path) -> AsyncIterator[Site]:
    """Clients of a running authsvc, at one address or several with commas between."""

    def how(name: str) -> ClientTls:
        return ClientTls(tls / "ca.pem", service_token_file=tls / name)

    async with (
        AuthClient(address, deadline_seconds=TIMEOUT_SECONDS, tls=how("server")) as server,
        AdminClient(address, deadline_seconds=TIMEOUT_SECONDS, tls=how("operator")) as operator,
    ):
        yield Site(address, tls, server, operator)


async def reason(work: Awaitable[object]) -> Reason:
    """Why something is refused."""
    with pytest.raises(AuthError) as caught:
        await work
    return caught.value.reason


async def taken(events: AsyncIterator[Watched], count: int) -> list[Watched]:
    """The next so many events."""
    async with asyncio.timeout(WAIT_SECONDS):
        return [await anext(events) for _ in range(count)]

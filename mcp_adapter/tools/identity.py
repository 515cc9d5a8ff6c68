"""The caller, as the server sees it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Literal

from pydantic import BaseModel, Field

from authsvc.domain.resolution import AwsCredentials, Credentials
from mcp_adapter.tools.call import Call
from mcp_adapter.tools.declaration import tool


class IssuedCredentials(BaseModel):
    """The kind of the credentials that the tools use for the caller; not the credentials."""

    kind: Literal["aws", "bearer"]
    expires_at: datetime | None = Field(description="None where it is unknown.")


class Identity(BaseModel):
    """The caller, as the access token of this very call describes them."""

    issuer: str
    subject: str
    client_id: str
    expires_at: datetime = Field(description="When the token ends.")
    roles: list[str]
    scopes: list[str] = Field(description="Which tools may be called.")
    permissions: list[str] = Field(description="What may be done in the buckets.")
    buckets: list[str] = Field(description="Where.")
    credentials: IssuedCredentials | None = Field(description="None where no role comes with any.")


@tool(title="Who am I")
async def whoami(call: Call) -> Identity:
    """Say who your token says you are, until when, and what you may do."""
    who = call.principal
    return Identity(
        issuer=who.issuer,
        subject=who.subject,
        client_id=who.client_id,
        expires_at=_time(who.expire_time),
        roles=list(who.roles),
        scopes=list(who.scopes),
        permissions=list(who.permissions),
        buckets=list(who.buckets),
        credentials=_described(call.credentials),
    )


def _described(credentials: Credentials | None) -> IssuedCredentials | None:
    if credentials is None:
        return None
    return IssuedCredentials(
        kind="aws" if isinstance(credentials, AwsCredentials) else "bearer",
        expires_at=_time(credentials.expire_time) if credentials.expire_time else None,
    )


def _time(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)

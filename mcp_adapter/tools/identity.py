"""The caller, as the server sees it."""

from __future__ import annotations

from datetime import UTC, datetime

from pydantic import BaseModel, Field

from mcp_adapter.tools.call import Call
from mcp_adapter.tools.declaration import tool


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
    )


def _time(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)

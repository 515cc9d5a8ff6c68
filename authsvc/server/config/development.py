"""``[development]``: what ``authsvc token`` mints."""

from __future__ import annotations

from pydantic import Field

from authsvc.common.settings import Resource, Table
from authsvc.server.config.values import NonEmpty


class DevelopmentSettings(Table):
    """``[development]``: what ``authsvc token`` mints where a flag is absent."""

    issuer: NonEmpty = Field(description="One of the issuers, with a secret_file.")
    audience: Resource = Field(description="What aud is unless it is given.")
    roles: tuple[str, ...] = Field(default=(), description="The same for roles.")
    buckets: tuple[str, ...] = Field(default=(), description="The same for buckets.")
    permissions: tuple[str, ...] = Field(default=(), description="The same for permissions.")
    scopes: tuple[str, ...] = Field(default=(), description="The same for scopes.")

"""``[development]``: what ``authsvc token`` mints."""

from __future__ import annotations

from pydantic import Field

from authsvc.common.settings import Resource, Table
from authsvc.server.config.values import NonEmpty


class DevelopmentSettings(Table):
    """``[development]``: defaults of ``authsvc token``."""

    issuer: NonEmpty = Field(description="The issuer: one of the issuers, with a secret_file.")
    audience: Resource = Field(description="Default of --aud.")
    roles: tuple[str, ...] = Field(default=(), description="Default of --role.")
    buckets: tuple[str, ...] = Field(default=(), description="Default of --bucket.")
    permissions: tuple[str, ...] = Field(default=(), description="Default of --permission.")
    scopes: tuple[str, ...] = Field(default=(), description="Default of --scope.")

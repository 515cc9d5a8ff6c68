"""``[tls]`` and ``[[callers]]``: who may call, and how it proves who it is."""

from __future__ import annotations

from pathlib import Path
from typing import Self

from pydantic import Field, model_validator

from authsvc.common.settings import Resource, Table
from authsvc.server.config.values import NonEmpty, Sha256


class TlsSettings(Table):
    """``[tls]``: required wherever another machine can reach authsvc."""

    certificate_file: Path = Field(description="PEM chain, the server's own first.")
    key_file: Path = Field(description="Its key, PEM.")
    client_ca_file: Path | None = Field(
        default=None, description="Who signs callers' certificates; set, each has to show one."
    )


class CallerSettings(Table):
    """``[[callers]]``: somebody who may call, and how it proves that it is the one."""

    name: NonEmpty = Field(description="For logs and metrics.")
    resources: tuple[Resource, ...] = Field(
        default=(), description="Canonical URIs of the MCP servers that it may resolve for."
    )
    admin: bool = Field(
        default=False, description="An operator: may call SessionAdminService, and that alone."
    )
    certificate_names: tuple[NonEmpty, ...] = Field(
        default=(), description="DNS or URI names in its client certificate."
    )
    service_token_files: tuple[Path, ...] = Field(
        default=(),
        description="Its service tokens, 32 characters or more, made by chance; two while one "
        "replaces the other. A changed file counts at once, a removed one ends its token.",
    )
    service_token_sha256: tuple[Sha256, ...] = Field(
        default=(), description="The same, by their SHA-256 in hexadecimal."
    )

    @model_validator(mode="after")
    def _is_complete(self) -> Self:
        if not (self.certificate_names or self.service_token_files or self.service_token_sha256):
            raise ValueError(
                "needs certificate_names or a service token: service_token_files or "
                "service_token_sha256"
            )
        if self.admin == bool(self.resources):
            raise ValueError("needs resources, or admin = true without any")
        return self

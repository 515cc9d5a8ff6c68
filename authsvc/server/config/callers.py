"""``[tls]`` and ``[[callers]]``: who may call, and how callers authenticate."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

from pydantic import Field

from authsvc.common.setting_rules import Fault, rule
from authsvc.common.settings import Resource, Table
from authsvc.server.config.values import NonEmpty, TokenDigest


class TlsSettings(Table):
    """``[tls]``: required if another machine can reach authsvc."""

    certificate_file: Path = Field(description="The server's certificate and its chain, PEM.")
    key_file: Path = Field(description="The certificate's key, PEM.")
    client_ca_file: Path | None = Field(
        default=None,
        description="The authorities of client certificates. If it is set, each caller needs one.",
    )


class CallerSettings(Table):
    """``[[callers]]``: a registered caller, and how it authenticates."""

    NAMED_BY: ClassVar[str] = "name"

    name: NonEmpty = Field(description="Its name in logs and metrics.")
    resources: tuple[Resource, ...] = Field(
        default=(), description="Canonical URIs of the MCP servers that it may resolve for."
    )
    admin: bool = Field(
        default=False, description="An operator: may call SessionAdminService, and nothing else."
    )
    certificate_names: tuple[NonEmpty, ...] = Field(
        default=(), description="DNS or URI names in its client certificate."
    )
    service_token_files: tuple[Path, ...] = Field(
        default=(),
        description="Its service tokens, 32 random characters or more, or their digests, each as "
        "`sha256:` and 64 hexadecimal digits; two during a rotation. A changed file takes effect; "
        "removing one withdraws its token.",
    )
    service_token_sha256: tuple[TokenDigest, ...] = Field(
        default=(),
        description="Its service tokens by their SHA-256: 64 hexadecimal digits in lower case.",
    )

    @rule
    def _authenticates(self) -> Iterator[Fault]:
        if not (self.certificate_names or self.service_token_files or self.service_token_sha256):
            yield Fault(
                "needs certificate_names or a service token: service_token_files or "
                "service_token_sha256"
            )

    @rule
    def _may_call(self) -> Iterator[Fault]:
        if self.admin == bool(self.resources):
            yield Fault("needs resources, or admin = true without any")

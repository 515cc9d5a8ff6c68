"""``[introspection]``: the issuer of opaque tokens."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from authsvc.common.settings import Resource, Table
from authsvc.server.config.values import EndpointUrl, NonEmpty


class IntrospectionSettings(Table):
    """``[introspection]``: the issuer of opaque tokens, which is asked what they are (RFC 7662)."""

    issuer: NonEmpty = Field(description="Claim iss of its tokens.")
    endpoint: EndpointUrl = Field(description="Its introspection endpoint, https.")
    client_id: NonEmpty = Field(description="Our name there.")
    client_secret_file: Path = Field(description="Our secret there; followed when it changes.")
    allow_private_addresses: bool = Field(
        default=False, description="Whether its address may be one that is not public."
    )
    audiences: dict[Resource, tuple[NonEmpty, ...]] = Field(
        default={}, description="What aud may be, by resource; else the resource itself."
    )
    leeway_seconds: float = Field(default=30.0, ge=0, le=300, description="Clock skew allowed.")
    profile: Literal["standard", "quilt"] = Field(
        default="standard",
        description="How its claims become a principal; quilt: the original system's.",
    )
    subject_claim: Literal["sub", "id"] = Field(
        default="sub", description="Which claim is the subject."
    )

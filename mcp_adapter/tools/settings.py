"""The settings of the tools: where the buckets are, and which tools are served."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field

from authsvc.common.formats import check_base_url
from authsvc.common.settings import Table


class S3Settings(Table):
    """``[s3]``: where the buckets are."""

    endpoint_url: Annotated[str, AfterValidator(check_base_url)] | None = Field(
        default=None, description="URL of the S3 API; AWS's own without it."
    )
    region: str = Field(default="us-east-1", description="Region of the endpoint.")


class ToolsSettings(Table):
    """``[tools]``: which tools are served, besides the adapter's own that change nothing."""

    packages: tuple[str, ...] = Field(
        default=(), description="Modules with further tools, as Python imports them."
    )
    writes: tuple[str, ...] = Field(
        default=(), description="Tools that change something. Each is off unless it is named here."
    )

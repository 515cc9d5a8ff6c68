"""The settings of the tools: where the buckets are, and which tools are served."""

from __future__ import annotations

import re
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field

from authsvc.common.formats import check_base_url
from authsvc.common.settings import Table

_LABEL = re.compile(r"(?!-)[A-Za-z0-9-]{1,63}(?<!-)")


def _check_s3_url(url: str) -> str:
    """
    Raises:
        ValueError: botocore would not accept it, which it would say at the first call.
    """
    host = urlsplit(check_base_url(url)).hostname or ""
    if ":" not in host and not all(map(_LABEL.fullmatch, host.removesuffix(".").split("."))):
        raise ValueError(
            "is a URL like https://s3.example.com; this one has a host with other characters than "
            "letters, digits and hyphens"
        )
    return url


def _check_region(region: str) -> str:
    """
    Raises:
        ValueError: as ``_check_s3_url``.
    """
    if not _LABEL.fullmatch(region) or region.isdigit():
        raise ValueError("is a region like eu-west-1: letters, digits and hyphens")
    return region


class S3Settings(Table):
    """``[s3]``: where the buckets are."""

    endpoint_url: Annotated[str, AfterValidator(_check_s3_url)] | None = Field(
        default=None, description="URL of the S3 API; AWS's own without it."
    )
    region: Annotated[str, AfterValidator(_check_region)] = Field(
        default="us-east-1", description="Region of the endpoint."
    )


class ToolsSettings(Table):
    """``[tools]``: which tools are served, besides the adapter's own that change nothing."""

    packages: tuple[str, ...] = Field(
        default=(), description="Modules with further tools, as Python imports them."
    )
    writes: tuple[str, ...] = Field(
        default=(), description="Tools that change something. Each is off unless it is named here."
    )

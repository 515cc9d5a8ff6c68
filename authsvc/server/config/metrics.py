"""``[metrics]``: where Prometheus scrapes."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field

from authsvc.common.formats import check_listening
from authsvc.common.settings import Table


class MetricsSettings(Table):
    """``[metrics]``: serves ``/metrics`` for Prometheus over plain HTTP."""

    listen: Annotated[str, AfterValidator(check_listening)] = Field(
        default="127.0.0.1:9464",
        description="host:port. Each further worker listens on the next port.",
    )

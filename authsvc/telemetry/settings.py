"""``[tracing]``, which authsvc and the adapter share."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field

from authsvc.common.formats import check_collector
from authsvc.common.settings import Table


class TracingSettings(Table):
    """``[tracing]``: where traces are exported to, by OTLP over gRPC.

    Without it, ``OTEL_EXPORTER_OTLP_ENDPOINT`` or ``OTEL_EXPORTER_OTLP_TRACES_ENDPOINT`` enables
    tracing.
    """

    endpoint: Annotated[str, AfterValidator(check_collector)] = Field(
        description="The collector's URL like http://127.0.0.1:4317; https for TLS.",
    )
    sample_ratio: float = Field(
        default=1.0,
        ge=0,
        le=1,
        description="Ratio of the traces that begin here and are sampled. A caller's decision "
        "overrides it.",
    )

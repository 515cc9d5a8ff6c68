"""The formats of a file of events."""

from __future__ import annotations

from typing import Literal

AuditFormat = Literal["json", "ocsf"]
"""Lines like those of the log, or those of OCSF (``ocsf``)."""

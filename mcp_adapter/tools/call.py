"""What a tool gets with each call, and the error that it raises."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from authsvc.domain.resolution import AwsCredentials, BearerCredentials, Credentials, Principal
from mcp_adapter.tools.s3 import S3Clients


class ToolError(Exception):
    """A call fails. The message is sent to the client, so it holds no secret."""


class Report(Protocol):
    """Reports the progress of a call. Nothing is sent unless the client asked for it."""

    async def __call__(
        self, progress: float, total: float | None = None, message: str | None = None
    ) -> None:
        """Report progress, which only ever grows; ``total`` where it is known."""


async def unreported(
    progress: float, total: float | None = None, message: str | None = None
) -> None:
    """A ``Report`` that sends nothing."""


@dataclass(frozen=True, slots=True)
class Call:
    """The caller, its credentials, and clients of S3.

    It is made for one call from the request that came with it, and ends with it: a call that the
    client cancels, or leaves, is cancelled.

    Attributes:
        principal: the caller.
        credentials: issued for the caller; None where there are none.
        s3: clients of the S3 API, by credentials.
        report: reports progress to the client.
        clock: seconds since the epoch.
    """

    principal: Principal
    credentials: Credentials | None
    s3: S3Clients
    report: Report = unreported
    clock: Callable[[], float] = time.time

    def aws_credentials(self) -> AwsCredentials:
        """The credentials to call AWS with. There is no fallback for missing ones.

        Raises:
            ToolError: there are none.
        """
        if not isinstance(self.credentials, AwsCredentials):
            raise ToolError("None of your roles comes with credentials for the storage.")
        return self.credentials

    def bearer_credentials(self) -> BearerCredentials:
        """The access token to call another API with. It is never the client's own.

        Raises:
            ToolError: there is none.
        """
        if not isinstance(self.credentials, BearerCredentials):
            raise ToolError("None of your roles comes with an access token for this API.")
        return self.credentials

"""What a tool gets with each call, and the error that it raises."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from authsvc.domain.errors import AuthError
from authsvc.domain.resolution import AwsCredentials, BearerCredentials, Credentials
from mcp_adapter.gate.callers import Caller, NoCredentialsError
from mcp_adapter.tools.s3 import S3Clients

log = logging.getLogger(__name__)


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
    """The caller, its credentials when they are asked for, and clients of S3.

    It is made for one call from the request that came with it, and ends with it: a call that the
    client cancels, or leaves, is cancelled.

    Attributes:
        principal: the caller.
        s3: clients of the S3 API, by credentials.
        report: reports progress to the client.
        clock: seconds since the epoch.
    """

    principal: Caller
    s3: S3Clients
    report: Report = unreported
    clock: Callable[[], float] = time.time

    async def credentials(
        self, name: str = "", *, buckets: Sequence[str] = ()
    ) -> Credentials | None:
        """Credentials that authsvc issues for the caller; see ``Caller.credentials``.

        Args:
            name: as authsvc's configuration names them; empty for those without a name.
            buckets: that they have to work for; none for all of the token's.

        Returns:
            None where the caller has none.

        Raises:
            ToolError: they are refused or unavailable, or the caller has been revoked.
            TypeError: an argument is of another type.
            ValueError: an argument is out of range.
        """
        try:
            return await self.principal.credentials(name, buckets=buckets)
        except NoCredentialsError:
            return None
        except AuthError as error:
            log.info("a call has no credentials: %s", error, extra={"reason": error.reason.name})
            raise ToolError(error.message) from None

    async def aws_credentials(
        self, name: str = "", *, buckets: Sequence[str] = ()
    ) -> AwsCredentials:
        """Credentials to call AWS with. There is no fallback for missing ones.

        Args:
            name: see ``credentials``.
            buckets: likewise.

        Raises:
            ToolError: there are none; or as of ``credentials``.
        """
        issued = await self.credentials(name, buckets=buckets)
        if not isinstance(issued, AwsCredentials):
            raise ToolError("None of your roles comes with credentials for the storage.")
        return issued

    async def bearer_credentials(self, name: str = "") -> BearerCredentials:
        """The access token to call another API with. It is never the client's own.

        Args:
            name: see ``credentials``.

        Raises:
            ToolError: there is none; or as of ``credentials``.
        """
        issued = await self.credentials(name)
        if not isinstance(issued, BearerCredentials):
            raise ToolError("None of your roles comes with an access token for this API.")
        return issued

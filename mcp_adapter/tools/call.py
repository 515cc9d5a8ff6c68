"""What a tool is given with each call, and how it says that it cannot."""

from __future__ import annotations

from dataclasses import dataclass

from authsvc.resolution import AwsCredentials, Credentials, Principal
from mcp_adapter.tools.s3 import S3Clients


class ToolError(Exception):
    """A tool cannot do it. The message goes to the client, so it holds no secret."""


@dataclass(frozen=True, slots=True)
class Call:
    """Who calls, with what they may work, and the clients to work with.

    It is made for one call from the request that came with it, and ends with it.

    Attributes:
        principal: who is asking.
        credentials: issued for them; None where there are none.
        s3: clients of the S3 API, by credentials.
    """

    principal: Principal
    credentials: Credentials | None
    s3: S3Clients

    def aws_credentials(self) -> AwsCredentials:
        """The credentials to call AWS with. Nothing stands in for missing ones.

        Raises:
            ToolError: there are none.
        """
        if not isinstance(self.credentials, AwsCredentials):
            raise ToolError("None of your roles comes with credentials for the storage.")
        return self.credentials

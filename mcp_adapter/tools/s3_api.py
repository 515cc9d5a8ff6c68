"""Clients of the S3 API as aiobotocore makes them, and what its exceptions mean.

``s3`` imports this module with the first call of S3; nothing else does.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from aiobotocore.config import AioConfig
from botocore.exceptions import BotoCoreError, ClientError
from botocore.parsers import ResponseParserError

from authsvc.common.aws_isolation import connection_options, isolated_session
from authsvc.domain.resolution import Secret
from mcp_adapter.tools.pages import parse_in_slices
from mcp_adapter.tools.slices import Slices

if TYPE_CHECKING:
    from types_aiobotocore_s3 import S3Client

MAX_CONNECTIONS = 50
"""Connections of one client. Botocore's own 10 would have calls of one user wait for each other."""

_MODELS = ("service-2", "endpoint-rule-set-1")
_DATA = ("endpoints", "partitions", "sdk-default-configuration", "_retry")
"""The files of botocore's that making a client reads. The session keeps them."""

_CODE = re.compile(r"[A-Za-z0-9.]{1,64}")


class S3Api:
    """Makes clients. Making the object reads the API's model, so it is made in a thread.

    Args:
        endpoint_url: the API; None for AWS itself.
        slices: in which responses are parsed.
    """

    def __init__(self, endpoint_url: str | None, slices: Slices) -> None:
        self._endpoint_url = endpoint_url
        self._slices = slices
        # One for all clients: it holds the model, and is never asked for credentials.
        self._session = isolated_session()
        loader = self._session.get_component("data_loader")
        for name in _MODELS:
            loader.load_service_model("s3", name)
        for name in _DATA:
            loader.load_data(name)

    @asynccontextmanager
    async def client(
        self,
        access_key_id: str,
        secret_access_key: Secret,
        session_token: Secret | None,
        region: str,
    ) -> AsyncIterator[S3Client]:
        """A client that signs with these credentials, closed at the end of the block."""
        async with self._session.create_client(
            "s3",
            region_name=region,
            endpoint_url=self._endpoint_url,
            verify=True,
            aws_access_key_id=access_key_id,
            aws_secret_access_key=secret_access_key.reveal(),
            aws_session_token=session_token.reveal() if session_token else None,
            config=AioConfig(
                connect_timeout=3,
                read_timeout=20,
                max_pool_connections=MAX_CONNECTIONS,
                retries={"mode": "standard", "total_max_attempts": 3},
                signature_version="s3v4",
                **connection_options(),
            ),
        ) as client:
            parse_in_slices(client, self._slices)
            yield client

    @staticmethod
    def error_code(error: Exception) -> str | None:
        """What an exception says about S3.

        Returns:
            The code that S3 gave, the HTTP status where an answer has no body; empty where S3 is
            unreachable or its answer is not valid; None for an exception that is not of botocore.
        """
        if isinstance(error, ClientError):
            code = error.response.get("Error", {}).get("Code", "")
            return code if _CODE.fullmatch(code) else "unknown"
        return "" if isinstance(error, BotoCoreError | ResponseParserError) else None

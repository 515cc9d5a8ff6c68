"""What the SDK's dispatcher is given with one message."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import anyio
from mcp.shared.dispatcher import CallOptions
from mcp.shared.exceptions import NoBackChannelError
from mcp.shared.message import ServerMessageMetadata
from mcp.shared.transport_context import TransportContext
from mcp_types import JSONRPCNotification, ProgressToken, RequestId
from starlette.requests import Request

from mcp_adapter.transport.event_stream import EventStream


@dataclass
class MessageContext:
    """The SDK's ``DispatchContext`` for one POSTed message; satisfied structurally.

    The server cannot send requests to the client: the response could reach another replica.

    Attributes:
        request_id: of the request; None for a notification.
        progress_token: ``params._meta.progressToken``; without one no progress is reported.
        stream: where notifications go; None drops them.
    """

    transport: TransportContext
    message_metadata: ServerMessageMetadata
    request_id: RequestId | None = None
    progress_token: ProgressToken | None = None
    stream: EventStream | None = None
    can_send_request: bool = field(default=False, init=False)

    @cached_property
    def cancel_requested(self) -> anyio.Event:
        """Of the SDK's protocol: never set here. Made when a handler looks."""
        return anyio.Event()

    @classmethod
    def of(
        cls,
        request: Request,
        request_id: RequestId | None = None,
        progress_token: ProgressToken | None = None,
        stream: EventStream | None = None,
    ) -> MessageContext:
        """The context of a message that came with ``request``."""
        transport = TransportContext(
            kind="streamable-http", can_send_request=False, headers=request.headers
        )
        metadata = ServerMessageMetadata(request_context=request)
        return cls(transport, metadata, request_id, progress_token, stream)

    async def send_raw_request(
        self, method: str, params: Mapping[str, Any] | None, opts: CallOptions | None = None
    ) -> dict[str, Any]:
        """
        Raises:
            NoBackChannelError: always.
        """
        raise NoBackChannelError(method)

    async def notify(
        self, method: str, params: Mapping[str, Any] | None, opts: CallOptions | None = None
    ) -> None:
        """Send a notification that belongs to this request."""
        if self.stream is not None:
            body = None if params is None else dict(params)
            await self.stream.message(
                JSONRPCNotification(jsonrpc="2.0", method=method, params=body)
            )

    async def progress(
        self, progress: float, total: float | None = None, message: str | None = None
    ) -> None:
        """Report progress, if the client asked for it."""
        if self.progress_token is None:
            return
        report = {"progress": progress, "total": total, "message": message}
        params = {name: value for name, value in report.items() if value is not None}
        await self.notify("notifications/progress", {"progressToken": self.progress_token} | params)

"""Requests of a server to a client: sent by themselves, or in an ``InputRequiredResult``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import mcp_types as types


def elicitation(message: str, schema: Mapping[str, Any]) -> types.ElicitRequest:
    """Ask the user to fill in a form of ``schema``."""
    form = types.ElicitRequestFormParams(message=message, requested_schema=dict(schema))
    return types.ElicitRequest(params=form)


def sampling(prompt: str, max_tokens: int) -> types.CreateMessageRequest:
    """Ask the client's model."""
    message = types.SamplingMessage(role="user", content=types.TextContent(text=prompt))
    return types.CreateMessageRequest(
        params=types.CreateMessageRequestParams(messages=[message], max_tokens=max_tokens)
    )


def roots() -> types.ListRootsRequest:
    """Ask for the client's roots."""
    return types.ListRootsRequest(params=types.RequestParams())


@dataclass(frozen=True, slots=True)
class Asks:
    """The input that a request needs before it can be answered (MCP 2026-07-28, SEP-2322).

    Attributes:
        requests: by the key that the response comes back under.
        state: opaque state that the client returns. The SDK seals it.
    """

    requests: Mapping[str, types.InputRequest]
    state: str | None = None

    def request(self) -> types.InputRequiredResult:
        """Request all of it."""
        return types.InputRequiredResult(
            input_requests=dict(self.requests), request_state=self.state
        )

    def given(self, params: types.InputResponseRequestParams) -> list[str]:
        """The requested keys that were answered; others are ignored."""
        return [key for key in self.requests if key in (params.input_responses or {})]

    def required(
        self, params: types.InputResponseRequestParams
    ) -> types.InputRequiredResult | None:
        """Request all of it, unless all of it was answered."""
        return None if len(self.given(params)) == len(self.requests) else self.request()

"""Answers that are decided without a server, as responses of this one."""

from __future__ import annotations

from starlette.responses import Response

from authsvc.http_auth.refusals import Answer


def response_of(answer: Answer) -> Response:
    """The response that it is."""
    return Response(answer.body, answer.status, answer.headers)

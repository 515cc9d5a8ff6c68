"""Introspection: whether its endpoint answers, and takes authsvc for its client."""

from __future__ import annotations

import time
from functools import partial

from authsvc.diagnosis import Check, Report, directly
from authsvc.domain.errors import AuthError, Reason
from authsvc.domain.tokens import BearerToken
from authsvc.net.urls import shown_url
from authsvc.server.config import IntrospectionSettings, Settings
from authsvc.server.issuers import introspection_of

_TEXT = "authsvc-doctor"
"""Is no token of any issuer: what a question about it shows is whether authsvc may ask."""

_REMEDY = (
    "Correct [introspection], or let authsvc reach the endpoint (firewall, network policy; or its "
    "proxy and ca_file). Until then its tokens are answered 503."
)


def checks(settings: Settings) -> list[Check]:
    """The check of ``[introspection]``, if there is one."""
    table = settings.introspection
    if table is None:
        return []
    ask = partial(_ask, table=table, max_token_bytes=settings.max_token_bytes)
    return [Check("introspection", ask, directly(_REMEDY))]


async def _ask(report: Report, *, table: IntrospectionSettings, max_token_bytes: int) -> None:
    verifier = introspection_of(table, max_token_bytes=max_token_bytes)
    token = BearerToken(_TEXT)
    try:
        await verifier.verify(token, resource="", now=time.time())
    except AuthError as error:
        if error.reason is Reason.KEYS_UNAVAILABLE:
            raise
        if error.reason is Reason.TOKEN_INACTIVE:
            report.ok(f"{shown_url(table.endpoint)} answers, and authsvc's client may ask")
            return
    report.fail(
        f"{shown_url(table.endpoint)} takes a text that is no token for an active token",
        "Correct introspection.endpoint: where every token is active, anybody gets in.",
    )

"""What the metadata of a call and its connection present: who calls, and in which trace."""

from __future__ import annotations

from typing import Any

from grpc.aio import ServicerContext

from authsvc.access.callers import Caller, Callers
from authsvc.access.certificate_names import certificate_names
from authsvc.domain.errors import AuthError, Reason

Context = ServicerContext[Any, Any]


def identified(callers: Callers, context: Context) -> Caller:
    """The caller, by the connection's certificate or the call's service token.

    Raises:
        AuthError: CALLER_NOT_ALLOWED.
    """
    # A kind of proof that no caller is registered with is not read: each costs as much as the rest.
    names = certificate_names(context.auth_context()) if callers.by_certificate else ()
    return callers.identify(names, service_token_of(context) if callers.by_token else "")


def service_token_of(context: Context) -> str:
    """The service token that a call presents; empty without one.

    Raises:
        AuthError: CALLER_NOT_ALLOWED: there are two.
    """
    presented = [
        value for key, value in context.invocation_metadata() or () if key == "authorization"
    ]
    if len(presented) > 1:
        raise AuthError(Reason.CALLER_NOT_ALLOWED, "two service tokens")
    scheme, _, token = str(presented[0] if presented else "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def traceparent_of(context: Context) -> str:
    """The trace context (W3C ``traceparent``) that a call presents; empty without one."""
    for key, value in context.invocation_metadata() or ():
        if key == "traceparent":
            return str(value)
    return ""

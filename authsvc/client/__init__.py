"""What calls authsvc: ``AuthClient``, a ``Resolver`` over gRPC, and its blocking twin, for servers;
``AdminClient`` for operators' tools. The names here are public; the modules below are not.

Needs grpcio and protobuf alone. Fails closed: every failure is an ``AuthError``, never an answer.
"""

from authsvc.client.admin import AdminClient
from authsvc.client.blocking import BlockingAuthClient
from authsvc.client.client import AuthClient
from authsvc.client.http_errors import HttpError, bearer_token
from authsvc.client.tls import ClientTls
from authsvc.domain.credential_requests import CredentialRequest
from authsvc.domain.errors import AuthError, Reason
from authsvc.domain.events import RecordFilter
from authsvc.domain.rates import Rate, RateLimit, RatePer
from authsvc.domain.resolution import (
    Actor,
    AwsCredentials,
    BearerCredentials,
    Credentials,
    Outcome,
    Principal,
    Resolution,
    Resolver,
    Session,
)

__all__ = [
    "Actor",
    "AdminClient",
    "AuthClient",
    "AuthError",
    "AwsCredentials",
    "BearerCredentials",
    "BlockingAuthClient",
    "ClientTls",
    "CredentialRequest",
    "Credentials",
    "HttpError",
    "Outcome",
    "Principal",
    "Rate",
    "RateLimit",
    "RatePer",
    "Reason",
    "RecordFilter",
    "Resolution",
    "Resolver",
    "Session",
    "bearer_token",
]

"""How authsvc authenticates as a client at an authorization server's endpoints.

Introspection and token exchange use the same methods.
"""

from authsvc.common.client_authentication.assertion_file import (
    SPIFFE_ASSERTION_TYPE,
    AssertionFile,
    AssertionType,
    ExpiredAssertionError,
)
from authsvc.common.client_authentication.client_secret import ClientSecretBasic, ClientSecretPost
from authsvc.common.client_authentication.method import ClientAuthentication, ClientParameters
from authsvc.common.client_authentication.named_client import NamedClient
from authsvc.common.client_authentication.private_key import (
    ASSERTION_SECONDS,
    ASSERTION_TYPE,
    PrivateKeyJwt,
)

__all__ = [
    "ASSERTION_SECONDS",
    "ASSERTION_TYPE",
    "SPIFFE_ASSERTION_TYPE",
    "AssertionFile",
    "AssertionType",
    "ClientAuthentication",
    "ClientParameters",
    "ClientSecretBasic",
    "ClientSecretPost",
    "ExpiredAssertionError",
    "NamedClient",
    "PrivateKeyJwt",
]

"""What every MCP server imports: ``AuthClient``, a ``Resolver`` over gRPC, and its blocking twin.

Needs grpcio and protobuf alone. Fails closed: whatever goes wrong on the way is an ``AuthError``,
never an answer.
"""

from authsvc.client.blocking import BlockingAuthClient
from authsvc.client.client import AuthClient
from authsvc.client.tls import ClientTls

__all__ = ["AuthClient", "BlockingAuthClient", "ClientTls"]

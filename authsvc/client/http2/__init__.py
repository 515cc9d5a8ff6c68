"""gRPC over HTTP/2 (RFC 9113) for one call: what ``ResolveSessionStream`` needs of it.

See docs/decisions/0024 for why the client does not use grpcio for this RPC.
"""

"""A bearer token for a downstream API, in exchange for the client's.

The client's token is sent to the token endpoint only: that of its own issuer, or one that the
configuration permits to receive that issuer's tokens. The token it returns is issued for the API.

| module | holds |
|---|---|
| ``broker`` | whose tokens are exchanged, what is cached, what is never issued |
| ``profile`` | what a profile is: requests to endpoints, and what is read in their answers |
| ``answers``, ``failures`` | responses with a token in them, and error responses |
| ``rfc8693`` | profile ``rfc8693``: OAuth 2.0 Token Exchange |
| ``jwt_bearer`` | profile ``jwt-bearer``: the client's token as an authorization grant (RFC 7523) |
| ``entra`` | profile ``entra-obo``: the on-behalf-of flow of the Microsoft identity platform |
| ``id_jag`` | profile ``id-jag``: an identity assertion for the API's own authorization server |
| ``gcp`` | profile ``gcp-sts``: workload identity federation of Google Cloud |
"""

from authsvc.credentials.exchange.broker import ExchangeBroker

__all__ = ["ExchangeBroker"]

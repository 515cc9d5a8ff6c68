"""How an HTTP request to an MCP server is read, decided and refused.

Without a server of its own: the gate of ``mcp_adapter`` (ASGI) and the checks of ``gateways``
(gRPC) read requests into these values, and write what comes out.

Request:

- ``headers``: in one form, from any parser
- ``request_headers``: what the headers say of the caller, read once
- ``eras``: MCP with sessions, or without
- ``bodies``: of which type and length
- ``anonymous_bodies``: how much is read and parsed before the token is verified
- ``strict_json``: JSON that can be read in one way
- ``messages``: JSON-RPC messages and batches
- ``forwarding``: the server reads what was authorised, in one way only

Caller:

- ``sessions``: who mints the ids of a server's sessions
- ``authorizer``: what a message, or a session's owner, is admitted by
- ``resolving``: the questions to the resolver, and what its errors become
- ``requirements``: what a request needs, by method and tool
- ``tool_limits``: the limits that settings have for tools
- ``rate_limit_settings``: these settings
- ``counting``: what a request counts as towards limits
- ``credential_options``: which credentials the resolver is asked for
- ``authorization``: whether its caller has that

Answer:

- ``refusals``: error responses, and what each error of authsvc becomes
- ``statuses``: the HTTP status and the challenge of each error
- ``refusal_log``: the refusals that a setting could mend, in the log
- ``metadata``: protected resource metadata (RFC 9728)

Helpers:

- ``read_only``: params that a function cannot change
- ``named_calls``: what a message calls, as the audit names it
- ``audited_requests``: what is known of a request for the audit, and the events of its calls
- ``throttling``: bounded rates of answers and of warnings
"""

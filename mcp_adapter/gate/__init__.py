"""The gate in front of a user's MCP server. Its public names are those of ``mcp_adapter``.

Its modules, in the order in which a request meets them.

Entry:

- ``middleware``: ``SessionGate``, which puts the others together; one way for each HTTP method
- ``apps``: what is no ASGI app is rejected at once
- ``lifespan``: the resolver opens and closes with the server
- ``open_paths``: paths that need no token
- ``origins``: Host, Origin and CORS
- ``forwarded``: the host that a client asked a proxy for
- ``metadata``: protected resource metadata (RFC 9728)

Request:

- ``forwarding``: the app reads what the gate has authorised, in one way only
- ``whitespace``: headers in one form for all HTTP servers
- ``request_headers``: what the headers say of the caller, read once
- ``eras``: MCP with sessions, or without
- ``posts``: POST: read, parsed, authorised, given to the app
- ``session_requests``: GET and DELETE
- ``bodies``: how much is read before the token is verified
- ``body_reading``: a body within bounds
- ``strict_json``: JSON that can be read in one way
- ``messages``: JSON-RPC messages and batches
- ``observing``: the observer of calls

Caller:

- ``resolving``: the questions to the resolver, and what its errors become
- ``requirements``: what a request needs, by method and tool
- ``authorization``: whether its caller has that
- ``caller_checks``: the same again, at an interval, while a response streams
- ``framework_users``: the caller where frameworks look for it
- ``identity``: ``caller`` and ``current_caller`` for tools

Answer:

- ``serving``: the request goes to the app, or its refusal to the client
- ``refusals``: error responses, and what each error of authsvc becomes
- ``refusal_log``: the refusals that a setting could mend, in the log
- ``new_sessions``: the session id that the answer to ``initialize`` has
- ``session_ids``: a client gets only session ids that authsvc knows
- ``watching``: a response goes on while its caller may have it
- ``response_starts``: what the start of a response says of it
- ``response_ends``: what takes the place of the rest of a response
- ``lingering``: the answer to a request whose body is not read

Helpers:

- ``read_only``: params that a function cannot change
- ``throttling``: bounded rates of answers and of warnings
"""

from authsvc.common import extras

# The message names what users import: the modules in here are private.
extras.need("mcp_adapter", "middleware", "anyio", "mcp_types", "starlette")

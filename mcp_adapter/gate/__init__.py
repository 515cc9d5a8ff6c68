"""The gate in front of a user's MCP server. Its public names are those of ``mcp_adapter``.

Its modules, in the order in which a request meets them.

Entry:

- ``middleware``: ``SessionGate``, which puts the others together; one way for each HTTP method
- ``apps``: what is no ASGI app is rejected at once
- ``lifespan``: the resolver opens and closes with the server
- ``open_paths``: paths that need no token
- ``origins``: Host, Origin and CORS
- ``forwarded``: the host that a client asked a proxy for
- ``metadata``: the routes of the protected resource metadata (RFC 9728)

Request, as ``authsvc.http_auth`` reads it and decides on it:

- ``whitespace``: headers in one form for all HTTP servers
- ``posts``: POST: read, authorised, given to the app
- ``session_requests``: GET and DELETE
- ``bodies``: what is read before the token is verified
- ``body_reading``: a body within bounds
- ``pacing``: waiting, for as long as the client stays
- ``observing``: the observer of calls
- ``call_audit``: the audit of calls: what was called, as whom, and how it ended
- ``call_failures``: which calls failed, by the responses to them

Caller:

- ``inner_requests``: the request as the app sees it
- ``caller_checks``: whether the caller may still have a response that streams, at an interval
- ``loop_lag``: a warning where a blocked event loop keeps them from their answers
- ``request_credentials``: credentials for it, for as long as it is served
- ``callers``: ``Caller``, the principal that tools get, with these credentials
- ``framework_users``: the caller where frameworks look for it
- ``identity``: ``caller`` and ``current_caller`` for tools

Answer:

- ``serving``: the request goes to the app, or its refusal to the client
- ``responses``: refusals as responses
- ``filtered_responses``: lists hold what their caller may call
- ``list_filter``: which items that is
- ``server_sent_events``: the events of a stream, one by one
- ``new_sessions``: the session id that the answer to ``initialize`` has
- ``session_ids``: a client gets only session ids that authsvc knows
- ``watching``: a response goes on while its caller may have it
- ``response_starts``: what the start of a response says of it
- ``response_ends``: what takes the place of the rest of a response
- ``lingering``: the answer to a request whose body is not read
"""

from authsvc.common import extras

# The message names what users import: the modules in here are private.
extras.need("mcp_adapter", "middleware", "anyio", "mcp_types", "starlette")

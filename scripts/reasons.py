"""``docs/reference/reasons.md``: every reason, its statuses, and what to do about it."""

from __future__ import annotations

from dataclasses import dataclass
from http import HTTPStatus

from authsvc.cli.remedies import NOTHING_TO_MEND, REMEDIES
from authsvc.domain.errors import AuthError, Reason
from authsvc.http_auth.refusals import refusal_of

_INTRODUCTION = """\
Every error has a reason. It is stable API: a program may depend on it, and messages may change.
It is `google.rpc.ErrorInfo.reason` (domain `authsvc`) in the details of a gRPC status,
`error.data.reason` in the body of an HTTP answer of the gate, `AuthError.reason` in Python, and
a field of logs and security events.

- HTTP is the status for an MCP client that names a session (`Mcp-Session-Id`). Every 404 has
  the reason `SESSION_NOT_FOUND`, whether the session is unknown, has ended or is another
  subject's. The gRPC status and the gate's log line have the reason of the row.
- In MCP 2026-07-28 no session is named. There a session that has ended is a 401 with the reason
  of the row. With `SESSION_REVOKED`, tokens issued until the revocation are rejected; one that
  is issued later is served.
- A 401 carries `WWW-Authenticate: Bearer` with `error="invalid_token"`, the scopes that the
  request needs, and the URL of the metadata. A request without a token where one is needed is a
  401 without error and reason. A token without a scope is a 403 with
  `error="insufficient_scope"` and the reason `INSUFFICIENT_SCOPE`, which is the gate's own.
- Security events and `authsvc explain` name the setting that would mend a rejection, where one
  would. Clients do not see it.
- `authsvc explain` names the check that a token fails. [runbook.md](../runbook.md) has the
  symptoms.
"""


@dataclass(frozen=True)
class Guide:
    """What a reason asks of people.

    Attributes:
        meaning: what has happened.
        client: what an MCP client does.
    """

    meaning: str
    client: str


_ANOTHER = "get another token"
_WAIT = "wait for `Retry-After`; keep session and token"
_ANEW = "initialise again"
_NOTHING = "nothing helps"

GUIDES: dict[Reason, Guide] = {
    Reason.TOKEN_MALFORMED: Guide(
        "not a well-formed JWT, claims that do not parse, or another token than an access token",
        "get another token; send it whole, once",
    ),
    Reason.TOKEN_SIGNATURE_INVALID: Guide("altered or forged; many: somebody tries", _ANOTHER),
    Reason.TOKEN_EXPIRED: Guide(
        "past `exp` and `leeway_seconds` (30 by default), or older than `[revocations] "
        "retention_seconds`",
        "refresh, and repeat the request on the same session",
    ),
    Reason.TOKEN_NOT_YET_VALID: Guide(
        "`nbf` or `iat` is in the future", "wait: its issuer's clock is ahead"
    ),
    Reason.TOKEN_ISSUER_UNKNOWN: Guide(
        "`iss` is in no `[[issuers]]`", "log in where `resource_metadata` says"
    ),
    Reason.TOKEN_AUDIENCE_MISMATCH: Guide(
        "`aud` is not the resource",
        "ask for a token with `resource` set to this server (RFC 8707)",
    ),
    Reason.TOKEN_ALGORITHM_REFUSED: Guide("`alg` is not among the issuer's `algorithms`", _ANOTHER),
    Reason.TOKEN_KEY_UNKNOWN: Guide("no usable key of that `kid` after a fresh fetch", _ANOTHER),
    Reason.TOKEN_CLAIM_MISSING: Guide("a required claim is missing", _ANOTHER),
    Reason.TOKEN_REVOKED: Guide("a revocation covers it", "log in again; the session goes on"),
    Reason.TOKEN_INACTIVE: Guide(
        "the issuer's introspection says `active: false`",
        "log in again; the session goes on",
    ),
    Reason.SESSION_SUBJECT_MISMATCH: Guide(
        "a valid token on another subject's session",
        "initialise a session of its own",
    ),
    Reason.CALLER_NOT_ALLOWED: Guide(
        "the MCP server did not prove who it is, or asks for a resource that is not its own",
        "nothing helps: the server is not set up",
    ),
    Reason.CREDENTIALS_REFUSED: Guide(
        "no role is for this principal, or its claims make no policy",
        "ask for other roles or claims",
    ),
    Reason.SESSION_NOT_FOUND: Guide(
        "never existed, or was removed long ago",
        _ANEW,
    ),
    Reason.SESSION_EXPIRED: Guide("past its idle or absolute limit", _ANEW),
    Reason.SESSION_REVOKED: Guide(
        "it was ended", f"{_ANEW}; in 2026-07-28 get a token that is issued later"
    ),
    Reason.SESSION_ID_INVALID: Guide(
        "not an id that authsvc or a stateful server makes",
        "initialise, and send the id from the answer",
    ),
    Reason.TOKEN_TOO_LARGE: Guide(
        "over `max_token_bytes`; or more than 1,000 buckets, 1,000 permissions, 256 roles or 256 "
        "scopes, counted after unpacking; or one of them, `jti`, `client_id` or `azp` over 1,024 "
        "characters",
        "ask for a smaller token",
    ),
    Reason.RESOURCE_INVALID: Guide("`resource` is no canonical URI", _NOTHING),
    Reason.ARGUMENT_INVALID: Guide(
        "a request is incomplete or inconsistent",
        _NOTHING,
    ),
    Reason.SESSION_LIMIT: Guide(
        "a caller opens sessions without a token faster than it may",
        "wait for `Retry-After`",
    ),
    Reason.OVERLOADED: Guide(
        "a limit of `[limits]`, or too many watches",
        "wait for `Retry-After`",
    ),
    Reason.RATE_LIMITED: Guide(
        "a limit by subject, by client or for everyone: the message names it, and so does `limit` "
        "in the error's data",
        "wait for `Retry-After`",
    ),
    Reason.CONFLICT: Guide(
        "other requests changed the same session, several times in a row",
        _WAIT,
    ),
    Reason.SERVICE_UNAVAILABLE: Guide(
        "authsvc cannot be reached, or does not answer in time",
        _WAIT,
    ),
    Reason.STORE_UNAVAILABLE: Guide(
        "the store cannot be reached, or does not answer in time", _WAIT
    ),
    Reason.KEYS_UNAVAILABLE: Guide(
        "an issuer's keys cannot be fetched",
        _WAIT,
    ),
    Reason.CREDENTIALS_UNAVAILABLE: Guide("STS or the token endpoint is unavailable", _WAIT),
}


def reasons() -> str:
    """The page, without its first line."""
    parts = [
        "# Reasons\n",
        _INTRODUCTION,
        "| reason | gRPC | HTTP | what it means | what a client does | what an operator does |",
        "|---|---|---|---|---|---|",
    ]
    parts.extend(_row(reason) for reason in Reason)
    return "\n".join(parts)


def over_http(reason: Reason) -> str:
    """What a client sees that names a session: the status, and the reason where it is another."""
    refusal = refusal_of(AuthError(reason), in_session=True, scopes=())
    status = str(refusal.status.value)
    return f"{status} `{refusal.reason}`" if refusal.status == HTTPStatus.NOT_FOUND else status


def _row(reason: Reason) -> str:
    guide = GUIDES[reason]
    operator = REMEDIES.get(reason) or NOTHING_TO_MEND[reason]
    return (
        f"| `{reason.name}` | {reason.status.value} | {over_http(reason)} | {guide.meaning} "
        f"| {guide.client} | {operator} |"
    )

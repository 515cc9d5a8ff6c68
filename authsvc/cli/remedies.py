"""The remedy for each reason for which a token is rejected."""

from __future__ import annotations

from authsvc.domain.errors import Reason

REMEDIES = {
    Reason.TOKEN_TOO_LARGE: "Have the issuer issue smaller tokens, or raise max_token_bytes.",
    Reason.TOKEN_MALFORMED: "Have the issuer correct what the failed check names. A token that "
    "was truncated, quoted or wrapped when it was copied fails in the same way.",
    Reason.TOKEN_ISSUER_UNKNOWN: "To trust the issuer, add an [[issuers]] table whose issuer "
    "equals the token's iss, character by character.",
    Reason.TOKEN_ALGORITHM_REFUSED: "Add the algorithm to the issuer's algorithms if it is one of "
    "RS, PS, ES, HS with 256, 384 or 512, EdDSA; or have the issuer sign with a configured one.",
    Reason.TOKEN_KEY_UNKNOWN: "The issuer has rotated its keys, or another issuer signed the "
    "token: compare `authsvc keys show` with what the issuer publishes.",
    Reason.TOKEN_SIGNATURE_INVALID: "The token was changed, or signed with another key of the "
    "same name: compare the issuer's key or secret_file on both sides.",
    Reason.TOKEN_EXPIRED: "Have the client refresh the token. If it is new, compare the clocks.",
    Reason.TOKEN_NOT_YET_VALID: "The issuer's clock is ahead, or this machine's is behind: "
    "compare them. leeway_seconds tolerates a small difference.",
    Reason.TOKEN_AUDIENCE_MISMATCH: "Have the client request a token for this resource (RFC 8707), "
    "or add the issuer's aud to the issuer's audiences.",
    Reason.TOKEN_CLAIM_MISSING: "Have the issuer include the claim, or change required_claims.",
    Reason.TOKEN_REVOKED: "Have the client log in again.",
    Reason.KEYS_UNAVAILABLE: "--fetch fetches the issuer's keys. If that fails, run `authsvc "
    "doctor`.",
    Reason.RESOURCE_INVALID: "Write it as an absolute URI, http or https, without a fragment.",
    Reason.CALLER_NOT_ALLOWED: "Add the resource to resources, or to the resources of one of "
    "[[callers]].",
}
"""By reason. Names settings as the configuration does."""

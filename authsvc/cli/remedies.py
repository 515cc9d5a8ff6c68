"""What to do about each reason for which a token is refused."""

from __future__ import annotations

from authsvc.domain.errors import Reason

REMEDIES = {
    Reason.TOKEN_TOO_LARGE: "Have the issuer put less into it, or raise max_token_bytes.",
    Reason.TOKEN_MALFORMED: "Have the issuer send what the failed check names as it should be; "
    "a token that was cut, quoted or wrapped on its way looks so, too.",
    Reason.TOKEN_ISSUER_UNKNOWN: "If the issuer is to be trusted, add an [[issuers]] table whose "
    "issuer equals the token's iss, character by character.",
    Reason.TOKEN_ALGORITHM_REFUSED: "Add the algorithm to the issuer's algorithms if it is one of "
    "HS256, RS256, PS256, ES256, EdDSA; or have the issuer sign with one that is there.",
    Reason.TOKEN_KEY_UNKNOWN: "The issuer has rotated its keys, or it is another's token: compare "
    "`authsvc keys show` with what the issuer publishes.",
    Reason.TOKEN_SIGNATURE_INVALID: "The token was changed on its way, or signed by somebody else "
    "under the same name: compare the issuer's key or secret_file on both sides.",
    Reason.TOKEN_EXPIRED: "Have the client refresh it. If it is fresh, compare the clocks.",
    Reason.TOKEN_NOT_YET_VALID: "The issuer's clock is ahead, or this one behind: compare them; "
    "leeway_seconds allows for a little.",
    Reason.TOKEN_AUDIENCE_MISMATCH: "Have the client ask for a token for this resource (RFC 8707), "
    "or name what the issuer puts into aud in the issuer's audiences.",
    Reason.TOKEN_CLAIM_MISSING: "Have the issuer state the claim, or change required_claims.",
    Reason.TOKEN_REVOKED: "Have the client log in again.",
    Reason.KEYS_UNAVAILABLE: "--fetch asks the issuer for its keys. If that fails, `authsvc "
    "doctor` says why.",
    Reason.RESOURCE_INVALID: "Spell it canonically: absolute, lower-case host, no default "
    "port, no fragment.",
    Reason.CALLER_NOT_ALLOWED: "Add it to resources, or to the resources of one of [[callers]].",
}
"""By reason. In the words of the configuration."""

"""What an operator does about each reason: ``authsvc explain`` and docs/reference/reasons.md."""

from __future__ import annotations

from authsvc.diagnosis import directly
from authsvc.diagnosis.key_remedies import key_remedy
from authsvc.domain.errors import Reason

REMEDIES = {
    Reason.TOKEN_TOO_LARGE: "Have the issuer issue smaller tokens, or raise max_token_bytes.",
    Reason.TOKEN_MALFORMED: "Have the issuer correct what the failed check names. A token that "
    "was truncated, quoted or wrapped when it was copied fails in the same way.",
    Reason.TOKEN_ISSUER_UNKNOWN: "To trust the issuer, add an [[issuers]] table whose issuer "
    "equals the token's iss, character by character. Where the detail names a configured issuer "
    "of nearly that name, correct that one instead.",
    Reason.TOKEN_ALGORITHM_REFUSED: "Add the algorithm to the issuer's algorithms if it is one of "
    "RS, PS, ES, HS with 256, 384 or 512, EdDSA; or have the issuer sign with a configured one.",
    Reason.TOKEN_KEY_UNKNOWN: "The issuer has rotated its keys, or another issuer signed the "
    "token: compare `authsvc keys show` (without operator access: with --config FILE --fetch) with "
    "what the issuer publishes. Unknown keys cause at most one fetch in 30 s: a key that is used "
    "at once after its publication may be unknown for that long.",
    Reason.TOKEN_SIGNATURE_INVALID: "The token was changed, or signed with another key of the "
    "same name: compare the issuer's key or secret_file on both sides.",
    Reason.TOKEN_EXPIRED: "Have the client refresh the token. If it is new, compare the clocks.",
    Reason.TOKEN_NOT_YET_VALID: "The issuer's clock is ahead, or this machine's is behind: "
    "compare them. leeway_seconds tolerates a small difference.",
    Reason.TOKEN_AUDIENCE_MISMATCH: "Have the client request a token for this resource (RFC 8707), "
    "or add the issuer's aud to the issuer's audiences.",
    Reason.TOKEN_CLAIM_MISSING: "Have the issuer include the claim, or change required_claims, or "
    "name another one in [issuers.claims].",
    Reason.TOKEN_REVOKED: "Have the client log in again.",
    Reason.SESSION_SUBJECT_MISMATCH: "See the security event: a hijack that failed, or a client "
    "that mixes up its users.",
    Reason.CALLER_NOT_ALLOWED: "Add the resource to resources, or to the resources of the MCP "
    "server's [[callers]]; check its certificate or service token.",
    Reason.CREDENTIALS_REFUSED: "Check [credentials], or the claims: the log says by how much a "
    "policy is too long.",
    Reason.RESOURCE_INVALID: "Write it as an absolute URI, http or https, without a fragment.",
    Reason.ARGUMENT_INVALID: "Mend the program that sent it: the proto has what it takes.",
    Reason.SESSION_LIMIT: "`LIMIT_REACHED` names the caller. Let clients bring a token when they "
    "initialise.",
    Reason.OVERLOADED: "`LIMIT_REACHED` names the caller and the limit: raise it, or add replicas.",
    Reason.RATE_LIMITED: "`LIMIT_REACHED` names the subject, the client and the limit: let it, or "
    "raise the limit.",
    Reason.SERVICE_UNAVAILABLE: "See its replicas and the network: `authsvc doctor`.",
    Reason.STORE_UNAVAILABLE: "See the store.",
    Reason.KEYS_UNAVAILABLE: "Check the issuer's endpoint, and the egress to it: directly, as "
    "proxies of the environment are ignored. `authsvc explain --fetch` fetches the keys and says "
    "what each place answered.",
    Reason.CREDENTIALS_UNAVAILABLE: "Check the provider, the egress, and what authsvc "
    "authenticates by there: a secret, key, certificate or assertion. `authsvc doctor` does.",
}
"""By reason. Names settings as the configuration does."""

NOTHING_TO_MEND = {
    Reason.TOKEN_INACTIVE: "Nothing: a new token is served.",
    Reason.SESSION_NOT_FOUND: "Nothing. Many at once: the store was emptied.",
    Reason.SESSION_EXPIRED: "Nothing, or raise the limits of [sessions].",
    Reason.SESSION_REVOKED: "Nothing.",
    Reason.SESSION_ID_INVALID: "Nothing; an MCP server has to pass the header on unchanged.",
    Reason.CONFLICT: "Nothing. Many at once: one session is shared by very many clients.",
}
"""The reasons that occur in normal operation, and what an operator should know of them."""

_MISSPELT = (
    "Do not add a table: the check names the [[issuers]] table that is meant. Write the token's "
    "iss there as its issuer, character by character."
)
_NO_ISSUER = "Have the issuer include iss: a token without it belongs to no issuer."
_INTROSPECTED = (
    'To have the issuer\'s JWTs introspected, too, set tokens = "all" in [introspection]; to have '
    "them verified by its keys, add an [[issuers]] table for it, beside [introspection]."
)


def remedy_of(reason: Reason, setting: str) -> str:
    """What an operator does about one rejection, which the setting tells from others of its reason.

    Args:
        reason: why a token is rejected.
        setting: the setting that would mend it; empty where none would.
    """
    name = setting.rpartition(".")[2]
    if reason is Reason.KEYS_UNAVAILABLE:
        return directly(key_remedy(name)) if name == "proxy" else key_remedy(name)
    if reason is Reason.TOKEN_ISSUER_UNKNOWN:
        of_issuer = {"issuer": _MISSPELT, "tokens": _INTROSPECTED, "": _NO_ISSUER}
        return of_issuer.get(name, REMEDIES[reason])
    return REMEDIES.get(reason) or NOTHING_TO_MEND[reason]

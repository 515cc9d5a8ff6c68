"""Every reason for which authsvc rejects a request. Imports nothing else of the project.

A reason's name is stable API (``google.rpc.ErrorInfo.reason``); its status is the gRPC code; its
message is fit for the end user of the calling server. ``AuthError.detail`` and
``AuthError.setting`` are for operators: they are logged, never sent, and never hold a token or a
key.
"""

from __future__ import annotations

from enum import Enum, StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from authsvc.domain.resolution import Principal  # which imports this module

DOMAIN = "authsvc"
"""``google.rpc.ErrorInfo.domain`` of every error."""


class GrpcStatus(StrEnum):
    """The gRPC status codes in use, by name (https://grpc.io/docs/guides/status-codes/)."""

    UNAUTHENTICATED = "UNAUTHENTICATED"
    PERMISSION_DENIED = "PERMISSION_DENIED"
    NOT_FOUND = "NOT_FOUND"
    INVALID_ARGUMENT = "INVALID_ARGUMENT"
    RESOURCE_EXHAUSTED = "RESOURCE_EXHAUSTED"
    ABORTED = "ABORTED"
    UNAVAILABLE = "UNAVAILABLE"


class Reason(Enum):
    """Why a request was rejected: (status, public message)."""

    TOKEN_MALFORMED = GrpcStatus.UNAUTHENTICATED, "The token is not a valid access token."
    TOKEN_SIGNATURE_INVALID = GrpcStatus.UNAUTHENTICATED, "The token's signature does not verify."
    TOKEN_EXPIRED = GrpcStatus.UNAUTHENTICATED, "The token has expired."
    TOKEN_NOT_YET_VALID = GrpcStatus.UNAUTHENTICATED, "The token is not valid yet."
    TOKEN_ISSUER_UNKNOWN = GrpcStatus.UNAUTHENTICATED, "The token's issuer is not trusted here."
    TOKEN_AUDIENCE_MISMATCH = (
        GrpcStatus.UNAUTHENTICATED,
        "The token was issued for another resource.",
    )
    TOKEN_ALGORITHM_REFUSED = GrpcStatus.UNAUTHENTICATED, "The token's algorithm is not accepted."
    TOKEN_KEY_UNKNOWN = GrpcStatus.UNAUTHENTICATED, "The token was signed with an unknown key."
    TOKEN_CLAIM_MISSING = GrpcStatus.UNAUTHENTICATED, "The token lacks a claim that is required."
    TOKEN_REVOKED = GrpcStatus.UNAUTHENTICATED, "The token has been revoked."
    TOKEN_INACTIVE = GrpcStatus.UNAUTHENTICATED, "The token is not active."

    SESSION_SUBJECT_MISMATCH = (
        GrpcStatus.PERMISSION_DENIED,
        "The session belongs to another subject.",
    )
    CALLER_NOT_ALLOWED = GrpcStatus.PERMISSION_DENIED, "This server may not act for that resource."
    CREDENTIALS_REFUSED = (
        GrpcStatus.PERMISSION_DENIED,
        "No credentials are issued for this principal.",
    )

    SESSION_NOT_FOUND = GrpcStatus.NOT_FOUND, "There is no such session."
    SESSION_EXPIRED = GrpcStatus.NOT_FOUND, "The session has expired."
    SESSION_REVOKED = GrpcStatus.NOT_FOUND, "The session has been revoked."

    SESSION_ID_INVALID = GrpcStatus.INVALID_ARGUMENT, "The session id is not valid."
    TOKEN_TOO_LARGE = GrpcStatus.INVALID_ARGUMENT, "The token is too large."
    RESOURCE_INVALID = GrpcStatus.INVALID_ARGUMENT, "The resource is not a canonical URI."
    ARGUMENT_INVALID = GrpcStatus.INVALID_ARGUMENT, "The request is not complete or not consistent."

    SESSION_LIMIT = GrpcStatus.RESOURCE_EXHAUSTED, "There are too many sessions."
    OVERLOADED = GrpcStatus.RESOURCE_EXHAUSTED, "The service is overloaded; try again."
    RATE_LIMITED = GrpcStatus.RESOURCE_EXHAUSTED, "There are too many calls; try again later."

    CONFLICT = GrpcStatus.ABORTED, "The session was changed by another request; try again."

    SERVICE_UNAVAILABLE = (
        GrpcStatus.UNAVAILABLE,
        "The authorization service is unavailable; try again.",
    )
    STORE_UNAVAILABLE = GrpcStatus.UNAVAILABLE, "The session store is unavailable; try again."
    KEYS_UNAVAILABLE = (
        GrpcStatus.UNAVAILABLE,
        "The token cannot be checked at the moment; try again.",
    )
    CREDENTIALS_UNAVAILABLE = GrpcStatus.UNAVAILABLE, "Credentials are unavailable; try again."

    def __init__(self, status: GrpcStatus, message: str) -> None:
        self.status = status
        self.message = message


class AuthError(Exception):
    """The one exception that a package raises for its callers: a reason, and what helps to act.

    Attributes:
        reason: why.
        detail: for the operator's log alone, without secrets; empty where the reason says enough.
        setting: for the operator's log alone: the setting that would mend it, by its name in the
            configuration, such as ``issuers[https://idp.example].audiences``; empty where none
            would.
        retry_after_seconds: seconds until another attempt may succeed; set for UNAVAILABLE,
            ABORTED and RESOURCE_EXHAUSTED.
        counts_as_rejected: whether the token counts as rejected though its validity is not known:
            its key is not among the known ones.
        limit: of RATE_LIMITED: the name of the limit that is reached, which is public; else empty.
        principal: of RATE_LIMITED and of errors about credentials: whose valid token it is, for the
            audit and the log alone; None where that is not known.
        of_write: of STORE_UNAVAILABLE: whether a write has failed, and so says nothing about
            requests that write nothing.
        is_unanswered: of STORE_UNAVAILABLE: whether the store may have done what it was asked:
            its answer was lost.
    """

    def __init__(
        self,
        reason: Reason,
        detail: str = "",
        *,
        setting: str = "",
        retry_after_seconds: float | None = None,
        counts_as_rejected: bool = False,
        limit: str = "",
        principal: Principal | None = None,
        of_write: bool = False,
        is_unanswered: bool = False,
    ) -> None:
        super().__init__(f"{reason.name}: {detail}" if detail else reason.name)
        self.reason = reason
        self.detail = detail
        self.setting = setting
        if retry_after_seconds is None and reason.status in _RETRYABLE:
            retry_after_seconds = 1.0
        self.retry_after_seconds = retry_after_seconds
        self.counts_as_rejected = counts_as_rejected
        self.limit = limit
        self.principal = principal
        self.of_write = of_write
        self.is_unanswered = is_unanswered

    @property
    def message(self) -> str:
        """The public message: the reason's, with the name of the limit that is reached."""
        if not self.limit:
            return self.reason.message
        return f"There are too many calls for the limit {self.limit}; try again later."

    def __str__(self) -> str:
        return f"{super().__str__()}{of_setting(self.setting)}"

    def raisable(self, *, principal: Principal | None = None) -> AuthError:
        """An equal error without traceback, to raise one that several requests hold.

        An exception keeps the frames that it was raised through, and what is in them.

        Args:
            principal: whose valid token it is; None for the same as of this one.
        """
        return AuthError(
            self.reason,
            self.detail,
            setting=self.setting,
            retry_after_seconds=self.retry_after_seconds,
            counts_as_rejected=self.counts_as_rejected,
            limit=self.limit,
            principal=principal or self.principal,
            of_write=self.of_write,
            is_unanswered=self.is_unanswered,
        )

    def in_table(self, table: str) -> None:
        """Complete a setting that was raised by its name within a table of the configuration.

        Args:
            table: the table's name, such as ``issuers[https://idp.example]``.
        """
        if self.setting:
            self.setting = f"{table}.{self.setting}"


def of_setting(setting: str) -> str:
    """What a log line adds to say which setting mends it; empty without one."""
    return f" (setting: {setting})" if setting else ""


_RETRYABLE = frozenset({GrpcStatus.UNAVAILABLE, GrpcStatus.ABORTED, GrpcStatus.RESOURCE_EXHAUSTED})

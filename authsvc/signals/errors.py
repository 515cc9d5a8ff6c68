"""Why a signal is rejected: with a code for its sender, and a detail for the operator."""

from __future__ import annotations

from enum import StrEnum

from authsvc.domain.errors import AuthError, GrpcStatus, Reason, of_setting


class SignalErrorCode(StrEnum):
    """The error codes of RFC 8935 section 2.4 that are in use."""

    INVALID_REQUEST = "invalid_request"
    INVALID_KEY = "invalid_key"
    INVALID_ISSUER = "invalid_issuer"
    INVALID_AUDIENCE = "invalid_audience"
    AUTHENTICATION_FAILED = "authentication_failed"


class SignalError(Exception):
    """A signal is rejected, and has no effect.

    Attributes:
        code: for the sender.
        description: for the sender: one sentence, which quotes nothing of the signal or of the
            configuration.
        detail: for the operator's log alone, without secrets; empty where the description says
            enough.
        setting: for the operator's log alone: the setting that would mend it, by its name in the
            configuration; empty where none would.
    """

    def __init__(
        self, code: SignalErrorCode, description: str, *, detail: str = "", setting: str = ""
    ) -> None:
        super().__init__(f"{code}: {detail or description}")
        self.code = code
        self.description = description
        self.detail = detail or description
        self.setting = setting

    def __str__(self) -> str:
        return f"{super().__str__()}{of_setting(self.setting)}"


_CODES = {
    Reason.TOKEN_ALGORITHM_REFUSED: SignalErrorCode.INVALID_KEY,
    Reason.TOKEN_KEY_UNKNOWN: SignalErrorCode.INVALID_KEY,
    Reason.TOKEN_SIGNATURE_INVALID: SignalErrorCode.INVALID_KEY,
}

_DESCRIPTIONS = {
    Reason.TOKEN_ALGORITHM_REFUSED: "The algorithm of the signature is not accepted.",
    Reason.TOKEN_KEY_UNKNOWN: "The key of the signature is not known.",
    Reason.TOKEN_SIGNATURE_INVALID: "The signature does not verify.",
    Reason.TOKEN_TOO_LARGE: "The token or one of its claims is too large.",
}

_MALFORMED = "The token is not a well-formed, signed JWT."


def signal_error(error: AuthError, *, setting: str = "") -> SignalError:
    """What the checks that signals share with access tokens say of a signal.

    Args:
        error: of the check.
        setting: the setting that would mend it; empty where none would.

    Raises:
        AuthError: the same one, where the signal's validity is not known now: its sender has to
            send it again.
    """
    if error.reason.status is GrpcStatus.UNAVAILABLE:
        raise error
    return SignalError(
        _CODES.get(error.reason, SignalErrorCode.INVALID_REQUEST),
        _DESCRIPTIONS.get(error.reason, _MALFORMED),
        detail=f"{error.reason.name}: {error.detail}" if error.detail else error.reason.name,
        setting=setting,
    )


def invalid_request(description: str, *, detail: str = "", setting: str = "") -> SignalError:
    """For a token that is not a signal of the kind that it was sent as; arguments as the class."""
    code = SignalErrorCode.INVALID_REQUEST
    return SignalError(code, description, detail=detail, setting=setting)

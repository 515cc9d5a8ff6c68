"""Credentials, and which of them a request asks for, between the domain and ``auth.proto``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from authsvc.domain.credential_requests import CredentialRequest, check_selection
from authsvc.domain.errors import AuthError, Reason
from authsvc.domain.read_only import read_only
from authsvc.domain.resolution import (
    AwsCredentials,
    BearerCredentials,
    Credentials,
    Secret,
)
from authsvc.v1 import auth_pb2 as pb
from authsvc.wire.errors import error_of, rpc_status_of
from authsvc.wire.principals import seconds, timestamp


def selection_message(
    requests: Iterable[CredentialRequest] | None,
) -> pb.CredentialSelection | None:
    """Which credentials a request asks for; None for the default ones."""
    if requests is None:
        return None
    return pb.CredentialSelection(
        requests=[
            pb.CredentialRequest(name=it.name, buckets=it.buckets, rejected_sha256=it.rejected)
            for it in requests
        ]
    )


def selection_of(
    request: pb.ResolveSessionRequest | pb.CreateSessionRequest,
) -> tuple[CredentialRequest, ...] | None:
    """Which credentials a request asks for; None for the default ones.

    Raises:
        AuthError: ARGUMENT_INVALID: too many, one name twice, or a name, bucket or digest that is
            none.
    """
    if not request.HasField("credential_selection"):
        return None
    try:
        return check_selection(list(map(_request_of, request.credential_selection.requests)))
    except ValueError as error:
        raise AuthError(Reason.ARGUMENT_INVALID, f"credential_selection: {error}") from None


def _request_of(message: pb.CredentialRequest) -> CredentialRequest:
    return CredentialRequest(message.name, tuple(message.buckets), message.rejected_sha256)


def named_messages(
    named: Mapping[str, Credentials | AuthError],
) -> Iterable[pb.NamedCredentials]:
    """The results of a request that asks for credentials by name."""
    for name, result in named.items():
        if isinstance(result, AuthError):
            yield pb.NamedCredentials(name=name, error=rpc_status_of(result))
        else:
            yield pb.NamedCredentials(name=name, credentials=credentials_message(result))


def named_of(
    messages: Iterable[pb.NamedCredentials],
) -> Mapping[str, Credentials | AuthError]:
    """The inverse of ``named_messages``.

    An error or a kind that is not known, as of a later version, is CREDENTIALS_UNAVAILABLE: it is
    not known that there are none.
    """
    return read_only({it.name: _result_of(it) for it in messages})


def _result_of(message: pb.NamedCredentials) -> Credentials | AuthError:
    error = None
    if message.HasField("credentials"):
        if (credentials := credentials_of(message.credentials)) is not None:
            return credentials
    elif message.HasField("error"):
        error = error_of(message.error)
    unknown = "the answer of authsvc is not known to this version"
    return error or AuthError(Reason.CREDENTIALS_UNAVAILABLE, unknown)


def credentials_message(credentials: Credentials) -> pb.Credentials:
    """Credentials for the wire: the only place where the server reveals them."""
    message = pb.Credentials(expire_time=timestamp(credentials.expire_time))
    if isinstance(credentials, AwsCredentials):
        token = credentials.session_token
        message.aws.access_key_id = credentials.access_key_id
        message.aws.secret_access_key = credentials.secret_access_key.reveal()
        message.aws.session_token = token.reveal() if token else ""
        message.aws.region = credentials.region
    else:
        message.bearer.access_token = credentials.access_token.reveal()
        message.bearer.token_type = credentials.token_type
    return message


def credentials_of(message: pb.Credentials) -> Credentials | None:
    """Credentials from the wire; None for those of a later version."""
    expire_time = seconds(message.expire_time)
    kind = message.WhichOneof("kind")
    if kind == "aws":
        aws = message.aws
        return AwsCredentials(
            access_key_id=aws.access_key_id,
            secret_access_key=Secret(aws.secret_access_key),
            session_token=Secret(aws.session_token) if aws.session_token else None,
            region=aws.region,
            expire_time=expire_time,
        )
    if kind == "bearer":
        bearer = message.bearer
        return BearerCredentials(Secret(bearer.access_token), bearer.token_type, expire_time)
    return None

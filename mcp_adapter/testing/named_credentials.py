"""Credentials by name, as tests give them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from authsvc.common import arguments
from authsvc.domain.credential_requests import CredentialRequest, is_credential_name
from authsvc.domain.errors import AuthError, Reason
from authsvc.domain.resolution import AwsCredentials, BearerCredentials, Credentials, Principal

Issued = Credentials | AuthError | None
"""What a name gives: credentials, why they are not issued, or none."""

Named = Issued | Callable[[CredentialRequest], Issued]
"""What a name gives to each request, or a function of the request, such as one that gives another
token where the first is ``rejected``."""


def checked(named: Mapping[str, Named] | None) -> dict[str, Named]:
    """What a caller has by name.

    Raises:
        TypeError: they are no credentials by name.
        ValueError: a name is none.
    """
    if named is None:
        return {}
    arguments.mapping("named", named)
    for name, value in named.items():
        if not is_credential_name(arguments.instance_of("named", name, str)):
            raise ValueError("named: a name is 1 to 64 letters, digits, '.', '_' and '-'")
        is_issued = isinstance(value, AwsCredentials | BearerCredentials | AuthError)
        if callable(value):
            arguments.function(f"named[{name!r}]", value, ("wanted",))
        elif value is not None and not is_issued:
            raise TypeError(
                f"named[{name!r}] is Credentials, an AuthError, a function or None, not "
                f"{type(value).__name__}"
            )
    return dict(named)


def issued(named: Mapping[str, Named], principal: Principal, wanted: CredentialRequest) -> Issued:
    """What one name gives to a request, as authsvc would: buckets are the token's own."""
    if not set(wanted.buckets) <= set(principal.buckets):
        return AuthError(Reason.CREDENTIALS_REFUSED, "a bucket is not one of the token's")
    value = named.get(wanted.name)
    return value(wanted) if callable(value) else value

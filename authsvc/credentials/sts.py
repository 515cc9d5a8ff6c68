"""Credentials of AWS for a principal: a role of its own, confined to what its claims name.

The role is the configuration's choice. What of it remains is the claims': an inline session policy
(``policy``) goes with each call, so that nothing here can hand out a role as it stands.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from botocore.exceptions import BotoCoreError, ClientError
from botocore.parsers import ResponseParserError

from authsvc.credentials.attribution import session_name
from authsvc.credentials.aws import Sts
from authsvc.credentials.cache import CacheCounts, CredentialCache
from authsvc.credentials.policy import SessionPolicies, SessionPolicy
from authsvc.domain.errors import AuthError, Reason
from authsvc.domain.resolution import AwsCredentials, Credentials, Principal, Secret

if TYPE_CHECKING:
    from types_aiobotocore_sts.type_defs import CredentialsTypeDef

log = logging.getLogger(__name__)

CALL_SECONDS = 6.0
"""For a call with all its attempts."""

MIN_DURATION_SECONDS = 900
"""Shortest that STS issues for. A token that ends before is what ends its session policy."""

_TOO_LARGE = "PackedPolicyTooLarge"
_REFUSALS = frozenset({"AccessDenied", "MalformedPolicyDocument", "ValidationError", _TOO_LARGE})
"""What STS says of a request that will fare no better next time. All else is a matter of time, or
of who operates authsvc: throttling, an outage, its own expired keys."""


@dataclass(frozen=True, slots=True)
class RoleRule:
    """Whose a role is.

    Attributes:
        arn: the role's ARN.
        issuer: claim ``iss`` of who may have it.
        role: what has to be among its roles; empty where nothing has to.
        max_seconds: the longest session that the role allows.
    """

    arn: str
    issuer: str
    role: str = ""
    max_seconds: int = 3600

    @property
    def partition(self) -> str:
        """The part of AWS that the role is in, such as ``aws`` or ``aws-cn``."""
        return self.arn.split(":")[1]

    def matches(self, principal: Principal) -> bool:
        """Whether it is for this principal."""
        return self.issuer == principal.issuer and (not self.role or self.role in principal.roles)


class StsBroker:
    """A ``CredentialBroker``. Belongs to one event loop.

    Args:
        sts: who is asked.
        roles: who may have which role; the first that fits counts.
        region: region of the credentials.
        counts: where its cache counts what it does.
    """

    def __init__(
        self, sts: Sts, roles: Sequence[RoleRule], *, region: str, counts: CacheCounts | None = None
    ) -> None:
        self._sts = sts
        self._roles = tuple(roles)
        self._region = region
        self._policies = SessionPolicies()
        self._cache: CredentialCache[AwsCredentials] = CredentialCache(counts)

    async def issue(
        self, principal: Principal, *, token: Secret, resource: str, now: float
    ) -> Credentials | None:
        """See ``CredentialBroker.issue``.

        Returns:
            None where no role is for the principal, or its claims leave nothing to allow.

        Raises:
            AuthError: CREDENTIALS_REFUSED when the claims are too much for a session policy, or STS
                refuses; CREDENTIALS_UNAVAILABLE when it cannot be had; TOKEN_EXPIRED in the leeway
                after ``exp``, which AWS does not know.
        """
        role = next((role for role in self._roles if role.matches(principal)), None)
        if role is None:
            return None
        ends = math.floor(principal.expire_time)
        policy = self._policies.of(
            principal.buckets, principal.permissions, ends=ends, partition=role.partition
        )
        if policy is None:
            return None
        if ends <= now:
            raise AuthError(Reason.TOKEN_EXPIRED, "credentials end with the token")
        key = (principal.issuer, principal.subject, role.arn, policy.digest)
        assume = partial(self._assumed, principal, role, policy, ends - now)
        return await self._cache.get(key, assume, ends=ends, now=now)

    async def close(self) -> None:
        """End calls that are under way."""
        await self._cache.close()

    async def _assumed(
        self, principal: Principal, role: RoleRule, policy: SessionPolicy, remaining_seconds: float
    ) -> AwsCredentials:
        duration = min(max(math.ceil(remaining_seconds), MIN_DURATION_SECONDS), role.max_seconds)
        assume = partial(self._sts.assume, role.arn, principal, duration_seconds=duration)
        try:
            async with asyncio.timeout(CALL_SECONDS):
                issued = await _packed(assume, policy.forms)
            credentials = _read(issued, self._region)
        except ClientError as error:
            raise _error_of(error, role) from None
        except (BotoCoreError, ResponseParserError, OSError, KeyError, ValueError) as error:
            # By its type alone: the message may hold what was sent.
            detail = f"STS, for {role.arn}: {type(error).__name__}"
            raise AuthError(Reason.CREDENTIALS_UNAVAILABLE, detail) from None
        log.info("Assumed %s", role.arn, extra={"session": session_name(principal)})
        return credentials


async def _packed(
    assume: Callable[..., Awaitable[CredentialsTypeDef]], forms: Sequence[str]
) -> CredentialsTypeDef:
    """What is issued for the first form of the policy that is small enough once STS packs it."""
    *others, last = forms
    for form in others:
        try:
            return await assume(policy=form)
        except ClientError as error:
            if _code(error) != _TOO_LARGE:
                raise
    return await assume(policy=last)


def _read(issued: CredentialsTypeDef, region: str) -> AwsCredentials:
    secret, session_token = Secret(issued["SecretAccessKey"]), Secret(issued["SessionToken"])
    if not (issued["AccessKeyId"] and secret and session_token):
        raise ValueError("an answer without credentials")
    expire_time = issued["Expiration"].timestamp()
    return AwsCredentials(issued["AccessKeyId"], secret, session_token, region, expire_time)


def _error_of(error: ClientError, role: RoleRule) -> AuthError:
    code = _code(error)
    reason = Reason.CREDENTIALS_REFUSED if code in _REFUSALS else Reason.CREDENTIALS_UNAVAILABLE
    hint = ": fewer buckets or permissions in the token would do" if code == _TOO_LARGE else ""
    return AuthError(reason, f"STS, for {role.arn}: {code or 'an error without a code'}{hint}")


def _code(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))

"""AWS credentials of a principal: a role, restricted to the buckets and actions in its claims.

The configuration selects the role. Each call has an inline session policy (``policy``) that is made
of the claims, so that no principal gets all permissions of a role.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING

from botocore.exceptions import BotoCoreError, ClientError
from botocore.parsers import ResponseParserError

from authsvc.credentials.attribution import Claim, claim_tags, session_name, session_tags
from authsvc.credentials.aws import TABLE, Sts
from authsvc.credentials.cache import CacheCounts, CredentialCache
from authsvc.credentials.may_act import check_may_act
from authsvc.credentials.policy import BUCKETS_BY, FEWER, SessionGrant, buckets_of_call
from authsvc.domain.credential_requests import DEFAULT, CredentialRequest
from authsvc.domain.errors import AuthError, Reason
from authsvc.domain.resolution import AwsCredentials, Credentials, Principal, Secret
from authsvc.net.failures import explained, failure_of, setting_of

if TYPE_CHECKING:
    from types_aiobotocore_sts.type_defs import CredentialsTypeDef

log = logging.getLogger(__name__)

CALL_SECONDS = 6.0
"""For a call, its retries included."""

MIN_DURATION_SECONDS = 900
"""The shortest duration that STS accepts. The session policy ends with the token at the latest."""

_TOO_LARGE = "PackedPolicyTooLarge"
_REJECTIONS = frozenset({"AccessDenied", "MalformedPolicyDocument", "ValidationError", _TOO_LARGE})
"""Error codes of requests that would fail again. All other errors are temporary, or the operator of
authsvc has to mend them: throttling, an outage, its own expired keys."""

_SETTINGS = {
    "AccessDenied": f"{TABLE}.roles",
    "ValidationError": f"{TABLE}.roles",
    "InvalidClientTokenId": f"{TABLE}.access_key_id",
    "SignatureDoesNotMatch": f"{TABLE}.secret_access_key_file",
    "InvalidIdentityToken": f"{TABLE}.web_identity_token_file",
    "ExpiredToken": f"{TABLE}.session_token_file",
    "ExpiredTokenException": f"{TABLE}.web_identity_token_file",
    "RegionDisabledException": f"{TABLE}.region",
}
"""What error codes are about, of the configuration."""

_TOKEN_REJECTIONS = frozenset({"InvalidIdentityToken", "IDPRejectedClaim", "ExpiredTokenException"})
"""Error codes that reject the client's token (STS API reference, AssumeRoleWithWebIdentity). With
``IDPCommunicationError`` the token may be valid: AWS cannot reach its issuer."""

_SETTINGS_OF_CLIENT_TOKENS = _SETTINGS | dict.fromkeys(
    {*_TOKEN_REJECTIONS, "IDPCommunicationError"}, f"{TABLE}.use_client_token"
)


@dataclass(frozen=True, slots=True)
class RoleRule:
    """Which principals get a role.

    Attributes:
        arn: the role's ARN.
        issuer: claim ``iss`` of the principals.
        role: a role that they must have in claim ``roles``; empty for no such condition.
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
        """Whether this principal gets the role."""
        return self.issuer == principal.issuer and (not self.role or self.role in principal.roles)


@dataclass(frozen=True, slots=True)
class _Wanted:
    """A session that STS is asked for, except how long."""

    principal: Principal
    token: Secret
    role: RoleRule
    grant: SessionGrant
    tags: tuple[tuple[str, str], ...]


class StsBroker:
    """A ``CredentialBroker``. Belongs to one event loop.

    Args:
        sts: calls STS.
        roles: the rules; the first that matches a principal applies.
        region: the region of the credentials.
        counts: where its cache counts its events.
        claims: the claims that are tags of the sessions, by the tag's key.
        role_confines: whether the role confines sessions to buckets, by those tags. Otherwise the
            session policy does, by the token's buckets.
    """

    def __init__(
        self,
        sts: Sts,
        roles: Sequence[RoleRule],
        *,
        region: str,
        counts: CacheCounts | None = None,
        claims: Mapping[str, Claim] = MappingProxyType({}),
        role_confines: bool = False,
    ) -> None:
        self._sts = sts
        self._roles = tuple(roles)
        self._region = region
        self._claims = dict(claims)
        self._role_confines = role_confines
        self._cache: CredentialCache[AwsCredentials] = CredentialCache(counts)

    async def issue(
        self,
        principal: Principal,
        *,
        token: Secret,
        resource: str,
        now: float,
        wanted: CredentialRequest = DEFAULT,
    ) -> Credentials | None:
        """See ``CredentialBroker.issue``.

        Returns:
            None where no rule matches the principal, or its claims name nothing to allow.

        Raises:
            AuthError: CREDENTIALS_REFUSED when the claims do not fit in a session policy, one is
                missing for a tag, the call names buckets that are not the token's, claim
                ``may_act`` is in a token that would be sent, or STS rejects the call;
                CREDENTIALS_UNAVAILABLE when STS does not respond; TOKEN_EXPIRED in the
                leeway after ``exp``, which AWS has no notion of.
        """
        role = next((role for role in self._roles if role.matches(principal)), None)
        if role is None:
            return None
        ends = math.floor(principal.expire_time)
        grant = SessionGrant(
            self._buckets(principal, wanted), principal.permissions, ends, role.partition
        )
        if grant.is_empty:
            grant.log_left_out()
            return None
        if ends <= now:
            raise AuthError(Reason.TOKEN_EXPIRED, "credentials end with the token")
        tags = tuple(claim_tags(principal, self._claims))
        if self._sts.sends_client_token:
            # authsvc is no client of AWS, and AWS does not read the claim.
            check_may_act(principal, client_id="", setting=f"{TABLE}.use_client_token")
        owner = (principal.issuer, principal.subject)
        # The tags distinguish clients and actors of one subject: they share no session. A digest,
        # as 50 tags of 256 characters would take more memory than what is cached.
        parts = repr((role.arn, session_tags(principal), tags, self._sent(token)))
        identity = hashlib.sha256(parts.encode()).digest()
        assume = partial(self._assumed, _Wanted(principal, token, role, grant, tags), ends - now)
        return await self._cache.get(
            (*owner, identity, grant.digest()), assume, owner=owner, ends=ends, now=now
        )

    async def close(self) -> None:
        """Cancel the calls in flight."""
        await self._cache.close()

    def _sent(self, token: Secret) -> bytes:
        """What STS reads in the client's token, for the cache: two of one subject may differ in
        tags and source identity."""
        if not self._sts.sends_client_token:
            return b""
        return hashlib.sha256(token.reveal().encode()).digest()

    def _buckets(self, principal: Principal, wanted: CredentialRequest) -> tuple[str, ...] | None:
        """The buckets that a session policy names; None where the role alone confines the session.

        Raises:
            AuthError: CREDENTIALS_REFUSED where the call names others than the token's.
        """
        if wanted.buckets:
            return buckets_of_call(principal.buckets, wanted.buckets)
        return None if self._role_confines else principal.buckets

    async def _assumed(self, wanted: _Wanted, remaining_seconds: float) -> AwsCredentials:
        # Here, and not before the cache: what does not fit is then a cached failure, and made once.
        policy = wanted.grant.policy()
        wanted.grant.log_left_out()
        role = wanted.role
        duration = min(max(math.ceil(remaining_seconds), MIN_DURATION_SECONDS), role.max_seconds)
        assume = partial(
            self._sts.assume,
            role.arn,
            wanted.principal,
            token=wanted.token,
            duration_seconds=duration,
            claim_tags=wanted.tags,
        )
        try:
            async with asyncio.timeout(CALL_SECONDS):
                issued = await _packed(assume, policy.forms)
            credentials = _read(issued, self._region)
        except ClientError as error:
            raise self._error_of(error, role) from None
        except (BotoCoreError, ResponseParserError, OSError, KeyError, ValueError) as error:
            # Not its message, which may quote the request.
            detail = f"STS, for {role.arn}: {explained(error)}"
            setting = setting_of(failure_of(error))
            raise AuthError(
                Reason.CREDENTIALS_UNAVAILABLE,
                detail,
                setting=f"{TABLE}.{setting}" if setting else "",
            ) from None
        log.info("Assumed %s", role.arn, extra={"session": session_name(wanted.principal)})
        return credentials

    def _error_of(self, error: ClientError, role: RoleRule) -> AuthError:
        code = _code(error)
        rejections, settings = _REJECTIONS, _SETTINGS
        if self._sts.sends_client_token:
            rejections, settings = _REJECTIONS | _TOKEN_REJECTIONS, _SETTINGS_OF_CLIENT_TOKENS
        reason = (
            Reason.CREDENTIALS_REFUSED if code in rejections else Reason.CREDENTIALS_UNAVAILABLE
        )
        hint, setting = _remedy(error) if code == _TOO_LARGE else ("", settings.get(code, ""))
        return AuthError(
            reason,
            f"STS, for {role.arn}: {code or 'an error without a code'}{hint}",
            setting=setting,
        )


async def _packed(
    assume: Callable[..., Awaitable[CredentialsTypeDef]], forms: Sequence[str]
) -> CredentialsTypeDef:
    """The result of the first form of the policy that is small enough after STS has packed it."""
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
        raise ValueError("the response has no credentials")
    expire_time = issued["Expiration"].timestamp()
    return AwsCredentials(issued["AccessKeyId"], secret, session_token, region, expire_time)


def _remedy(error: ClientError) -> tuple[str, str]:
    """What makes the request smaller, and the setting that does. Tags and policy have one limit,
    and STS says which is above it; tags may also come from the session or the web identity that
    assumes the role."""
    message = str(error.response.get("Error", {}).get("Message", ""))
    if "session tags" in message.lower():
        setting = f"{TABLE}.session_tags"
        return (
            f": the session tags take too much: set {setting} to false, name fewer claim_tags, or "
            "pass on fewer tags from authsvc's own session or in the token"
        ), setting
    return f": {FEWER}", BUCKETS_BY


def _code(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))

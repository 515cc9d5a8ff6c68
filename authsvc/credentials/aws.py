"""STS, and the identity that authsvc itself has there.

The configuration determines the identity. The environment, profiles and the machine's role are used
only where it says so (``Ambient``).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import botocore
from aiobotocore.config import AioConfig
from aiobotocore.credentials import AioCredentialResolver, AioCredentials
from aiobotocore.session import AioSession
from botocore.credentials import CredentialProvider, ReadOnlyCredentials
from botocore.exceptions import BotoCoreError

from authsvc.common.aws_isolation import connection_options, isolated_session
from authsvc.credentials.attribution import session_name, session_tags
from authsvc.credentials.secrets import read_held_secret, read_secret
from authsvc.domain.errors import AuthError, Reason
from authsvc.domain.resolution import Principal, Secret
from authsvc.net.proxies import Proxy
from authsvc.net.trust import Trust

if TYPE_CHECKING:
    from types_aiobotocore_sts import STSClient
    from types_aiobotocore_sts.type_defs import CredentialsTypeDef

TABLE = "credentials.sts"
"""The table of the configuration that its settings are in."""

CONNECT_TIMEOUT_SECONDS = 2.0
READ_TIMEOUT_SECONDS = 4.0


@dataclass(frozen=True, slots=True)
class KeyFiles:
    """An access key whose secrets are in files, read for each call, so that they can be rotated.

    Attributes:
        access_key_id: its id.
        secret_access_key: the file with its secret.
        session_token: the file with its session token; None for a long-term key.
    """

    access_key_id: str
    secret_access_key: Path
    session_token: Path | None = None


@dataclass(frozen=True, slots=True)
class WebIdentity:
    """A workload's own token, such as one that Kubernetes projects into a pod, read for each call.

    Attributes:
        token: the file with the token.
    """

    token: Path


class Ambient:
    """The credentials of the machine: of its environment, its profile, or its instance's role."""


class ClientToken:
    """None of authsvc's: each call has the token of the request that it is made for."""


Identity = KeyFiles | WebIdentity | Ambient | ClientToken

MAX_WEB_IDENTITY_LENGTH = 20_000
"""Longest token that STS accepts, in characters (STS API reference, AssumeRoleWithWebIdentity)."""


class Sts:
    """Calls STS.

    Args:
        client: see ``sts_client``.
        identity: the identity of that client.
        tags: whether sessions have the tags of ``session_tags``, for which the role has to allow
            ``sts:TagSession``.
        source_identity: whether they have one, for which it has to allow ``sts:SetSourceIdentity``.
    """

    def __init__(
        self,
        client: STSClient,
        identity: Identity,
        *,
        tags: bool = True,
        source_identity: bool = True,
    ) -> None:
        self._client = client
        self._identity = identity
        self._tags = tags
        self._source_identity = source_identity

    @property
    def sends_client_token(self) -> bool:
        """Whether the tokens of requests are sent to STS."""
        return isinstance(self._identity, ClientToken)

    async def assume(
        self,
        role_arn: str,
        principal: Principal,
        *,
        token: Secret,
        policy: str,
        duration_seconds: int,
        claim_tags: Sequence[tuple[str, str]] = (),
    ) -> CredentialsTypeDef:
        """Credentials of a role, confined by a session policy.

        With a web identity, no tags and no source identity are sent: STS takes them from its token.

        Args:
            role_arn: the role.
            principal: whose session it is.
            token: of the request. It is sent only if ``sends_client_token``.
            policy: the session policy.
            duration_seconds: how long the session lasts.
            claim_tags: tags of the session beside ``session_tags``.

        Raises:
            AuthError: CREDENTIALS_UNAVAILABLE when authsvc's own secret cannot be read;
                CREDENTIALS_REFUSED when STS takes no such token as the client's.
            ClientError: STS rejects the call.
            BotoCoreError, ResponseParserError: there is no valid response.
            KeyError: the response has no credentials.
        """
        name = session_name(principal)
        request: dict[str, Any] = {
            "RoleArn": role_arn,
            "RoleSessionName": name,
            "Policy": policy,
            "DurationSeconds": duration_seconds,
        }
        if isinstance(self._identity, WebIdentity | ClientToken):
            request["WebIdentityToken"] = _web_identity(self._identity, token).reveal()
            by_token = await self._client.assume_role_with_web_identity(**request)
            return by_token["Credentials"]
        tags = [*(session_tags(principal) if self._tags else ()), *claim_tags]
        if tags:
            request["Tags"] = [{"Key": key, "Value": value} for key, value in tags]
        if self._source_identity:
            request["SourceIdentity"] = name
        return (await self._client.assume_role(**request))["Credentials"]


def _web_identity(identity: WebIdentity | ClientToken, token: Secret) -> Secret:
    """authsvc's own token; the client's only where the configuration says so.

    Raises:
        AuthError: as of ``Sts.assume``.
    """
    if isinstance(identity, WebIdentity):
        return read_held_secret(identity.token, f"{TABLE}.web_identity_token_file")
    text = token.reveal()
    if text.count(".") != 2 or len(text) > MAX_WEB_IDENTITY_LENGTH:
        raise AuthError(
            Reason.CREDENTIALS_REFUSED,
            f"STS takes signed JWTs of at most {MAX_WEB_IDENTITY_LENGTH:,} characters, and the "
            "client's token is none",
            setting=f"{TABLE}.use_client_token",
        )
    return token


@asynccontextmanager
async def sts_client(
    identity: Identity,
    *,
    region: str,
    endpoint_url: str | None = None,
    trust: Trust | None = None,
    proxy: Proxy | None = None,
) -> AsyncIterator[STSClient]:
    """A client of STS that signs as ``identity``; with a web identity it does not sign.

    Args:
        identity: authsvc's identity.
        region: the region whose endpoint is used.
        endpoint_url: another endpoint.
        trust: the certificate authorities; None for the system's.
        proxy: what calls go through; None for direct ones.

    Raises:
        AuthError: CREDENTIALS_UNAVAILABLE when the machine is to offer credentials and does not.
    """
    is_unsigned = isinstance(identity, WebIdentity | ClientToken)
    session = AioSession() if isinstance(identity, Ambient) else isolated_session()
    if isinstance(identity, Ambient):
        await _check_ambient(session)
    if isinstance(identity, KeyFiles):
        session.register_component(
            "credential_provider", AioCredentialResolver([_Provider(identity)])
        )
    config = AioConfig(
        connect_timeout=CONNECT_TIMEOUT_SECONDS,
        read_timeout=READ_TIMEOUT_SECONDS,
        retries={"mode": "standard", "total_max_attempts": 2},
        signature_version=botocore.UNSIGNED if is_unsigned else None,
        **connection_options(trust, proxy),
    )
    async with session.create_client(
        "sts", region_name=region, endpoint_url=endpoint_url, verify=True, config=config
    ) as client:
        yield client


async def _check_ambient(session: AioSession) -> None:
    try:
        found = await session.get_credentials()
    except BotoCoreError as error:
        detail = f"this machine's credentials of AWS cannot be loaded: {type(error).__name__}"
        raise AuthError(Reason.CREDENTIALS_UNAVAILABLE, detail) from None
    if found is None:
        raise AuthError(Reason.CREDENTIALS_UNAVAILABLE, "this machine has no credentials of AWS")


class _Provider(CredentialProvider):
    """The only source of keys of a session."""

    METHOD = CANONICAL_NAME = "authsvc"

    def __init__(self, files: KeyFiles) -> None:
        super().__init__()
        self._files = files

    async def load(self) -> AioCredentials:
        return _KeysFromFiles(self._files)


class _KeysFromFiles(AioCredentials):
    """Keys that are read from their files whenever a call is signed, and not kept."""

    def __init__(self, files: KeyFiles) -> None:
        super().__init__(files.access_key_id, "", method="authsvc")
        self._files = files

    # The parent of the asynchronous parent is not; aiobotocore awaits this.
    async def get_frozen_credentials(self) -> ReadOnlyCredentials:  # type: ignore[override]
        files, token = self._files, None
        if files.session_token is not None:
            token = read_secret(files.session_token, f"{TABLE}.session_token_file").reveal()
        secret = read_secret(files.secret_access_key, f"{TABLE}.secret_access_key_file")
        return ReadOnlyCredentials(files.access_key_id, secret.reveal(), token)

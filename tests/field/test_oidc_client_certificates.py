"""Client certificates (RFC 8705) at a certified provider, which judges them itself."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from authsvc.domain.errors import AuthError
from authsvc.domain.tokens import BearerToken
from authsvc.net.certificates import make_authority
from authsvc.server.config import IntrospectionSettings
from authsvc.server.issuers import introspection_of
from tests.support.https import PrivateAuthority
from tests.support.oidc_provider import (
    AUTHSVC_CERTIFICATES,
    DAEMON,
    TLS_METHODS,
    OidcProvider,
    serving_oidc_provider,
)
from tests.support.tokens import OTHER_RESOURCE

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> PrivateAuthority:
    return PrivateAuthority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def provider(authority: PrivateAuthority) -> Iterator[OidcProvider]:
    with serving_oidc_provider(server=authority.signed()) as running:
        yield running


def table(
    folder: Path, provider: OidcProvider, authority: PrivateAuthority, method: str
) -> IntrospectionSettings:
    """Settings of introspection at the provider's address for certificates."""
    own = AUTHSVC_CERTIFICATES[method]
    (folder / "client.pem").write_bytes(own.key_pem() + own.certificate_pem())
    values: dict[str, Any] = {
        "issuer": provider.issuer,
        "endpoint": f"{provider.tls_url}/token/introspection",
        "ca_file": authority.file(),
        "client_id": method,
        "auth_method": method,
        "client_certificate_file": folder / "client.pem",
        "client_certificate_key_file": folder / "client.pem",
        "claims": {"subject": "/client_id"},
    }
    return IntrospectionSettings.model_validate(values)


@pytest.mark.parametrize("method", TLS_METHODS)
async def test_a_certificate_authenticates_authsvc(
    tmp_path: Path, provider: OidcProvider, authority: PrivateAuthority, method: str
) -> None:
    grant = await provider.client_credentials(resource=OTHER_RESOURCE)
    settings = table(tmp_path, provider, authority, method)
    verifier = introspection_of(settings, max_token_bytes=8_192)
    token = BearerToken(grant.access)
    found = await verifier.verify(token, resource=OTHER_RESOURCE, now=time.time())
    assert found.principal.client_id == DAEMON


@pytest.mark.parametrize("method", TLS_METHODS)
async def test_another_certificate_is_rejected(
    tmp_path: Path, provider: OidcProvider, authority: PrivateAuthority, method: str
) -> None:
    grant = await provider.client_credentials(resource=OTHER_RESOURCE)
    settings = table(tmp_path, provider, authority, method)
    stranger = make_authority("authsvc", days=1)
    (tmp_path / "client.pem").write_bytes(stranger.key_pem() + stranger.certificate_pem())
    verifier = introspection_of(settings, max_token_bytes=8_192)
    with pytest.raises(AuthError, match=r"401 \(invalid_client\)") as caught:
        await verifier.verify(BearerToken(grant.access), resource=OTHER_RESOURCE, now=time.time())
    assert "introspection.client_certificate_file" in caught.value.detail

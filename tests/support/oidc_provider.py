"""A certified identity provider, npm ``oidc-provider``, and the clients that get its tokens."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from secrets import token_urlsafe
from typing import Any

import httpx2
import jwt
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from jwt.algorithms import ECAlgorithm

from authsvc.net.certificates import SignedCertificate, issue, make_authority
from tests.support.bounds import TIMEOUT_SECONDS
from tests.support.node import installed, spawn_node
from tests.support.tokens import OTHER_RESOURCE, RESOURCE

SCOPE = "openid offline_access buckets.read"
"""What clients of a user ask for: an ID token, a refresh token, and one scope of the resource."""

APP, DEVICE, DAEMON = "app", "device", "daemon"
"""Clients: of a user with a browser, of a user with a device, and without a user."""

WITH_SID, WITHOUT_SID, BY_SUBJECT = "with-sid", "without-sid", "by-subject"
"""Clients to which sign-outs are reported, with the session that ended: its access tokens name it,
or do not; and with the user alone."""

AUTHSVC_METHODS = ("client_secret_basic", "client_secret_post", "private_key_jwt")
"""How authsvc authenticates. For each there is a client of that name."""

TLS_METHODS = ("tls_client_auth", "self_signed_tls_client_auth")
"""How authsvc authenticates at the address that speaks TLS. For each there is a client of that
name."""

AUTHSVC_AUTHORITY = make_authority("authsvc's", days=1)
AUTHSVC_CERTIFICATES = {
    "tls_client_auth": issue(
        AUTHSVC_AUTHORITY, "authsvc", [x509.DNSName("authsvc.example")], days=1, client=True
    ),
    "self_signed_tls_client_auth": make_authority("self", days=1),
}
"""authsvc's certificates, by method."""

TOKEN_EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
JWT_BEARER = "urn:ietf:params:oauth:grant-type:jwt-bearer"
"""Grants of authsvc's clients."""

_CALLBACK = "http://127.0.0.1/callback"
_DEVICE_CODE = "urn:ietf:params:oauth:grant-type:device_code"
_AUTHSVC_KEY = generate_private_key(SECP256R1())
AUTHSVC_KEY_PEM = _AUTHSVC_KEY.private_bytes(
    Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
).decode()
"""authsvc's key for private_key_jwt."""


@dataclass(frozen=True)
class Grant:
    """A token response (RFC 6749 section 5.1).

    Attributes:
        client: the client that it was for.
        access: the access token.
        refresh: the refresh token; empty for none.
        identity: the ID token; empty for none.
    """

    client: str
    access: str
    refresh: str = ""
    identity: str = ""


@dataclass(frozen=True)
class OidcProvider:
    """A running provider. Its tokens for ``RESOURCE`` are JWTs, those for ``OTHER_RESOURCE`` are
    opaque.

    Attributes:
        issuer: claim ``iss`` of its tokens, and its address.
        secret: the secret of each client that has one.
        tls_url: its other address, where clients may present a certificate; empty for none.
    """

    issuer: str
    secret: str
    tls_url: str = ""

    async def publish(self, *keys: tuple[str, str]) -> None:
        """Publish these signing keys alone from now on, each a kid and its algorithm. The first
        one signs."""
        listed = [{"kid": kid, "alg": algorithm} for kid, algorithm in keys]
        async with _http() as http:
            (await http.post(f"{self.issuer}/signing-keys", json=listed)).raise_for_status()

    async def log_in(
        self, subject: str = "ada", *, role: str = "reader", resource: str = RESOURCE
    ) -> Grant:
        """The authorization code flow with PKCE (RFC 7636); for no resource if it is empty."""
        verifier = token_urlsafe(32)
        answer = await self._authorize(subject, role, resource, verifier)
        return await self._token(
            APP,
            grant_type="authorization_code",
            code=answer["code"],
            redirect_uri=_CALLBACK,
            code_verifier=verifier,
            **_indicator(resource),
        )

    async def signed_authorization(self) -> str:
        """An authorization response as a JWT (JARM), whose audience is the client."""
        answer = await self._authorize("ada", "reader", RESOURCE, token_urlsafe(32), mode="jwt")
        return answer["response"]

    async def signed_userinfo(self) -> str:
        """The claims of a user as a JWT (OpenID Connect Core section 5.3.2), whose audience is the
        client."""
        grant = await self.log_in(resource="")
        headers = {"Authorization": f"Bearer {grant.access}"}
        async with _http() as http:
            answer = await http.get(f"{self.issuer}/me", headers=headers)
        assert answer.headers["content-type"].startswith("application/jwt"), answer.text
        return answer.text

    async def refresh(self, grant: Grant, *, resource: str = RESOURCE) -> Grant:
        """The refresh token grant (RFC 6749 section 6)."""
        form = {"grant_type": "refresh_token", "refresh_token": grant.refresh}
        return await self._token(grant.client, **form, resource=resource)

    async def client_credentials(self, *, resource: str = RESOURCE, bound: bool = False) -> Grant:
        """The client credentials grant (RFC 6749 section 4.4).

        Args:
            bound: whether the token is bound to a key of the client (DPoP, RFC 9449).
        """
        form = {"grant_type": "client_credentials", "scope": "buckets.read", "resource": resource}
        headers = {"DPoP": _proof(f"{self.issuer}/token")} if bound else {}
        return await self._token(DAEMON, headers, **form)

    async def device(
        self, subject: str = "ada", *, role: str = "reader", resource: str = RESOURCE
    ) -> Grant:
        """The device authorization grant (RFC 8628)."""
        form = {"client_id": DEVICE, "scope": SCOPE, "prompt": "consent", "resource": resource}
        async with _http() as http:
            answer = await http.post(f"{self.issuer}/device/auth", data=form)
        device = answer.raise_for_status().json()
        async with _http() as browser:
            page = await browser.get(device["verification_uri"])
            for _ in ("enter the code", "confirm it"):
                fields = {"user_code": device["user_code"], **_hidden_fields(page.text)}
                page = await browser.post(
                    device["verification_uri"], data=fields, follow_redirects=True
                )
            login = {"subject": subject, "role": role}
            done = await browser.post(page.url, data=login, follow_redirects=True)
            assert "successful" in done.text, done.text
        code = device["device_code"]
        return await self._token(
            DEVICE, grant_type=_DEVICE_CODE, device_code=code, resource=resource
        )

    async def revoke(self, token: str, client: str) -> None:
        """Revoke a token (RFC 7009) as the client that has it."""
        await self._post("/token/revocation", client, {"token": token})

    @asynccontextmanager
    async def browser(self) -> AsyncIterator[Browser]:
        """A browser, which has one session of the provider's once somebody has logged in."""
        async with _http() as http:
            yield Browser(self, http)

    async def _authorize(
        self, subject: str, role: str, resource: str, verifier: str, mode: str = "query"
    ) -> httpx2.QueryParams:
        """An authorization response (RFC 6749 section 4.1.2)."""
        query = _authorization(APP, verifier, SCOPE, resource, mode)
        async with _http() as browser:
            return await _allowed(browser, self.issuer, query, subject, role)

    async def _token(self, client: str, headers: Mapping[str, str] = {}, /, **form: str) -> Grant:
        answer = (await self._post("/token", client, form, headers)).json()
        assert answer["token_type"] == ("DPoP" if headers else "Bearer")
        return Grant(
            client,
            answer["access_token"],
            answer.get("refresh_token", ""),
            answer.get("id_token", ""),
        )

    async def _post(
        self,
        path: str,
        client: str,
        form: Mapping[str, str],
        headers: Mapping[str, str] = {},
    ) -> httpx2.Response:
        how: dict[str, Any] = {"data": {**form, "client_id": client}}
        if client == DAEMON:
            how = {"data": form, "auth": (client, self.secret)}
        async with _http() as http:
            sent = await http.post(self.issuer + path, headers=headers, **how)
        assert sent.status_code == 200, sent.text
        return sent


@dataclass(frozen=True)
class Browser:
    """A browser of a user.

    Attributes:
        provider: where they log in.
        http: has its cookies.
    """

    provider: OidcProvider
    http: httpx2.AsyncClient

    async def log_in(
        self, client: str, subject: str, *, resource: str, scope: str = "openid buckets.read"
    ) -> Grant:
        """The authorization code flow with PKCE (RFC 7636), for one of the clients to which
        sign-outs are reported."""
        verifier = token_urlsafe(32)
        query = _authorization(client, verifier, scope, resource)
        answer = await _allowed(self.http, self.provider.issuer, query, subject, "reader")
        return await self.provider._token(
            client,
            grant_type="authorization_code",
            code=answer["code"],
            redirect_uri=_CALLBACK,
            code_verifier=verifier,
            resource=resource,
        )

    async def sign_out(self) -> None:
        """Sign out at the provider (OpenID Connect RP-Initiated Logout 1.0), which answers once it
        has reported it."""
        page = await self.http.get(f"{self.provider.issuer}/session/end")
        form = {**_hidden_fields(page.text), "logout": "yes"}
        done = await self.http.post(f"{self.provider.issuer}/session/end/confirm", data=form)
        assert done.status_code == 303, done.text


@contextmanager
def serving_oidc_provider(
    resources: Mapping[str, str] = {RESOURCE: "jwt", OTHER_RESOURCE: "opaque"},
    *,
    logout_url: str = "",
    trusted: Sequence[str] = (),
    server: SignedCertificate | None = None,
) -> Iterator[OidcProvider]:
    """Run it beside the test. Skips where it is not installed.

    Args:
        resources: the format of their access tokens.
        logout_url: where sign-outs are reported; empty for nowhere.
        trusted: other issuers, whose identity assertions it accepts.
        server: its certificate at the address that speaks TLS; None for no such address.
    """
    installed("oidc-provider")
    secret = token_urlsafe(32)
    options = {
        "resources": resources,
        "clients": [*_clients(secret), *(_signed_out(logout_url) if logout_url else ())],
        "sidClients": [WITH_SID],
        "trusted": trusted,
    }
    if server is not None:
        options["tls"] = {
            "key": server.key_pem().decode(),
            "cert": server.certificate_pem().decode(),
            "ca": AUTHSVC_AUTHORITY.certificate_pem().decode(),
        }
    with spawn_node("authorization_server.mjs", json.dumps(options)) as process:
        found = process.wait_for("listening on", TIMEOUT_SECONDS)
        tls_url = f"https://localhost:{found['tlsPort']}" if server is not None else ""
        yield OidcProvider(str(found["address"]), secret, tls_url)


def _clients(secret: str) -> Iterator[dict[str, Any]]:
    browser = ["authorization_code", "refresh_token"]
    yield _client(APP, "none", browser, redirect_uris=[_CALLBACK], response_types=["code"])
    yield _client(DEVICE, "none", [_DEVICE_CODE, "refresh_token"])
    yield _client(DAEMON, "client_secret_basic", ["client_credentials"], client_secret=secret)
    for method in AUTHSVC_METHODS[:2]:
        yield _client(method, method, [TOKEN_EXCHANGE, JWT_BEARER], client_secret=secret)
    jwk = ECAlgorithm.to_jwk(_AUTHSVC_KEY.public_key(), as_dict=True)
    method = AUTHSVC_METHODS[2]
    yield _client(method, method, [TOKEN_EXCHANGE, JWT_BEARER], jwks={"keys": [jwk]})
    yield _client(
        TLS_METHODS[0],
        TLS_METHODS[0],
        [TOKEN_EXCHANGE, JWT_BEARER],
        tls_client_auth_san_dns="authsvc.example",
    )
    own = AUTHSVC_CERTIFICATES[TLS_METHODS[1]]
    jwk = ECAlgorithm.to_jwk(own.key.public_key(), as_dict=True)
    jwk["x5c"] = [base64.b64encode(own.certificate.public_bytes(Encoding.DER)).decode()]
    yield _client(
        TLS_METHODS[1], TLS_METHODS[1], [TOKEN_EXCHANGE, JWT_BEARER], jwks={"keys": [jwk]}
    )


def _signed_out(logout_url: str) -> Iterator[dict[str, Any]]:
    """The clients to which sign-outs are reported."""
    for name in (WITH_SID, WITHOUT_SID, BY_SUBJECT):
        yield _client(
            name,
            "none",
            ["authorization_code", "refresh_token"],
            redirect_uris=[_CALLBACK],
            response_types=["code"],
            backchannel_logout_uri=logout_url,
            backchannel_logout_session_required=name != BY_SUBJECT,
        )


def _authorization(
    client: str, verifier: str, scope: str, resource: str, mode: str = "query"
) -> dict[str, str]:
    """An authorization request (RFC 6749 section 4.1.1)."""
    return {
        "client_id": client,
        "response_type": "code",
        "response_mode": mode,
        "redirect_uri": _CALLBACK,
        "scope": scope,
        "prompt": "consent",
        "code_challenge": _base64url(hashlib.sha256(verifier.encode()).digest()),
        "code_challenge_method": "S256",
        **_indicator(resource),
    }


async def _allowed(
    browser: httpx2.AsyncClient, issuer: str, query: Mapping[str, str], subject: str, role: str
) -> httpx2.QueryParams:
    """The authorization response, once the user has logged in and allowed what is requested."""
    page = await browser.get(f"{issuer}/auth", params=query, follow_redirects=True)
    answer = await browser.post(page.url, data={"subject": subject, "role": role})
    while not (location := answer.headers["location"]).startswith(_CALLBACK):
        answer = await browser.get(location)
    return httpx2.URL(location).params


def _client(name: str, method: str, grants: Sequence[str], **more: object) -> dict[str, Any]:
    return {
        "client_id": name,
        "token_endpoint_auth_method": method,
        "grant_types": grants,
        "redirect_uris": [],
        "response_types": [],
        **more,
    }


def _http() -> httpx2.AsyncClient:
    return httpx2.AsyncClient(timeout=TIMEOUT_SECONDS)


def _indicator(resource: str) -> dict[str, str]:
    return {"resource": resource} if resource else {}


def _hidden_fields(page: str) -> dict[str, str]:
    return dict(re.findall(r'type="hidden" name="([^"]+)" value="([^"]*)"', page))


def _proof(url: str) -> str:
    """A DPoP proof for a POST (RFC 9449 section 4.2), by a new key."""
    key = generate_private_key(SECP256R1())
    jwk = ECAlgorithm.to_jwk(key.public_key(), as_dict=True)
    payload = {"htm": "POST", "htu": url, "iat": int(time.time()), "jti": token_urlsafe(16)}
    return jwt.encode(payload, key, "ES256", {"typ": "dpop+jwt", "jwk": jwk})


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()

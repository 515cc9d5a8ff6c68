"""Identity providers as docs/providers.md shows them: their tokens, and a local server of each.

It answers for the provider's host name. authsvc reaches it by ``ca_file`` and ``proxy``, which are
all that is added to the page's configuration.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import jwt
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from jwt.algorithms import RSAAlgorithm

from authsvc.common.settings import load
from authsvc.domain.errors import AuthError, Reason
from authsvc.domain.resolution import Principal
from authsvc.server.config import Settings
from tests.support.bounds import TIMEOUT_SECONDS
from tests.support.https import PrivateAuthority, TlsSite, serving_https, tunnelling
from tests.support.providers_page import ALL, BASE, PARTS, Section
from tests.support.service import Service

RESOURCE = "https://mcp.example.com/mcp"

ENTRA = "https://login.microsoftonline.com/{}/v2.0"
"""Its issuers, by tenant."""

ENCRYPTS = "RSA-OAEP"
"""Algorithm of Keycloak's second key."""

LIGHTWEIGHT = ("aud", "sub", "realm_access", "resource_access", "preferred_username")
"""Claims that Keycloak leaves out of lightweight tokens."""


@dataclass(frozen=True)
class Sent:
    """What a client sends, and what stands behind it.

    Attributes:
        header: of the token.
        claims: of the token, or what introspection answers.
        key: whose key signs it.
        opaque: the token itself, where it is no JWT that the page shows.
    """

    header: Mapping[str, Any]
    claims: Mapping[str, Any]
    key: str = "provider"
    opaque: str = ""

    def having(self, **claims: object) -> Sent:
        """With other claims; None leaves one out."""
        changed = {**self.claims, **claims}
        return replace(self, claims={name: it for name, it in changed.items() if it is not None})

    def without(self, *names: str) -> Sent:
        """Without these claims."""
        return self.having(**dict.fromkeys(names))

    def headed(self, **header: object) -> Sent:
        """With other members of the header."""
        return replace(self, header={**self.header, **header})

    def at(self, now: float) -> Sent:
        """Issued at ``now``, for as long as before."""
        moved = now - self.claims.get("iat", self.claims.get("exp", now) - 600)
        times = {name: self.claims[name] + moved for name in _TIMES if name in self.claims}
        return self.having(**times)

    @property
    def text(self) -> str:
        """The token."""
        return self.opaque or _signed(self.header, self.claims, private_key(self.key))


_TIMES = ("iat", "nbf", "exp", "auth_time")


@cache
def private_key(name: str) -> RSAPrivateKey:
    """A key of this run, by its owner."""
    return generate_private_key(65537, 2048)


def _signed(header: Mapping[str, Any], claims: Mapping[str, Any], key: RSAPrivateKey) -> str:
    """A token with exactly this header."""
    given = {"typ": None, **header}
    return jwt.encode(dict(claims), key, given["alg"], given)


def token_of(it: Section) -> Sent:
    """The token that the page shows; where it shows introspection, one that says less."""
    if len(it.documents) == 2:
        return Sent(*it.documents)
    lightweight = token_of(ALL["Keycloak"]).without(*LIGHTWEIGHT).text
    text = lightweight if it.title == "Lightweight access tokens" else "0A1B2C3D4E5F"
    return Sent({}, it.documents[0], opaque=text)


@dataclass
class Local:
    """A provider that is served here, and the configuration that leads to it.

    Attributes:
        config: the page's lines, and those that lead here.
        site: the server that stands for all of its hosts.
    """

    config: Path
    site: TlsSite

    @property
    def settings(self) -> Settings:
        """The configuration, loaded."""
        return load(Settings, self.config)

    def answers(self, sent: Sent) -> None:
        """What introspection answers from now on."""
        endpoint = self.settings.introspection
        if endpoint is not None:
            path = urlsplit(endpoint.endpoint).path
            self.site.answers[path] = json.dumps(sent.claims).encode()


def _hosts_of(toml: str) -> set[str]:
    urls = re.findall(r'^(?:issuer|endpoint) = "(https://[^"]+)"', toml, re.MULTILINE)
    return {urlsplit(url).netloc for url in urls}


def _led_here(toml: str, folder: Path, *, ca: Path, proxy: str) -> str:
    """The page's configuration, unchanged but for files, sockets, ``ca_file`` and ``proxy``."""
    (folder / "idp").write_text("the client's secret")
    text = f"drain_seconds = 0\n{BASE}\n{toml}"
    for written, here in {
        "127.0.0.1:50051": f"unix:{folder}/s",
        "/var/lib/authsvc/authsvc.db": str(folder / "authsvc.db"),
        "/run/secrets/idp": str(folder / "idp"),
    }.items():
        text = text.replace(f'"{written}"', f'"{here}"')
    added = f'ca_file = "{ca}"\nproxy = "{proxy}"'
    return re.sub(
        r"^(\[\[issuers\]\]|\[introspection\]).*$", rf"\1\n{added}", text, flags=re.MULTILINE
    )


def _publish(site: TlsSite, settings: Settings, kid: str) -> None:
    """Metadata where OpenID Connect has it, and the provider's key."""
    for table in settings.issuers:
        url = urlsplit(table.issuer)
        metadata = {"issuer": table.issuer, "jwks_uri": f"https://{url.netloc}/keys"}
        place = f"{url.path.rstrip('/')}/.well-known/openid-configuration"
        site.answers[place] = json.dumps(metadata).encode()
    site.answers["/keys"] = json.dumps({"keys": _keys(kid, settings.model_dump_json())}).encode()


def _keys(kid: str, settings: str) -> list[dict[str, Any]]:
    """The provider's JWK Set, with what is particular in those of Entra and Keycloak."""
    public = RSAAlgorithm.to_jwk(private_key("provider").public_key(), as_dict=True)
    keys = [{**public, "kid": kid, "use": "sig"}]
    if "login.microsoftonline.com" in settings:
        keys[0]["issuer"] = ENTRA.format("{tenantid}")
    if "/realms/" in settings:
        # It encrypts with the second.
        keys = [{**keys[0], "alg": "RS256"}, {**public, "kid": "e", "use": "enc", "alg": ENCRYPTS}]
    return keys


@asynccontextmanager
async def serving_provider(folder: Path, toml: str, *, kid: str) -> AsyncIterator[Local]:
    """Serve the provider that a configuration of the page names, with one key."""
    authority = PrivateAuthority(folder)
    async with AsyncExitStack() as running:
        hosts = _hosts_of(toml)
        site = await running.enter_async_context(serving_https(authority.server(*hosts)))
        proxy = await running.enter_async_context(tunnelling())
        proxy.hosts.update(dict.fromkeys(hosts, f"127.0.0.1:{site.port}"))
        config = folder / "authsvc.toml"
        config.write_text(_led_here(toml, folder, ca=authority.file(), proxy=proxy.url))
        local = Local(config, site)
        _publish(site, local.settings, kid)
        yield local


async def resolved(service: Service, token: str) -> Principal | Reason:
    """The principal of a token, by RPC; or why there is none."""
    async with asyncio.timeout(TIMEOUT_SECONDS):
        try:
            resolution = await service.client.resolve("", token, resource=RESOURCE)
        except AuthError as error:
            return error.reason
    assert resolution.principal is not None
    return resolution.principal


def described(principal: Principal) -> dict[str, object]:
    """A principal, by part, as ``Section.principal`` has it."""
    return {part: getattr(principal, part) for part in PARTS}

"""Profiles of token exchange against small servers that answer in the shape of each provider's
documents.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest

from authsvc.credentials import CredentialBroker
from authsvc.domain.errors import AuthError
from authsvc.domain.resolution import BearerCredentials, Principal, Secret
from authsvc.server.brokers import open_broker
from authsvc.server.config import Settings
from tests.support.bounds import TIMEOUT_SECONDS
from tests.support.clock import START
from tests.support.http import Answer, Site, serving_http
from tests.support.service import settings_for
from tests.support.tokens import ISSUER, RESOURCE, IdentityProvider

TOKEN = Secret("the.clients.token")
SECRET, API_SECRET = "hush: a secret/with+signs", "hush-the-apis-secret"
ACTOR_TOKEN, ASSERTION = "authsvcs.own.token", "an.identity.assertion"
API_TOKEN = "the-apis-token"

ALICE = Principal(
    ISSUER, "alice", START + 600, claims_json=json.dumps({"scp": "Tools.Read"}).encode()
)

TYPES = "urn:ietf:params:oauth:token-type:"
EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
JWT_BEARER = "urn:ietf:params:oauth:grant-type:jwt-bearer"

Members = dict[str, object]


def oauth(**changes: object) -> Members:
    """A token response (RFC 6749 section 5.1)."""
    return {"access_token": API_TOKEN, "token_type": "Bearer", "expires_in": 3600, **changes}


@dataclass(frozen=True)
class Request:
    """What a test expects of one request, and what it is answered.

    Attributes:
        path: where it goes.
        form: its parameters, without those of client authentication.
        answer: the members of the response.
        document: what is sent as JSON; None for a form.
        token: the member of the response that has the token.
    """

    path: str
    form: Mapping[str, str]
    answer: Members
    document: Members | None = None
    token: str = "access_token"


@dataclass(frozen=True)
class Case:
    """A profile as it is configured, and its requests: each goes to a server of its own.

    Attributes:
        name: of the test.
        table: further settings, given the folder of files and the servers' addresses.
        requests: in order.
    """

    name: str
    table: Callable[[Path, list[str]], Members]
    requests: tuple[Request, ...]

    def __str__(self) -> str:
        return self.name


@dataclass
class Exchange:
    """A broker and its servers.

    Attributes:
        case: the profile.
        sites: a server for each request.
        broker: what is tested.
    """

    case: Case
    sites: list[Site]
    settings: Settings
    broker: CredentialBroker = field(init=False)

    async def issued(
        self, *, token: Secret = TOKEN, who: Principal = ALICE, now: float = START
    ) -> BearerCredentials:
        """The credentials."""
        async with asyncio.timeout(TIMEOUT_SECONDS):
            got = await self.broker.issue(who, token=token, resource=RESOURCE, now=now)
        assert isinstance(got, BearerCredentials)
        return got

    async def refusal(
        self, *, token: Secret = TOKEN, who: Principal = ALICE, now: float = START
    ) -> AuthError:
        """Why there are none."""
        with pytest.raises(AuthError) as caught:
            await self.issued(token=token, who=who, now=now)
        return caught.value

    def answers(self, leg: int, **changes: object) -> None:
        """The answer to a request from now on; a member of ... is left out."""
        request = self.case.requests[leg]
        members = {**request.answer, **changes}
        body = json.dumps({name: value for name, value in members.items() if value is not ...})
        self.sites[leg].answers[request.path] = Answer(body.encode())

    def fails(
        self, leg: int, status: int, body: object = None, headers: Mapping[str, str] = {}
    ) -> None:
        """A request fails from now on."""
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        path = self.case.requests[leg].path
        self.sites[leg].answers[path] = Answer(raw, status, dict(headers))

    def sent(self, leg: int) -> list[tuple[str, dict[str, str], dict[str, str]]]:
        """(path, form, headers) of each request to a server."""
        site = self.sites[leg]
        found = zip(site.requests, site.posted, strict=True)
        return [
            (path, {k: v for k, (v,) in parse_qs(body).items()}, head)
            for path, (head, body) in found
        ]

    @property
    def count(self) -> list[int]:
        """How many requests each server has got."""
        return [len(site.requests) for site in self.sites]


@contextmanager
def _sites(count: int) -> Iterator[list[Site]]:
    if not count:
        yield []
        return
    with serving_http() as site, _sites(count - 1) as others:
        yield [site, *others]


@asynccontextmanager
async def exchanging(
    case: Case, folder: Path, idp: IdentityProvider, **changes: object
) -> AsyncIterator[Exchange]:
    """Its servers and its broker, for as long as the block runs."""
    for name, text in (
        ("client.secret", SECRET),
        ("api.secret", API_SECRET),
        ("actor.token", ACTOR_TOKEN),
    ):
        (folder / name).write_text(text + "\n")
    with _sites(len(case.requests)) as sites:
        urls = [site.url for site in sites]
        table: dict[str, Any] = {
            "issuers": (ISSUER,),
            "endpoint": urls[0] + case.requests[0].path,
            "client_id": "authsvc",
            "client_secret_file": folder / "client.secret",
            **case.table(folder, urls),
            **changes,
        }
        table = {name: value for name, value in table.items() if value is not ...}
        settings = settings_for(folder, idp, credentials={"exchange": [table]})
        exchange = Exchange(case, sites, settings)
        for leg in range(len(case.requests)):
            exchange.answers(leg)
        async with open_broker(settings) as broker:
            assert broker is not None
            exchange.broker = broker
            yield exchange


def _subject(kind: str = "access_token", requested: str = "access_token") -> dict[str, str]:
    return {
        "grant_type": EXCHANGE,
        "subject_token": TOKEN.reveal(),
        "subject_token_type": TYPES + kind,
        "requested_token_type": TYPES + requested,
    }


_ISSUED = {"issued_token_type": TYPES + "access_token"}

RFC8693 = Case(
    "rfc8693",
    lambda folder, urls: {
        "audience": "the-api",
        "api": "https://api.example/v1",
        "scopes": ("read", "write"),
    },
    (
        Request(
            "/token",
            {
                **_subject(),
                "audience": "the-api",
                "resource": "https://api.example/v1",
                "scope": "read write",
            },
            oauth(**_ISSUED),
        ),
    ),
)

BARE = Case("rfc8693-bare", lambda folder, urls: {}, (Request("/token", _subject(), oauth()),))

WITH_ACTOR = Case(
    "rfc8693-actor",
    lambda folder, urls: {
        "audience": "the-api",
        "subject_token_type": "jwt",
        "requested_token_type": "jwt",
        "actor_token_file": folder / "actor.token",
    },
    (
        Request(
            "/token",
            {
                **_subject("jwt", "jwt"),
                "audience": "the-api",
                "actor_token": ACTOR_TOKEN,
                "actor_token_type": TYPES + "jwt",
            },
            oauth(issued_token_type=TYPES + "jwt", token_type="N_A"),
        ),
    ),
)

BEARER = Case(
    "jwt-bearer",
    lambda folder, urls: {
        "profile": "jwt-bearer",
        "api": "https://api.example/v1",
        "scopes": ("read",),
    },
    (
        Request(
            "/token",
            {
                "grant_type": JWT_BEARER,
                "assertion": TOKEN.reveal(),
                "resource": "https://api.example/v1",
                "scope": "read",
            },
            oauth(),
        ),
    ),
)

ENTRA = Case(
    "entra-obo",
    lambda folder, urls: {
        "profile": "entra-obo",
        "scopes": ("https://graph.microsoft.com/User.Read",),
    },
    (
        Request(
            "/tenant/oauth2/v2.0/token",
            {
                "grant_type": JWT_BEARER,
                "assertion": TOKEN.reveal(),
                "scope": "https://graph.microsoft.com/User.Read",
                "requested_token_use": "on_behalf_of",
            },
            oauth(ext_expires_in=0, scope="https://graph.microsoft.com/user.read"),
        ),
    ),
)

ID_JAG = Case(
    "id-jag",
    lambda folder, urls: {
        "profile": "id-jag",
        "audience": "https://auth.chat.example/",
        "api": "https://api.chat.example/",
        "scopes": ("chat.read", "chat.history"),
        "api_server": {
            "endpoint": f"{urls[1]}/oauth2/token",
            "client_id": "f53f191f9311af35",
            "client_secret_file": folder / "api.secret",
        },
    },
    (
        Request(
            "/oauth2/v1/token",
            {
                **_subject(requested="id-jag"),
                "audience": "https://auth.chat.example/",
                "resource": "https://api.chat.example/",
                "scope": "chat.read chat.history",
            },
            {
                "issued_token_type": TYPES + "id-jag",
                "access_token": ASSERTION,
                "token_type": "N_A",
                "scope": "chat.read chat.history",
                "expires_in": 300,
            },
        ),
        Request(
            "/oauth2/token",
            {"grant_type": JWT_BEARER, "assertion": ASSERTION},
            oauth(expires_in=86_400, scope="chat.read chat.history"),
        ),
    ),
)

ID_JAG_SCOPED = Case(
    "id-jag-scoped",
    lambda folder, urls: {
        "profile": "id-jag",
        "audience": "https://auth.chat.example/",
        "subject_token_type": "id_token",
        "api_server": {
            "endpoint": f"{urls[1]}/oauth2/token",
            "client_id": "f53f191f9311af35",
            "client_secret_file": folder / "api.secret",
            "scopes": ("chat.read",),
        },
    },
    (
        replace(
            ID_JAG.requests[0],
            form={**_subject("id_token", "id-jag"), "audience": "https://auth.chat.example/"},
        ),
        replace(
            ID_JAG.requests[1],
            form={"grant_type": JWT_BEARER, "assertion": ASSERTION, "scope": "chat.read"},
        ),
    ),
)

PROVIDER = "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/p/providers/q"
CLOUD, IAM = (f"https://www.googleapis.com/auth/{name}" for name in ("cloud-platform", "iam"))
FEDERATED, ACCOUNT = "a.federated.token", "reader@acme.iam.gserviceaccount.com"
IN_AN_HOUR = datetime.fromtimestamp(START + 3_600, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

_NO_CLIENT = {"auth_method": "none", "client_id": ..., "client_secret_file": ...}


def _federated(scope: str) -> dict[str, str]:
    return {**_subject("jwt"), "audience": PROVIDER, "scope": scope}


GCP = Case(
    "gcp-sts",
    lambda folder, urls: {
        "profile": "gcp-sts",
        "audience": PROVIDER,
        "scopes": (CLOUD,),
        **_NO_CLIENT,
    },
    (Request("/v1/token", _federated(CLOUD), oauth(**_ISSUED)),),
)

GCP_ACCOUNT = Case(
    "gcp-sts-account",
    lambda folder, urls: {
        "profile": "gcp-sts",
        "audience": PROVIDER,
        "scopes": (CLOUD,),
        "service_account": ACCOUNT,
        "service_account_endpoint": urls[1],
        **_NO_CLIENT,
    },
    (
        Request("/v1/token", _federated(IAM), oauth(**_ISSUED, access_token=FEDERATED)),
        Request(
            f"/v1/projects/-/serviceAccounts/{ACCOUNT}:generateAccessToken",
            {},
            {"accessToken": API_TOKEN, "expireTime": IN_AN_HOUR},
            document={"scope": [CLOUD], "lifetime": "600s"},
            token="accessToken",
        ),
    ),
)

CASES: list[Case] = [RFC8693, BARE, WITH_ACTOR, BEARER, ENTRA, ID_JAG, GCP, GCP_ACCOUNT]
"""One or two of each profile."""

LEGS = [(case, leg) for case in CASES for leg in range(len(case.requests))]
"""Each request of each profile."""

OAUTH_LEGS = [(case, leg) for case, leg in LEGS if case.requests[leg].document is None]
"""Those to a token endpoint."""


def short_lived(seconds: float) -> Principal:
    """Alice with a token that ends soon."""
    return replace(ALICE, expire_time=START + seconds)

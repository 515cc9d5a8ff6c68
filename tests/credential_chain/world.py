"""Two identity providers, a mint, and authsvc with several tables: who may get what, in words of
the test's own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count
from pathlib import Path

from authsvc.client import BearerCredentials, CredentialRequest, Credentials, Resolution
from authsvc.server.config import Settings
from tests.support.clock import Clock
from tests.support.mint import Issued, Mint, exchange_table, minting, sts_table
from tests.support.service import Service, serving, settings_for, store_settings
from tests.support.tokens import RESOURCE, IdentityProvider

ISSUERS = ("https://idp.example", "https://other-idp.example")
"""Both have a user of each name."""

NAMES = ("", "aws", "mail", "chat", "dev")
"""All names that some principal has credentials of."""

AWS = frozenset({"", "aws"})

BUCKETS = ("alpha", "beta", "gamma")

LEEWAY_SECONDS = 0.0


@dataclass(frozen=True)
class Token:
    """A token that an identity provider has issued.

    Attributes:
        text: the token.
        issuer: its claims ``iss``, ``sub``, ``client_id``, ``act.sub``, ``jti``, ``buckets``,
            ``roles`` and ``exp``.
    """

    text: str = field(repr=False)
    issuer: str
    subject: str
    client: str
    actor: str
    jti: str
    buckets: tuple[str, ...]
    roles: tuple[str, ...]
    expire_time: float

    def expected(self, wanted: CredentialRequest) -> Issued | None:
        """Whom the credentials that it is asked for have to be issued to; None for none."""
        endpoint = {
            "": "default",
            "aws": "aws",
            "mail": f"mail-{ISSUERS.index(self.issuer)}",
            "chat": "chat",
            "dev": "dev" if "dev" in self.roles else "",
        }[wanted.name]
        if not endpoint:
            return None
        who = Issued(endpoint, self.issuer, self.subject, self.client, self.actor)
        if wanted.name not in AWS:
            return Issued(**{**who.__dict__, "token": self.jti})
        ends = f"{datetime.fromtimestamp(self.expire_time, UTC):%Y-%m-%dT%H:%M:%SZ}"
        buckets = tuple(sorted(wanted.buckets or self.buckets))
        return Issued(**{**who.__dict__, "buckets": buckets, "ends": ends})


@dataclass
class World:
    """Everything but authsvc.

    Attributes:
        clock: of all.
        idps: by issuer.
        mint: issues credentials.
    """

    clock: Clock
    idps: Mapping[str, IdentityProvider]
    mint: Mint
    _serial: Iterator[int] = field(default_factory=count)

    def token(
        self,
        subject: str,
        *,
        issuer: str = ISSUERS[0],
        client: str = "client",
        actor: str = "",
        buckets: Sequence[str] = BUCKETS,
        roles: Sequence[str] = (),
        ttl_seconds: float = 600,
    ) -> Token:
        """A new token."""
        jti = f"jti-{next(self._serial)}"
        text = self.idps[issuer].token(
            subject,
            ttl_seconds=ttl_seconds,
            client_id=client,
            act={"sub": actor} if actor else None,
            jti=jti,
            buckets=[*buckets],
            roles=[*roles],
        )
        expire_time = self.clock() + ttl_seconds
        return Token(text, issuer, subject, client, actor, jti, (*buckets,), (*roles,), expire_time)

    def settings(self, folder: Path, store: str | Mapping[str, object] = "memory") -> Settings:
        """Of one authsvc with a table for each name, and two for ``mail``."""
        folder.mkdir(exist_ok=True)
        issuers = []
        for number, (issuer, idp) in enumerate(self.idps.items()):
            keys = folder / f"idp-{number}"
            keys.mkdir(exist_ok=True)
            issuers.append(
                {
                    "issuer": issuer,
                    "algorithms": ["HS256"],
                    "secret_file": idp.write_secret(keys),
                    "leeway_seconds": LEEWAY_SECONDS,
                }
            )
        here: dict[str, object] = {"resources": (RESOURCE,)}
        mails = [
            exchange_table(
                self.mint,
                folder,
                f"mail-{number}",
                issuers=(issuer,),
                for_issuers=(issuer,),
                **here,
            )
            | {"name": "mail"}
            for number, issuer in enumerate(ISSUERS)
        ]
        return settings_for(
            folder,
            self.idps[ISSUERS[0]],
            store,
            issuers=issuers,
            credentials={
                "sts": [
                    sts_table(self.mint, folder, "default", issuers=ISSUERS),
                    sts_table(self.mint, folder, "aws", issuers=ISSUERS, **here),
                ],
                "exchange": [
                    *mails,
                    exchange_table(
                        self.mint, folder, "chat", issuers=ISSUERS, profile="jwt-bearer", **here
                    ),
                    exchange_table(
                        self.mint, folder, "dev", issuers=ISSUERS, for_roles=("dev",), **here
                    ),
                ],
            },
        )

    def check(
        self, token: Token, selection: Sequence[CredentialRequest] | None, answer: Resolution
    ) -> dict[str, Credentials]:
        """That an answer holds what was asked for, issued to the principal of that token, and
        nothing else. What there is, by name."""
        assert answer.principal is not None
        assert (answer.principal.issuer, answer.principal.subject) == (token.issuer, token.subject)
        assert answer.principal.client_id == token.client
        if selection is None:
            assert answer.named_credentials == {}
            found = {"": answer.credentials}
            selection = (CredentialRequest(),)
        else:
            assert answer.credentials is None
            found = {wanted.name: answer.credentials_of(wanted.name) for wanted in selection}
            assert {*answer.named_credentials} <= {*found}
        for wanted in selection:
            self.check_one(token, wanted, found[wanted.name])
        return {name: it for name, it in found.items() if it is not None}

    def check_one(self, token: Token, wanted: CredentialRequest, found: Credentials | None) -> None:
        """That credentials were issued to the principal of that token."""
        expected = token.expected(wanted)
        if expected is None:
            assert found is None
            return
        assert found is not None, wanted
        assert self.mint.of(found) == expected
        assert self.clock() < found.expire_time <= token.expire_time


@contextmanager
def a_world(clock: Clock) -> Iterator[World]:
    """It, for as long as the block runs."""
    with minting(clock) as mint:
        yield World(clock, {it: IdentityProvider(clock, it) for it in ISSUERS}, mint)


@asynccontextmanager
async def replicas(
    world: World, folder: Path, streams: Sequence[bool]
) -> AsyncIterator[list[Service]]:
    """One authsvc with a store in memory, or several over one Valkey: the clients of some ask by
    stream, of others by call."""
    store = store_settings(folder, "memory" if len(streams) == 1 else "redis")
    async with AsyncExitStack() as running:
        yield [
            await running.enter_async_context(
                serving(
                    world.settings(folder / f"replica-{number}", store),
                    world.clock,
                    streams=by_stream,
                )
            )
            for number, by_stream in enumerate(streams)
        ]


def secret_of(credentials: Credentials) -> str:
    """The access token, or the session token."""
    if isinstance(credentials, BearerCredentials):
        return credentials.access_token.reveal()
    assert credentials.session_token is not None
    return credentials.session_token.reveal()

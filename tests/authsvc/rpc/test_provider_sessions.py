"""Sign-outs at the identity provider through gRPC, on every store, over a stream and with a call
for each resolve: exactly the tokens that they concern are rejected."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import pytest

from authsvc.client import AdminClient
from authsvc.domain.errors import AuthError, Reason
from authsvc.domain.provider_session import session_digest
from authsvc.domain.revocation_target import (
    ProviderSessionTarget,
    RevocationTarget,
    SubjectTarget,
)
from tests.support.bounds import TIMEOUT_SECONDS
from tests.support.clock import Clock
from tests.support.service import STORE_KINDS, Service, serving, settings_for
from tests.support.tokens import ISSUER, OTHER_RESOURCE, RESOURCE, IdentityProvider

pytestmark = pytest.mark.anyio

OTHER_ISSUER = "https://else.example"

SIGN_OUTS: list[RevocationTarget] = [
    ProviderSessionTarget(ISSUER, "a", "alice"),
    ProviderSessionTarget(ISSUER, "a"),
    ProviderSessionTarget(ISSUER, "b", "bob"),
    ProviderSessionTarget(ISSUER, "nobodys", "alice"),
    ProviderSessionTarget(ISSUER, "nobodys"),
    SubjectTarget(ISSUER, "alice"),
    ProviderSessionTarget(OTHER_ISSUER, "a", "alice"),
]


@dataclass(frozen=True)
class Presented:
    """A token, and what a sign-out may name of it."""

    text: str
    subject: str
    sid: str
    session_id: str

    def is_signed_out(self, target: RevocationTarget) -> bool:
        """Whether a sign-out concerns it: the rule, in other words than the code's."""
        match target:
            case SubjectTarget(issuer, subject, _):
                return (issuer, subject) == (ISSUER, self.subject)
            case ProviderSessionTarget(issuer, sid, subject):
                may_be_of_it = self.subject == subject if not self.sid else self.sid == sid
                return issuer == ISSUER and may_be_of_it
            case _:
                raise AssertionError(target)


@pytest.fixture(params=[True, False], ids=["stream", "unary"])
def streams(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.fixture(params=STORE_KINDS)
async def service(
    request: pytest.FixtureRequest, tmp_path: Path, clock: Clock, idp: IdentityProvider,
    streams: bool,
) -> AsyncIterator[Service]:  # fmt: skip
    settings = settings_for(tmp_path, idp, request.param, local_operators=True)
    async with serving(settings, clock, streams=streams) as running_service:
        yield running_service


async def rejection(service: Service, presented: Presented, resource: str) -> Reason | None:
    try:
        answer = await service.client.resolve(
            presented.session_id, presented.text, resource=resource, create=True
        )
    except AuthError as error:
        return error.reason
    assert answer.principal is not None
    assert answer.principal.subject == presented.subject
    return None


async def test_exactly_the_tokens_of_a_sign_out_are_rejected(
    service: Service, clock: Clock, idp: IdentityProvider
) -> None:
    def issued(name: str) -> list[Presented]:
        aud = [RESOURCE, OTHER_RESOURCE]
        return [
            Presented(
                idp.token(subject, sid=sid or None, jti=f"{name} {subject} {sid}", aud=aud),
                subject,
                sid,
                f"{name}-{subject}-{sid}",
            )
            for subject, sid in product(("alice", "bob"), ("", "a", "b"))
        ]

    async with AdminClient(service.address, deadline_seconds=TIMEOUT_SECONDS) as operator:
        for number, target in enumerate(SIGN_OUTS):
            seen, unseen = issued(f"seen-{number}"), issued(f"unseen-{number}")
            for presented in seen:
                for resource in (RESOURCE, RESOURCE, OTHER_RESOURCE):  # the second is cached
                    assert await rejection(service, presented, resource) is None
            await operator.revoke(target, allow_unknown_issuer=True)
            for presented, resource in product(seen + unseen, (RESOURCE, OTHER_RESOURCE)):
                expected = Reason.TOKEN_REVOKED if presented.is_signed_out(target) else None
                why = await rejection(service, presented, resource)
                assert why is expected, (target, presented.subject, presented.sid)
            clock.advance(1)
            for presented in issued(f"later-{number}"):
                assert await rejection(service, presented, RESOURCE) is None


async def test_the_sid_is_kept_as_a_digest(
    service: Service, idp: IdentityProvider, caplog: pytest.LogCaptureFixture
) -> None:
    sid = "b1946ac9-2492-4c3c-a8f0-6f7a4b1f2c11"
    caplog.set_level("DEBUG")
    await service.client.resolve("s", idp.token(sid=sid), resource=RESOURCE, create=True)
    async with (
        AdminClient(service.address, deadline_seconds=TIMEOUT_SECONDS) as operator,
        operator.watching() as events,
    ):
        record = await operator.get("s")
        await operator.revoke_provider_session(ISSUER, sid, subject="alice")
        logged = [(await anext(events)).event.not_before for _ in range(2)]
    digest = session_digest(ISSUER, sid)
    assert [grant.provider_session for grant in record.grants.values()] == [digest]
    assert [it and it.key for it in logged] == [
        (ISSUER, "alice", "", "-"),
        (ISSUER, "", "", digest),
    ]
    logs = str([vars(line) for line in caplog.records])
    assert digest[:8] in logs
    assert digest[:9] not in logs
    assert sid not in logs

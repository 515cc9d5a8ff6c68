"""Which broker is called: by the name, the resource, and the conditions on the token."""

from __future__ import annotations

from contextlib import suppress

import pytest

from authsvc.credentials.conditions import PrincipalConditions
from authsvc.credentials.routing import NONE_INTERVAL_SECONDS, CredentialRouter, Route
from authsvc.domain.credential_requests import DEFAULT, CredentialRequest
from authsvc.domain.errors import AuthError, Reason
from authsvc.domain.resolution import BearerCredentials, Credentials, Principal, Secret
from tests.support.clock import START, Clock
from tests.support.tokens import ISSUER, OTHER_RESOURCE, RESOURCE

pytestmark = pytest.mark.anyio

ALICE = Principal(
    ISSUER, "alice", START + 600, scopes=("read", "write"), roles=("dev",), buckets=("a", "b")
)


class Recording:
    """A broker that issues a token with a text of its own.

    Attributes:
        asked: what it was asked for.
    """

    def __init__(self, text: str, *, error: AuthError | None = None, has: bool = True) -> None:
        self.asked: list[CredentialRequest] = []
        self._text = text
        self._error = error
        self._has = has

    async def issue(
        self,
        principal: Principal,
        *,
        token: Secret,
        resource: str,
        now: float,
        wanted: CredentialRequest = DEFAULT,
    ) -> Credentials | None:
        self.asked.append(wanted)
        if self._error is not None:
            raise self._error
        return BearerCredentials(Secret(self._text), "Bearer", now + 60) if self._has else None


async def issued(
    router: CredentialRouter,
    name: str = "",
    *,
    resource: str = RESOURCE,
    buckets: tuple[str, ...] = (),
) -> str | None:
    """The text of what is issued to Alice."""
    wanted = CredentialRequest(name, buckets)
    got = await router.issue(ALICE, token=Secret("t"), resource=resource, now=START, wanted=wanted)
    if got is None:
        return None
    assert isinstance(got, BearerCredentials)
    return got.access_token.reveal()


async def test_a_name_is_of_a_resource() -> None:
    router = CredentialRouter(
        [
            Route(Recording("default")),
            Route(Recording("here"), "api", (RESOURCE,)),
            Route(Recording("there"), "api", (OTHER_RESOURCE,)),
            Route(Recording("other"), "other", (OTHER_RESOURCE,)),
        ]
    )
    assert await issued(router) == "default"
    assert await issued(router, "api") == "here"
    assert await issued(router, "api", resource=OTHER_RESOURCE) == "there"
    with pytest.raises(AuthError, match="name = 'other' and ") as refused:
        await issued(router, "other")
    assert (refused.value.reason, refused.value.setting) == (Reason.ARGUMENT_INVALID, "credentials")


async def test_a_name_without_a_resource_is_of_none() -> None:
    assert await issued(CredentialRouter([Route(Recording("api"), "api")])) is None


async def test_without_tables_there_is_nothing_and_no_name() -> None:
    router = CredentialRouter(())
    assert await issued(router) is None
    with pytest.raises(AuthError) as refused:
        await issued(router, "api")
    assert refused.value.reason is Reason.ARGUMENT_INVALID


async def test_tables_with_resources_come_first_and_then_the_earlier_one() -> None:
    scoped = PrincipalConditions(scopes={"read"})
    router = CredentialRouter(
        [
            Route(Recording("others")),
            Route(Recording("admins"), "", (RESOURCE,), PrincipalConditions(roles=({"admin"},))),
            Route(Recording("first"), "", (RESOURCE,), scoped),
            Route(Recording("second"), "", (RESOURCE,)),
        ]
    )
    assert await issued(router) == "first"
    assert await issued(router, resource=OTHER_RESOURCE) == "others"


async def test_a_name_of_which_no_condition_holds_is_missing() -> None:
    admins = PrincipalConditions(roles=({"admin"},))
    router = CredentialRouter(
        [Route(Recording("default")), Route(Recording("api"), "api", (RESOURCE,), admins)]
    )
    assert await issued(router, "api") is None


@pytest.mark.parametrize(
    "first",
    [
        Recording("", has=False),
        Recording("", error=AuthError(Reason.CREDENTIALS_REFUSED)),
        Recording("", error=AuthError(Reason.CREDENTIALS_UNAVAILABLE)),
    ],
)
async def test_if_the_first_that_applies_has_nothing_no_other_is_called(first: Recording) -> None:
    others = [Recording("second"), Recording("others")]
    router = CredentialRouter(
        [Route(first, "", (RESOURCE,)), Route(others[0], "", (RESOURCE,)), Route(others[1])]
    )
    with suppress(AuthError):
        assert await issued(router) is None
    assert len(first.asked) == 1
    assert not others[0].asked
    assert not others[1].asked


@pytest.mark.parametrize(
    ("buckets", "is_issued"),
    [(("a",), True), (("a", "b"), True), (("b", "b"), True), (("c",), False), (("a", "c"), False)],
)
async def test_buckets_are_those_of_the_token(buckets: tuple[str, ...], is_issued: bool) -> None:
    broker = Recording("api")
    router = CredentialRouter([Route(broker, "api", (RESOURCE,))])
    if is_issued:
        assert await issued(router, "api", buckets=buckets) == "api"
        assert broker.asked == [CredentialRequest("api", buckets)]
        return
    with pytest.raises(AuthError) as refused:
        await issued(router, "api", buckets=buckets)
    assert refused.value.reason is Reason.CREDENTIALS_REFUSED
    assert not broker.asked


@pytest.mark.parametrize(
    ("conditions", "holds"),
    [
        (PrincipalConditions(), True),
        (PrincipalConditions(issuers={ISSUER}), True),
        (PrincipalConditions(issuers={"https://other.example"}), False),
        (PrincipalConditions(issuers=frozenset()), False),
        (PrincipalConditions(roles=({"admin", "dev"},)), True),
        (PrincipalConditions(roles=({"admin"},)), False),
        (PrincipalConditions(roles=({"dev"}, {"admin"})), False),
        (PrincipalConditions(roles=({"Dev"},)), False),
        (PrincipalConditions(scopes={"read", "write"}), True),
        (PrincipalConditions(scopes={"read", "delete"}), False),
        (PrincipalConditions({ISSUER}, ({"dev"},), {"read"}), True),
    ],
)
def test_conditions(conditions: PrincipalConditions, holds: bool) -> None:
    assert conditions.hold(ALICE) is holds


async def test_the_log_says_why_there_are_none_at_a_bounded_rate(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    monkeypatch.setattr("authsvc.credentials.routing.monotonic", clock)
    caplog.set_level("INFO", logger="authsvc.credentials.routing")
    typo = PrincipalConditions(issuers={ISSUER}, roles=({"dev"},), scopes={"raed"})
    router = CredentialRouter(
        [
            Route(Recording("api"), "api", (RESOURCE,), typo, "credentials.exchange[1]"),
            Route(Recording("", has=False), "", (RESOURCE,), table="credentials.sts[1]"),
        ]
    )
    for _ in range(3):
        assert await issued(router, "api") is None
        assert await issued(router) is None
    assert caplog.messages == [
        (
            f"credentials api: there are none for this principal at {RESOURCE}: "
            "credentials.exchange[1]: the token lacks scope raed"
        ),
        (
            f"credentials without a name: there are none for this principal at {RESOURCE}: "
            "credentials.sts[1] applies, and has nothing for the token's claims"
        ),
    ]
    fields = ("levelname", "subject", "issuer", "client", "resource")
    shown = [getattr(caplog.records[0], it) for it in fields]
    assert shown == ["INFO", "alice", ISSUER, ALICE.client_id, RESOURCE]
    caplog.clear()
    clock.advance(NONE_INTERVAL_SECONDS)
    assert await issued(router, "api") is None
    assert len(caplog.messages) == 1


async def test_a_resource_without_tables_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", logger="authsvc.credentials.routing")
    router = CredentialRouter([Route(Recording("api"), "api", (RESOURCE,))])
    assert await issued(router) is None
    assert not caplog.messages

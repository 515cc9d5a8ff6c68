"""Each name that a request asks for gets what its own broker says, whatever the others do."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authsvc.domain.credential_requests import DEFAULT, MAX_REQUESTS, CredentialRequest
from authsvc.domain.errors import AuthError, Reason
from authsvc.domain.resolution import BearerCredentials, Credentials, Principal, Resolution, Secret
from authsvc.resolver.issuing import Issuing
from tests.support.bounds import TIMEOUT_SECONDS
from tests.support.clock import START
from tests.support.tokens import ISSUER, RESOURCE

pytestmark = pytest.mark.anyio

ADA = Principal(ISSUER, "ada", START + 600)

NAMES = st.from_regex(r"[a-z][a-z0-9._-]{0,8}", fullmatch=True) | st.just("")
RESULTS = st.sampled_from(
    (
        "issued",
        None,
        Reason.CREDENTIALS_REFUSED,
        Reason.CREDENTIALS_UNAVAILABLE,
        Reason.TOKEN_EXPIRED,
        Reason.ARGUMENT_INVALID,
    )
)


def bearer(name: str) -> BearerCredentials:
    return BearerCredentials(Secret(f"token of {name}"), "Bearer", START + 600)


class Broker:
    """Has one result for each name, after as many passes of the loop as the name is long."""

    def __init__(self, results: Mapping[str, object]) -> None:
        self._results = results
        self.asked: list[CredentialRequest] = []
        self.in_flight = 0
        self.most_in_flight = 0
        self.issued: list[str] = []
        self.idle = asyncio.Event()

    async def issue(
        self,
        principal: Principal,
        *,
        token: Secret,
        resource: str,
        now: float,
        wanted: CredentialRequest = DEFAULT,
    ) -> Credentials | None:
        assert (principal, token.reveal(), resource, now) == (ADA, "hers", RESOURCE, START)
        self.asked.append(wanted)
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            for _ in range(1 + len(wanted.name)):
                await asyncio.sleep(0)
        finally:
            self.in_flight -= 1
            if not self.in_flight:
                self.idle.set()
        result = self._results[wanted.name]
        if isinstance(result, Reason):
            raise AuthError(result, f"of {wanted.name}", principal=principal)
        if isinstance(result, Exception):
            raise result
        self.issued.append(wanted.name)
        return bearer(wanted.name) if result else None


def issuing(broker: Broker) -> Issuing:
    return Issuing(broker, ADA, Secret("hers"), RESOURCE, START)


@given(st.dictionaries(NAMES, RESULTS, max_size=MAX_REQUESTS))
def test_each_name_has_its_own_result(results: Mapping[str, object]) -> None:
    broker = Broker(results)
    selection = [CredentialRequest(name, ("b",), bytes(32)) for name in results]
    named = asyncio.run(issuing(broker).issue_all(selection))
    assert list(named) == [name for name, result in results.items() if result is not None]
    for name, found in named.items():
        expected = results[name]
        if isinstance(found, AuthError):
            assert (found.reason, found.detail) == (expected, f"of {name}")
        else:
            assert found == bearer(name)
    assert sorted(broker.asked, key=lambda it: it.name) == sorted(selection, key=lambda it: it.name)
    assert broker.most_in_flight == len(results)


class Hanging:
    """A broker of a name that never answers; it has all others at once."""

    async def issue(
        self,
        principal: Principal,
        *,
        token: Secret,
        resource: str,
        now: float,
        wanted: CredentialRequest = DEFAULT,
    ) -> Credentials | None:
        if wanted.name == "hangs":
            await asyncio.Event().wait()
        return bearer(wanted.name)


async def test_an_endpoint_that_hangs_takes_no_other_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("authsvc.resolver.issuing.OTHERS_WAIT_SECONDS", 0.01)
    asking = Issuing(Hanging(), ADA, Secret("hers"), RESOURCE, START)
    async with asyncio.timeout(TIMEOUT_SECONDS):
        named = await asking.issue_all([*map(CredentialRequest, ("a", "hangs", "b"))])
    assert [*named] == ["a", "hangs", "b"]
    assert (named["a"], named["b"]) == (bearer("a"), bearer("b"))
    late = named["hangs"]
    assert isinstance(late, AuthError)
    assert late.reason is Reason.CREDENTIALS_UNAVAILABLE
    assert late.retry_after_seconds == 1.0


@pytest.mark.parametrize("failure", [RuntimeError("broken"), TimeoutError("broken")])
async def test_an_unexpected_failure_is_one_of_the_request_and_cancels_the_others(
    failure: Exception,
) -> None:
    broker = Broker({"a": failure, "much-slower-than-that": "issued"})
    with pytest.raises(type(failure), match="broken"):
        await issuing(broker).issue_all([*map(CredentialRequest, broker._results)])
    async with asyncio.timeout(TIMEOUT_SECONDS):
        await broker.idle.wait()
    assert len(broker.asked) == 2
    assert broker.issued == []


async def test_a_kept_error_has_no_frames_and_neither_has_it_once_raised() -> None:
    broker = Broker({"a": Reason.CREDENTIALS_REFUSED})
    named = await issuing(broker).issue_all([CredentialRequest("a")])
    resolution = Resolution(principal=ADA, named_credentials=named)
    for _ in range(2):
        with pytest.raises(AuthError, match="of a") as caught:
            resolution.credentials_of("a")
        assert caught.value.principal == ADA
    kept = named["a"]
    assert isinstance(kept, AuthError)
    assert (kept.__traceback__, kept.__context__) == (None, None)

"""The status of the service, and sessions that an operator revokes: through gRPC."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from secrets import token_hex

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from jwt.algorithms import ECAlgorithm

from authsvc import __version__
from authsvc.admin.issuers import OVERDUE_SECONDS, IssuerWatch, WatchedIssuer
from authsvc.cli.keys import _running
from authsvc.domain.errors import AuthError, Reason
from authsvc.domain.record import PRINCIPAL_SESSION_PREFIX
from authsvc.domain.service_status import (
    IssuerState,
    IssuerStatus,
    KeyFacts,
    ServiceStatus,
    SessionCounts,
    SkippedKey,
)
from authsvc.server.running import running
from authsvc.tokens.jwk_set import load_jwks_file, parse_jwks
from authsvc.tokens.keys import KeyLoadError, KeySet, VerificationKey
from authsvc.tokens.secret_files import SecretFiles
from authsvc.tokens.sources import Fetched as FetchedSet
from authsvc.tokens.sources import FetchedKeys, FileKeys
from authsvc.v1 import auth_pb2 as pb
from authsvc.wire import admin as admin_wire
from tests.support.clock import START, Clock
from tests.support.operators import (
    WAIT_SECONDS,
    Site,
    clients,
    reason,
    settings,
    taken,
    write_tls,
)
from tests.support.tokens import ISSUER, RESOURCE, IdentityProvider

pytestmark = pytest.mark.anyio


@pytest.fixture
async def site(tmp_path: Path, clock: Clock, idp: IdentityProvider) -> AsyncIterator[Site]:
    tls = write_tls(tmp_path / "tls")
    async with (
        running(settings(tmp_path, tls, idp), clock=clock) as address,
        clients(address, tls) as connected,
    ):
        yield connected


async def test_the_status_of_the_service(site: Site, clock: Clock) -> None:
    clock.advance(90)
    status = await site.operator.status()
    assert (status.version, status.start_time, status.time) == (__version__, START, START + 90)
    assert status.uptime_seconds == 90
    assert status.store_ready
    assert status.sessions is None
    key = KeyFacts("", "HS256")
    assert status.issuers == (
        IssuerStatus(ISSUER, IssuerState.READY, "secret_file", (key,), START),
    )


async def test_sessions_are_counted_on_demand(
    site: Site, idp: IdentityProvider, clock: Clock
) -> None:
    for session_id in ("anonymous", "another", "forgotten"):
        await site.resolve(session_id)
    await site.resolve("ended", idp.token())
    await site.server.revoke("ended")
    clock.advance(3601)  # the unauthenticated ones are past their idle limit
    await site.resolve("owned", idp.token())
    await site.resolve("new")
    status = await site.operator.status(count_sessions=True)
    assert status.sessions == SessionCounts(unauthenticated=1, authenticated=1, revoked=1)


async def test_only_operators_read_the_status(site: Site) -> None:
    async with site.stub("server") as raw:
        with pytest.raises(Exception, match="PERMISSION_DENIED"):
            await raw.admin.GetServiceStatus(
                pb.GetServiceStatusRequest(), metadata=raw.metadata, timeout=WAIT_SECONDS
            )


async def test_the_status_has_no_secret(site: Site, idp: IdentityProvider) -> None:
    async with site.stub("operator") as raw:
        answer = await raw.admin.GetServiceStatus(
            pb.GetServiceStatusRequest(count_sessions=True),
            metadata=raw.metadata,
            timeout=WAIT_SECONDS,
        )
    assert idp.secret.encode() not in answer.SerializeToString()


async def test_the_issuer_of_opaque_tokens_has_no_keys_here() -> None:
    status = IssuerWatch((), "https://opaque.example").status(START)
    assert status == (IssuerStatus("https://opaque.example", IssuerState.READY, "introspection"),)


# Keys that are fetched.


def jwks(*names: str) -> KeySet:
    keys = [
        {**json.loads(ECAlgorithm.to_jwk(generate_private_key(SECP256R1()).public_key())), **name}
        for name in ({"kid": name} for name in names)
    ]
    return parse_jwks(json.dumps({"keys": keys}).encode(), ["ES256"])


class Fetched:
    """A source of keys whose issuer can be unavailable."""

    failure = ""
    clock_offset_seconds = None

    def __init__(self) -> None:
        self.keys: KeySet | None = None

    def current(self, now: float) -> KeySet:
        if self.keys is None:
            raise AuthError(Reason.KEYS_UNAVAILABLE)
        return self.keys

    async def renew(self, now: float) -> bool:
        return False

    async def refresh(self, now: float) -> None:
        """Nothing is due."""


def test_keys_that_are_fetched_have_an_age_and_a_state() -> None:
    source = Fetched()
    issuer = WatchedIssuer(ISSUER, "jwks_url", source)
    assert issuer.status(START) == IssuerStatus(ISSUER, IssuerState.UNAVAILABLE, "jwks_url")

    source.keys = jwks("one", "two")
    issuer.check_keys(START + 10)
    issuer.check_keys(START + 12)
    status = issuer.status(START + 14)
    assert (status.state, status.fetch_time) == (IssuerState.READY, START + 10)
    assert status.keys == (KeyFacts("one", "ES256"), KeyFacts("two", "ES256"))

    late = START + 10 + OVERDUE_SECONDS
    assert issuer.status(late).state is IssuerState.READY
    assert issuer.status(late + 1).state is IssuerState.STALE

    source.keys = KeySet(source.keys.keys)  # the same ones, fetched anew
    issuer.check_keys(late + 2)
    assert (issuer.status(late + 2).state, issuer.status(late + 2).fetch_time) == (
        IssuerState.READY,
        late + 2,
    )

    source.keys = None
    assert issuer.status(late + 3).state is IssuerState.UNAVAILABLE


def test_entries_that_cannot_be_used_are_counted() -> None:
    source = Fetched()
    issuer = WatchedIssuer(ISSUER, "jwks_url", source)
    odd = {"kid": "odd", "kty": "EC", "crv": "P-256", "x": "AA"}
    for_encryption = {"kid": "enc", "kty": "RSA", "use": "enc"}
    source.keys = parse_jwks(json.dumps({"keys": [odd, for_encryption]}).encode(), ["ES256"])
    # None is left, and the issuer is reachable.
    assert issuer.status(START) == IssuerStatus(
        ISSUER,
        IssuerState.UNAVAILABLE,
        "jwks_url",
        (),
        START,
        (
            SkippedKey(
                "keys[0] (kid 'odd')", "is not a valid ES256 key: its x has 1 bytes, not 32"
            ),
            SkippedKey(
                "keys[1] (kid 'enc')", "is not for signatures: its use is 'enc'", is_invalid=False
            ),
        ),
    )
    source.keys = jwks("one")
    assert issuer.status(START + 1).state is IssuerState.READY
    assert issuer.status(START + 1).skipped_keys == ()


def test_secrets_are_counted_and_files_are_never_overdue() -> None:
    secret, old = (VerificationKey(None, "HS256", bytes([n]) * 32) for n in (1, 2))
    issuer = WatchedIssuer(ISSUER, "secret_file", KeySet((secret,), (old,)))
    issuer.check_keys(START)
    status = issuer.status(START + 10 * OVERDUE_SECONDS)
    assert (status.state, status.fetch_time) == (IssuerState.READY, START)
    assert status.keys == (KeyFacts("", "HS256"), KeyFacts("", "HS256", previous=True))


@pytest.mark.parametrize("unfit", ["short", "secret" * 6, ""])
def test_an_invalid_file_is_not_read(tmp_path: Path, unfit: str) -> None:
    path = tmp_path / "secret"
    path.write_text(token_hex(32))
    issuer = WatchedIssuer(ISSUER, "secret_file", FileKeys([path], SecretFiles(path).load))
    assert issuer.status(START).fetch_time == START
    path.write_text(unfit)
    status = issuer.status(START + 10)
    assert (status.state, status.fetch_time) == (IssuerState.READY, START)
    assert status.failure.startswith(f"{path}: ")
    assert not unfit or unfit not in status.failure
    path.write_text(token_hex(32))
    status = issuer.status(START + 20)
    assert (status.fetch_time, status.failure) == (START + 20, "")


@pytest.mark.parametrize("content", ["no JSON", None])
def test_why_a_key_set_is_not_read(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "jwks.json"
    key = ECAlgorithm.to_jwk(generate_private_key(SECP256R1()).public_key(), as_dict=True)
    path.write_text(json.dumps({"keys": [key]}))
    files = FileKeys([path], lambda: load_jwks_file(path, ["ES256"]))
    issuer = WatchedIssuer(ISSUER, "jwks_file", files)
    assert issuer.status(START).failure == ""
    path.write_text(content) if content is not None else path.unlink()
    status = issuer.status(START + 10)
    assert (status.state, status.fetch_time) == (IssuerState.READY, START)
    assert status.failure.startswith(f"{path}: ")


def test_a_failure_of_any_path_can_be_sent() -> None:
    issuer = IssuerStatus(ISSUER, IssuerState.UNAVAILABLE, "jwks_file", failure="caf\udce9: gone")
    status = ServiceStatus("1", START, START, True, (issuer,))
    (received,) = admin_wire.service_status_of(admin_wire.status_message(status)).issuers
    assert received.failure == r"caf\udce9: gone"


SKIPPED = (
    SkippedKey(r"keys[1] (kid '\ud800')", "is private; publish the public key alone"),
    SkippedKey("keys[2]", "is not for signatures: its use is 'enc'", is_invalid=False),
)


def test_skipped_entries_are_sent_and_listed() -> None:
    key = KeyFacts("good", "ES256")
    issuer = IssuerStatus(ISSUER, IssuerState.READY, "jwks_url", (key,), START, SKIPPED)
    status = ServiceStatus("1", START, START, True, (issuer,))
    received = admin_wire.service_status_of(admin_wire.status_message(status))
    assert received.issuers == (issuer,)
    assert [(line.key_id, line.state) for line in _running(received)] == [
        ("good", "ready"),
        *((it.entry, f"skipped: {it.cause}") for it in SKIPPED),
    ]


async def test_why_keys_are_not_fetched() -> None:
    answers: list[Exception | FetchedSet] = [
        KeyLoadError("no route"), FetchedSet(jwks("one"), 60.0), KeyLoadError("no JWK Set")
    ]  # fmt: skip

    async def fetch() -> FetchedSet:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    source = FetchedKeys(ISSUER, fetch, max_stale_seconds=3600.0)
    issuer = WatchedIssuer(ISSUER, "jwks_url", source)
    for at, state, failure in (
        (START, IssuerState.UNAVAILABLE, "no route"),
        (START + 100, IssuerState.READY, ""),
        (START + 200, IssuerState.READY, "no JWK Set"),
    ):
        await source.refresh(at)
        status = issuer.status(at)
        assert (status.state, status.failure) == (state, failure)


# A session that an operator revokes.


async def test_a_session_is_ended_whatever_its_token(site: Site, idp: IdentityProvider) -> None:
    await site.resolve("s", idp.token())
    async with site.operator.watching() as events:
        assert (await site.operator.revoke_session("s")).session_count == 1
        (watched,) = await taken(events, 1)
    assert watched.event.record is not None
    assert watched.event.record.id == "s"
    assert await site.refusal("s", idp.token()) is Reason.SESSION_REVOKED
    assert await site.refusal("other", idp.token()) is None  # the token itself still stands
    assert (await site.operator.revoke_session("s")).session_count == 0
    assert (await site.operator.revoke_session("unknown")).session_count == 0


async def test_a_principal_session_is_ended(
    site: Site, idp: IdentityProvider, clock: Clock
) -> None:
    resolution = await site.resolve("", idp.token())
    assert resolution.session is not None
    session_id = resolution.session.id
    assert session_id.startswith(PRINCIPAL_SESSION_PREFIX)
    revoked = await site.operator.revoke_session(session_id)
    assert revoked.session_count == 1
    assert await site.refusal("", idp.token()) is Reason.SESSION_REVOKED
    clock.advance(5)
    assert await site.refusal("", idp.token()) is None


async def test_invalid_session_targets(site: Site) -> None:
    assert await reason(site.operator.revoke_session("")) is Reason.SESSION_ID_INVALID
    async with site.stub("operator") as raw:
        request = pb.RevokeSessionsRequest(
            session=pb.RevokeSessionsRequest.SessionTarget(session_id="s")
        )
        request.before_time.FromSeconds(int(START))
        with pytest.raises(Exception, match="INVALID_ARGUMENT"):
            await raw.admin.RevokeSessions(request, metadata=raw.metadata, timeout=WAIT_SECONDS)


async def test_pages_are_read_one_by_one(site: Site, clock: Clock) -> None:
    for session_id in ("a", "b", "c"):
        await site.resolve(session_id)
        clock.advance(1)
    first = await site.operator.page(page_size=2)
    second = await site.operator.page(page_size=2, page_token=first.next_page_token)
    assert [record.id for record in (*first.records, *second.records)] == ["c", "b", "a"]
    assert second.next_page_token == ""
    assert RESOURCE not in first.records[0].grants

"""Revocations: what they count, and what they reject."""

from __future__ import annotations

from types import MappingProxyType

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from authsvc.admin.checks import MAX_TEXT_LENGTH
from authsvc.admin.revocations import MAX_COUNTED_SESSIONS
from authsvc.domain.errors import AuthError, Reason
from authsvc.domain.provider_session import NO_PROVIDER_SESSION, session_digest
from authsvc.domain.record import Grant
from authsvc.domain.resolution import Principal
from authsvc.domain.revocation import NotBefore, NotBefores
from authsvc.domain.revocation_target import (
    EveryoneTarget,
    ProviderSessionTarget,
    SubjectTarget,
    TokenTarget,
)
from authsvc.domain.tokens import VerifiedToken
from tests.authsvc.admin.office import Office, fill, office_of, record
from tests.support.clock import START, Clock

pytestmark = pytest.mark.anyio


async def test_many_sessions_do_not_delay_a_revocation(office: Office) -> None:
    """A user may have any number of them."""
    await fill(office, *(record(f"s{n}", now=START + n / 1000) for n in range(5)))
    office.clock.advance(1)
    for target in (SubjectTarget("idp", "alice"), ProviderSessionTarget("idp", "s1", "alice")):
        for most, read, count in ((3, 4, None), (4, 5, None), (5, 5, 5)):
            office.store.records_read = 0
            revoked = await office.admin.revocations.revoke(target, caller="op", most_sessions=most)
            assert office.store.records_read == read
            assert revoked.session_count == count
            assert revoked.not_before is not None
            assert revoked.not_before.time == START + 1
    assert MAX_COUNTED_SESSIONS == 100_000


async def test_an_issuer_that_is_not_configured_is_revoked_on_request_alone(
    office: Office,
) -> None:
    """A misspelt issuer would revoke nothing and look like a success."""
    position = await office.store.position()
    for attempt in (
        office.admin.revocations.revoke(SubjectTarget("ipd", "alice"), caller="op"),
        office.admin.revocations.revoke(TokenTarget("ipd", "j1"), caller="op"),
        office.admin.revocations.revoke(ProviderSessionTarget("ipd", "s1"), caller="op"),
    ):
        with pytest.raises(AuthError) as caught:
            await attempt
        assert caught.value.reason is Reason.ARGUMENT_INVALID
        assert caught.value.detail == "'ipd' is not configured; these are: idp"
    assert await office.store.position() == position

    for revoked in (
        await office.admin.revocations.revoke(
            SubjectTarget("ipd", "alice"), caller="op", allow_unknown_issuer=True
        ),
        await office.admin.revocations.revoke(
            TokenTarget("ipd", "j1"), caller="op", allow_unknown_issuer=True
        ),
    ):
        assert revoked.not_before is not None
        assert revoked.not_before.issuer == "ipd"


async def test_the_newest_token_known_counts_wherever_it_is(office: Office) -> None:
    ahead = Grant(b"d" * 32, START + 25, START + 600)
    grants = MappingProxyType({"https://b.example/mcp": ahead})
    # The session has expired or ended: its token may be presented on another session.
    gone = record("gone", now=START - 7200, grants=grants)
    ended = record("ended", revoke_time=START, grants=MappingProxyType({}))
    await fill(office, gone, ended, record("here"), record("bobs", subject="bob", now=START + 29))
    revoked = await office.admin.revocations.revoke(SubjectTarget("idp", "alice"), caller="op")
    assert revoked.not_before == NotBefore(START + 25, START, issuer="idp", subject="alice")
    assert revoked.session_count == 1


async def test_a_principal_session_counts_while_it_lives(office: Office) -> None:
    await fill(
        office,
        record("~dead", revoke_time=START),
        record("~alive", revoke_time=START - 1),
    )
    office.clock.advance(1)
    revoked = await office.admin.revocations.revoke(SubjectTarget("idp", "alice"), caller="op")
    assert revoked.session_count == 1


async def test_a_revocation_that_fails_is_not_audited(
    office: Office, caplog: pytest.LogCaptureFixture
) -> None:
    await office.store.close()
    with pytest.raises(AuthError) as caught:
        await office.admin.revocations.revoke(EveryoneTarget(), caller="op")
    assert caught.value.reason is Reason.STORE_UNAVAILABLE
    assert not caplog.records


async def test_empty_names_are_not_everyone(office: Office) -> None:
    for work in (
        office.admin.revocations.revoke(SubjectTarget("", ""), caller="op"),
        office.admin.revocations.revoke(TokenTarget("", ""), caller="op"),
        office.admin.revocations.revoke(ProviderSessionTarget("idp", ""), caller="op"),
        office.admin.revocations.revoke(ProviderSessionTarget("idp", "", "alice"), caller="op"),
        office.admin.revocations.revoke(ProviderSessionTarget("", "s1"), caller="op"),
        office.admin.revocations.revoke(
            ProviderSessionTarget("idp", "s1", "x" * (MAX_TEXT_LENGTH + 1)), caller="op"
        ),
    ):
        with pytest.raises(AuthError) as caught:
            await work
        assert caught.value.reason is Reason.ARGUMENT_INVALID
    not_befores = office.store.cached_not_befores()
    assert not_befores is not None
    assert list(not_befores) == []


# Provider sessions.

S1, S2 = session_digest("idp", "s1"), session_digest("idp", "s2")


def granted(provider_session: str, *, issue_time: float = START) -> MappingProxyType[str, Grant]:
    grant = Grant(b"d" * 32, issue_time, START + 600, provider_session=provider_session)
    return MappingProxyType({"https://a.example/mcp": grant})


def set_not_befores(office: Office) -> list[NotBefore]:
    return list(office.store.cached_not_befores() or ())


async def test_a_sign_out_with_the_subject_revokes_its_tokens_without_a_session_too(
    office: Office,
) -> None:
    await fill(
        office,
        record("of-s1", grants=granted(S1)),
        record("of-s2", grants=granted(S2)),
        record("of-none", grants=granted("")),
        record("ended", grants=granted(S1), revoke_time=START),
        record("bobs", subject="bob", grants=granted("")),
    )
    office.clock.advance(1)
    revoked = await office.admin.revocations.revoke(
        ProviderSessionTarget("idp", "s1", "alice"), caller="op"
    )
    now = START + 1
    of_session = NotBefore(now, now, "idp", provider_session=S1)
    assert set_not_befores(office) == [
        NotBefore(now, now, "idp", "alice", provider_session=NO_PROVIDER_SESSION),
        of_session,
    ]
    assert (revoked.session_count, revoked.not_before) == (2, of_session)
    assert revoked.consistency_token == await office.store.position()


async def test_a_sign_out_without_a_subject_reads_no_records(office: Office) -> None:
    await fill(office, record("of-s1", grants=granted(S1, issue_time=START + 25)))
    revoked = await office.admin.revocations.revoke(ProviderSessionTarget("idp", "s1"), caller="op")
    assert office.store.records_read == 0
    assert revoked.session_count is None
    assert set_not_befores(office) == [NotBefore(START, START, "idp", provider_session=S1)]


async def test_the_newest_token_of_the_session_counts(office: Office) -> None:
    """And one without a session; not one of another."""
    for provider_session, until in ((S1, START + 25), ("", START + 25), (S2, START)):
        of_alice = record("ahead", grants=granted(provider_session, issue_time=START + 25))
        await fill(office, of_alice)
        await office.admin.revocations.revoke(
            ProviderSessionTarget("idp", "s1", "alice"), caller="op"
        )
        assert {it.time for it in set_not_befores(office)} == {until}
        await office.store.remove(of_alice)
        await office.store.delete_not_befores(START + 1)


@pytest.mark.parametrize(
    "target",
    [
        ProviderSessionTarget("idp", "s1"),
        ProviderSessionTarget("idp", "s1", "alice"),
        SubjectTarget("idp", "alice"),
        EveryoneTarget(),
    ],
    ids=["session", "session and subject", "subject", "everyone"],
)
async def test_a_revocation_may_be_no_earlier_than_the_issuers_own_time(
    office: Office, target: ProviderSessionTarget | SubjectTarget | EveryoneTarget
) -> None:
    for earliest, until in ((START - 5, START), (START + 5, START + 5)):
        await office.admin.revocations.revoke(target, caller="op", not_earlier_than=earliest)
        found = set_not_befores(office)
        assert {it.time for it in found} == {until}
        assert {it.set_time for it in found} == {START}


async def test_an_operators_time_is_the_one_that_counts(office: Office) -> None:
    for target in (SubjectTarget("idp", "alice", START - 9), EveryoneTarget(START - 9)):
        revoked = await office.admin.revocations.revoke(
            target, caller="op", not_earlier_than=START + 5
        )
        assert revoked.not_before is not None
        assert revoked.not_before.time == START - 9


async def test_a_sign_out_is_audited_without_its_sid(
    office: Office, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    target = ProviderSessionTarget("idp", "a-sid-of-the-provider", "alice")
    await office.admin.revocations.revoke(target, caller="op")
    without, of_session = (vars(record) for record in caplog.records)
    assert "without a provider session, issued up to" in without["detail"]
    assert without["subject"] == "alice"
    digest = session_digest("idp", "a-sid-of-the-provider")
    assert f"of provider session {digest[:8]}, issued up to" in of_session["detail"]
    assert digest[:9] not in str(of_session)
    assert "a-sid-of-the-provider" not in f"{without}{of_session}{target!r}"


async def test_a_sign_out_that_fails_between_its_two_writes_is_an_error(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sender repeats it. What was written rejects tokens that the sign-out concerns."""
    written: list[NotBefore] = []

    async def once(not_before: NotBefore) -> str:
        if written:
            raise AuthError(Reason.STORE_UNAVAILABLE)
        written.append(not_before)
        return "1"

    monkeypatch.setattr(office.store, "set_not_before", once)
    with pytest.raises(AuthError) as caught:
        await office.admin.revocations.revoke(
            ProviderSessionTarget("idp", "s1", "alice"), caller="op"
        )
    assert caught.value.reason is Reason.STORE_UNAVAILABLE
    assert [it.key for it in written] == [("idp", "alice", "", NO_PROVIDER_SESSION)]


_SIDS = st.sampled_from(["", "a", "b"])
_SUBJECTS = st.sampled_from(["alice", "bob"])
_SIGNED_OUT = st.one_of(
    st.builds(ProviderSessionTarget, st.just("idp"), _SIDS.filter(bool), st.just("") | _SUBJECTS),
    st.builds(SubjectTarget, st.just("idp"), _SUBJECTS),
)
_STEPS = st.lists(st.tuples(st.integers(0, 2), _SIGNED_OUT), max_size=6)
_ISSUED = st.tuples(st.integers(0, 8), _SUBJECTS, _SIDS)


@settings(deadline=None)
@given(_STEPS, st.lists(_ISSUED, max_size=6), st.lists(_ISSUED, min_size=1, max_size=6))
def test_any_sign_outs_reject_exactly_what_they_concern(
    steps: list[tuple[int, ProviderSessionTarget | SubjectTarget]],
    held: list[tuple[int, str, str]],
    presented: list[tuple[int, str, str]],
) -> None:
    """Whatever is signed out, in whatever order, and whatever tokens the sessions hold."""

    def concerns(target: ProviderSessionTarget | SubjectTarget, subject: str, sid: str) -> bool:
        if isinstance(target, SubjectTarget) or not sid:
            return target.subject == subject
        return target.sid == sid

    async def set_by_all(clock: Clock) -> tuple[NotBefores, list[float]]:
        office, times = office_of(clock), []
        for number, (time, subject, sid) in enumerate(held):
            grants = granted(session_digest("idp", sid) if sid else "", issue_time=START + time)
            await fill(office, record(f"s{number}", subject=subject, grants=grants))
        for seconds, target in steps:
            clock.advance(seconds)
            await office.admin.revocations.revoke(target, caller="op")
            known = [
                START + time
                for time, subject, sid in held
                if subject == target.subject and concerns(target, subject, sid)
            ]
            times.append(max([clock.now, *known]))
        return await office.store.get_not_befores([]), times

    not_befores, times = anyio.run(set_by_all, Clock())
    for time, subject, sid in presented:
        session = session_digest("idp", sid) if sid else ""
        who = Principal("idp", subject, START + 600)
        token = VerifiedToken(b"d" * 32, who, START + time, "j", session)
        expected = any(
            token.issue_time <= until and concerns(target, subject, sid)
            for (_, target), until in zip(steps, times, strict=True)
        )
        assert not_befores.reject(token) is expected

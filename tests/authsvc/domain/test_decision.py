"""The decision table, row by row, as a pure function."""

from __future__ import annotations

from dataclasses import replace

import pytest

from authsvc.domain.decision import (
    Change,
    Decision,
    decide,
    decide_principal_session,
    decide_unusable_session,
    revoke,
)
from authsvc.domain.errors import AuthError, Reason
from authsvc.domain.record import Limits, Record, check_session_id, principal_session_id
from authsvc.domain.resolution import Outcome, Principal, SessionState
from authsvc.domain.tokens import PresentedToken, RejectedToken, VerifiedToken

NOW = 1_800_000_000.0
RESOURCE = "https://mcp.example/mcp"
OTHER = "https://other.example/mcp"
LIMITS = Limits()


def token(
    name: str = "a", *, sub: str = "alice", iss: str = "idp", iat: float = NOW, exp: float = 600.0
) -> VerifiedToken:
    principal = Principal(iss, sub, NOW + exp, roles=(name,))
    return VerifiedToken(name.encode(), principal, iat)


def rejected(name: str = "bad", reason: Reason = Reason.TOKEN_EXPIRED) -> RejectedToken:
    return RejectedToken(name.encode(), AuthError(reason))


def run(
    record: Record | None,
    presented: PresentedToken,
    *,
    create: bool = False,
    now: float = NOW,
    resource: str = RESOURCE,
) -> Decision:
    """The decision on a request, as the resolver makes it."""
    return decide_unusable_session(record, create=create, now=now) or decide(
        record, presented, session_id="s", resource=resource, now=now, limits=LIMITS
    )


def created(presented: PresentedToken) -> Record:
    decision = run(None, presented, create=True)
    assert decision.record is not None
    return decision.record


def tombstone_of(record: Record, now: float = NOW) -> Record:
    tombstone = revoke(record, now=now, limits=LIMITS)
    assert tombstone is not None
    return tombstone


ANONYMOUS = created(None)
ALICE = created(token("a"))


def test_row_1_an_anonymous_session_is_created() -> None:
    decision = run(None, None, create=True)
    assert (decision.row, decision.outcome, decision.change) == (1, Outcome.CREATED, Change.WRITE)
    assert decision.principal is None
    assert decision.record is not None
    assert not decision.record.authenticated
    assert decision.record.revision == 1
    assert decision.record.expire_time == NOW + LIMITS.unauthenticated_idle_seconds


def test_row_2_an_authenticated_session_is_created() -> None:
    decision = run(None, token("a"), create=True)
    assert (decision.row, decision.outcome, decision.change) == (2, Outcome.CREATED, Change.WRITE)
    assert decision.principal == token("a").principal
    assert decision.record is not None
    assert (decision.record.issuer, decision.record.subject) == ("idp", "alice")
    assert decision.record.grants == {RESOURCE: token("a").grant()}
    assert decision.record.expire_time == NOW + LIMITS.authenticated_idle_seconds


def test_row_3_a_rejected_token_creates_nothing() -> None:
    decision = run(None, rejected(), create=True)
    assert decision.row == 3
    assert decision.error is not None
    assert decision.error.reason is Reason.TOKEN_EXPIRED
    assert decision.change is Change.NONE


@pytest.mark.parametrize("presented", [None, token("a"), rejected()])
def test_row_4_an_unknown_session_is_not_found(presented: PresentedToken) -> None:
    decision = run(None, presented)
    assert decision.row == 4
    assert decision.error is not None
    assert decision.error.reason is Reason.SESSION_NOT_FOUND
    assert decision.change is Change.NONE


def test_row_5_an_anonymous_session_is_reused_without_a_principal() -> None:
    decision = run(ANONYMOUS, None)
    assert (decision.row, decision.outcome) == (5, Outcome.REUSED)
    assert decision.principal is None
    assert decision.record is ANONYMOUS


def test_row_6_an_anonymous_session_is_upgraded() -> None:
    decision = run(ANONYMOUS, token("a"))
    assert (decision.row, decision.outcome, decision.change) == (
        6,
        Outcome.REAUTHENTICATED,
        Change.WRITE,
    )
    assert decision.principal == token("a").principal
    assert decision.record is not None
    assert decision.record.subject == "alice"
    assert decision.record.revision == 2


@pytest.mark.parametrize("record", [ANONYMOUS, ALICE])
def test_row_7_a_rejected_token_changes_nothing(record: Record) -> None:
    decision = run(record, rejected("bad", Reason.TOKEN_SIGNATURE_INVALID))
    assert decision.row == 7
    assert decision.error is not None
    assert decision.error.reason is Reason.TOKEN_SIGNATURE_INVALID
    assert decision.change is Change.NONE


@pytest.mark.parametrize("record", [ANONYMOUS, ALICE])
def test_row_7_nor_does_one_whose_validity_is_not_known(record: Record) -> None:
    decision = run(record, rejected("a", Reason.KEYS_UNAVAILABLE))
    assert decision.row == 7
    assert decision.error is not None
    assert decision.error.reason is Reason.KEYS_UNAVAILABLE
    assert decision.change is Change.NONE


def test_row_8_the_same_token_is_reused() -> None:
    decision = run(ALICE, token("a"))
    assert (decision.row, decision.outcome) == (8, Outcome.REUSED)
    assert decision.principal == token("a").principal
    assert decision.record is ALICE
    assert decision.change is Change.NONE


def test_row_9_the_same_token_is_rejected_once_expired() -> None:
    decision = run(ALICE, rejected("a", Reason.TOKEN_EXPIRED))
    assert decision.row == 9
    assert decision.error is not None
    assert decision.error.reason is Reason.TOKEN_EXPIRED
    assert decision.change is Change.NONE


@pytest.mark.parametrize(
    "newer", [token("b", iat=NOW + 1), token("b", exp=601.0)], ids=["later iat", "later exp"]
)
def test_row_10_a_newer_token_replaces_the_current_one(newer: VerifiedToken) -> None:
    decision = run(ALICE, newer)
    assert (decision.row, decision.outcome, decision.change) == (
        10,
        Outcome.REAUTHENTICATED,
        Change.WRITE,
    )
    assert decision.principal == newer.principal
    assert decision.record is not None
    assert decision.record.grants[RESOURCE] == newer.grant()
    assert decision.record.revision == ALICE.revision + 1


@pytest.mark.parametrize(
    "older",
    [token("z", iat=NOW - 1), token("z", exp=599.0), token("z")],
    ids=["earlier iat", "earlier exp", "equal"],
)
def test_row_11_an_older_token_answers_with_its_own_claims(older: VerifiedToken) -> None:
    decision = run(ALICE, older)
    assert (decision.row, decision.outcome) == (11, Outcome.REUSED)
    assert decision.principal == older.principal
    assert decision.record is ALICE
    assert decision.change is Change.NONE


@pytest.mark.parametrize("other", [token("m", sub="mallory"), token("m", iss="evil")])
def test_row_12_another_subject_is_rejected(other: VerifiedToken) -> None:
    newer = replace(other, issue_time=NOW + 100)
    decision = run(ALICE, newer)
    assert decision.row == 12
    assert decision.error is not None
    assert decision.error.reason is Reason.SESSION_SUBJECT_MISMATCH
    assert decision.principal is None
    assert decision.change is Change.NONE


def test_row_13_a_session_id_is_not_a_credential() -> None:
    decision = run(ALICE, None)
    assert (decision.row, decision.outcome) == (13, Outcome.REUSED)
    assert decision.principal is None
    assert decision.record is ALICE
    assert ALICE.seen_by(None).state is SessionState.UNAUTHENTICATED
    assert decision.change is Change.NONE


@pytest.mark.parametrize("presented", [None, token("a"), token("m", sub="mallory"), rejected()])
@pytest.mark.parametrize("create", [False, True])
def test_row_14_a_revoked_session_rejects_all(presented: PresentedToken, create: bool) -> None:
    tombstone = tombstone_of(ALICE)
    decision = run(tombstone, presented, create=create)
    assert decision.row == 14
    assert decision.error is not None
    assert decision.error.reason is Reason.SESSION_REVOKED
    assert decision.change is Change.NONE


def test_row_14_ends_with_the_tombstone() -> None:
    tombstone = tombstone_of(ALICE)
    decision = run(tombstone, token("a"), now=NOW + LIMITS.tombstone_seconds)
    assert decision.error is not None
    assert decision.error.reason is Reason.SESSION_NOT_FOUND
    assert decision.change is Change.REMOVE


@pytest.mark.parametrize("presented", [None, token("a"), rejected()])
@pytest.mark.parametrize(
    ("record", "idle_seconds"),
    [
        (ANONYMOUS, LIMITS.unauthenticated_idle_seconds),
        (ALICE, LIMITS.authenticated_idle_seconds),
    ],
)
def test_row_15_an_idle_session_expires(
    record: Record, idle_seconds: float, presented: PresentedToken
) -> None:
    assert run(record, None, now=NOW + idle_seconds - 1).error is None
    decision = run(record, presented, now=NOW + idle_seconds)
    assert decision.row == 15
    assert decision.error is not None
    assert decision.error.reason is Reason.SESSION_EXPIRED
    assert decision.change is Change.REMOVE


def test_row_15_use_does_not_move_the_absolute_limit() -> None:
    record, now = ALICE, NOW
    while now + 3600 < NOW + LIMITS.absolute_seconds:
        now += 3600
        decision = run(record, token("a"), now=now)
        assert decision.change is Change.TOUCH
        assert decision.record is not None
        record = decision.record
    decision = run(record, token("a"), now=NOW + LIMITS.absolute_seconds)
    assert decision.row == 15


def test_row_17_the_principal_session_is_created_then_reused() -> None:
    first = decide_principal_session(None, token("a"), resource=RESOURCE, now=NOW, limits=LIMITS)
    assert (first.row, first.outcome, first.change) == (17, Outcome.CREATED, Change.WRITE)
    assert first.record is not None
    assert first.record.id == principal_session_id(token("a").principal, RESOURCE)
    again = decide_principal_session(
        first.record, token("a"), resource=RESOURCE, now=NOW, limits=LIMITS
    )
    assert (again.row, again.outcome) == (17, Outcome.REUSED)
    newer = decide_principal_session(
        first.record, token("b", iat=NOW + 1), resource=RESOURCE, now=NOW, limits=LIMITS
    )
    assert (newer.row, newer.outcome) == (17, Outcome.REAUTHENTICATED)


def test_row_17_revocation_is_a_not_before() -> None:
    first = decide_principal_session(None, token("a"), resource=RESOURCE, now=NOW, limits=LIMITS)
    assert first.record is not None
    tombstone = tombstone_of(first.record, now=NOW + 5)

    def again(presented: VerifiedToken) -> Decision:
        return decide_principal_session(
            tombstone, presented, resource=RESOURCE, now=NOW + 10, limits=LIMITS
        )

    old = again(token("a", iat=NOW + 5))
    assert old.error is not None
    assert old.error.reason is Reason.SESSION_REVOKED
    new = again(token("b", iat=NOW + 6))
    assert new.outcome is Outcome.REAUTHENTICATED
    assert new.record is not None
    assert new.record.revision == tombstone.revision + 1
    assert new.record.expire_time == NOW + 10 + LIMITS.authenticated_idle_seconds
    assert new.record.grants == {RESOURCE: token("b", iat=NOW + 6).grant()}


def test_row_17_the_not_before_is_kept_when_the_session_begins_anew() -> None:
    first = decide_principal_session(None, token("a"), resource=RESOURCE, now=NOW, limits=LIMITS)
    assert first.record is not None
    record = tombstone_of(first.record, now=NOW + 5)
    # Once on the living record, once on one that had expired in between.
    for now, iat in ((NOW + 10, NOW + 6), (record.expire_time + 90_000, NOW + 7)):
        begun = decide_principal_session(
            record, token("b", iat=iat, exp=1e6), resource=RESOURCE, now=now, limits=LIMITS
        )
        assert begun.record is not None
        record = begun.record
        late = decide_principal_session(
            record, token("a", iat=NOW + 5, exp=1e6), resource=RESOURCE, now=now, limits=LIMITS
        )
        assert late.error is not None
        assert late.error.reason is Reason.SESSION_REVOKED
    again = tombstone_of(record, now=now + 1)
    assert again.revoke_time == now + 1


def test_an_ended_session_is_not_revoked_again() -> None:
    assert revoke(tombstone_of(ALICE), now=NOW + 1, limits=LIMITS) is None
    assert revoke(ALICE, now=ALICE.expire_time, limits=LIMITS) is None


def test_principal_sessions_differ_by_issuer_subject_client_and_resource() -> None:
    base = Principal("i", "s", 0.0, client_id="c")
    principals = [
        base,
        replace(base, issuer="x"),
        replace(base, subject="x"),
        replace(base, client_id="x"),
        # Parts must not run into each other.
        replace(base, issuer="is", subject=""),
    ]
    ids = {principal_session_id(principal, RESOURCE) for principal in principals}
    ids.add(principal_session_id(base, OTHER))
    assert len(ids) == len(principals) + 1


def test_one_session_at_two_resources_keeps_a_token_for_each() -> None:
    there = run(ALICE, token("o", iat=NOW - 50), resource=OTHER)
    assert (there.row, there.outcome) == (10, Outcome.REAUTHENTICATED)
    assert there.record is not None
    assert there.record.grants[RESOURCE] == ALICE.grants[RESOURCE]
    here = run(there.record, token("a"))
    assert (here.row, here.outcome) == (8, Outcome.REUSED)


def test_last_seen_moves_only_when_a_hundredth_of_the_idle_limit_has_passed() -> None:
    step = LIMITS.authenticated_idle_seconds / 100
    assert run(ALICE, token("a"), now=NOW + step - 1).change is Change.NONE
    decision = run(ALICE, token("a"), now=NOW + step)
    assert decision.change is Change.TOUCH
    assert decision.record == replace(
        ALICE,
        last_seen_time=NOW + step,
        expire_time=NOW + step + LIMITS.authenticated_idle_seconds,
    )


@pytest.mark.parametrize("session_id", ["", "~x", "a b", "a\n", "é", "x" * 129, "\x7f"])
def test_ids_that_are_not_valid(session_id: str) -> None:
    with pytest.raises(AuthError) as caught:
        check_session_id(session_id)
    assert caught.value.reason is Reason.SESSION_ID_INVALID


@pytest.mark.parametrize("session_id", ["a", "x" * 128, "!#$%/=+"])
def test_ids_that_are_valid(session_id: str) -> None:
    check_session_id(session_id)

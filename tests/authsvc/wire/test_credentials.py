"""Which credentials are asked for, and what is issued, are the same after a round trip."""

from __future__ import annotations

import pytest
from google.rpc import code_pb2, status_pb2
from hypothesis import given
from hypothesis import strategies as st

from authsvc.domain.credential_requests import (
    DIGEST_BYTES,
    MAX_BUCKETS,
    MAX_REQUESTS,
    CredentialRequest,
)
from authsvc.domain.errors import AuthError, Reason
from authsvc.domain.resolution import (
    AwsCredentials,
    BearerCredentials,
    Credentials,
    Outcome,
    Principal,
    Resolution,
    Secret,
)
from authsvc.v1 import auth_pb2 as pb
from authsvc.wire import auth as wire
from authsvc.wire import credentials as credentials_wire

NAMES = st.just("") | st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", fullmatch=True)
BUCKETS = st.lists(st.text(min_size=1, max_size=63), max_size=4).map(tuple)
DIGESTS = st.just(b"") | st.binary(min_size=DIGEST_BYTES, max_size=DIGEST_BYTES)
SELECTIONS = st.lists(
    st.builds(CredentialRequest, NAMES, BUCKETS, DIGESTS),
    max_size=MAX_REQUESTS,
    unique_by=lambda it: it.name,
).map(tuple)

PRINCIPAL = Principal("https://idp.example", "ada", 1_800_000_600.25)
AWS = AwsCredentials("AKIA", Secret("hush"), Secret("token"), "eu-central-1", 1_800_000_600.0)
BEARER = BearerCredentials(Secret("hush"), "Bearer", 1_800_000_600.0)
RESULTS = st.sampled_from([AWS, BEARER]) | st.sampled_from(Reason)

REQUESTS = (pb.ResolveSessionRequest, pb.CreateSessionRequest)


@given(st.none() | SELECTIONS, st.sampled_from(REQUESTS))
def test_selections_round_trip(
    selection: tuple[CredentialRequest, ...] | None,
    kind: type[pb.ResolveSessionRequest | pb.CreateSessionRequest],
) -> None:
    """None and an empty one are two things."""
    sent = kind(credential_selection=credentials_wire.selection_message(selection))
    received = kind.FromString(sent.SerializeToString())
    assert credentials_wire.selection_of(received) == selection


@pytest.mark.parametrize("kind", REQUESTS)
@pytest.mark.parametrize(
    ("requests", "fault"),
    [
        ([pb.CredentialRequest(name=f"n{it}") for it in range(17)], "16 at most"),
        ([pb.CredentialRequest(name="a"), pb.CredentialRequest(name="a")], "asked for twice"),
        ([pb.CredentialRequest(), pb.CredentialRequest()], "asked for twice"),
        ([pb.CredentialRequest(name="-a")], "name is 1 to 64"),
        ([pb.CredentialRequest(name="a" * 65)], "name is 1 to 64"),
        ([pb.CredentialRequest(name="a\n")], "name is 1 to 64"),
        ([pb.CredentialRequest(buckets=["b"] * (MAX_BUCKETS + 1))], "buckets are 64 at most"),
        ([pb.CredentialRequest(buckets=[""])], "1 to 255 characters"),
        ([pb.CredentialRequest(buckets=["b" * 256])], "1 to 255 characters"),
        ([pb.CredentialRequest(rejected_sha256=b"x")], "SHA-256"),
        ([pb.CredentialRequest(rejected_sha256=bytes(33))], "SHA-256"),
    ],
)
def test_an_invalid_selection_is_named(
    kind: type[pb.ResolveSessionRequest | pb.CreateSessionRequest],
    requests: list[pb.CredentialRequest],
    fault: str,
) -> None:
    request = kind(credential_selection=pb.CredentialSelection(requests=requests))
    with pytest.raises(AuthError, match=f"credential_selection: .*{fault}") as caught:
        credentials_wire.selection_of(request)
    assert caught.value.reason is Reason.ARGUMENT_INVALID


@given(st.dictionaries(NAMES, RESULTS, max_size=MAX_REQUESTS))
def test_results_round_trip_in_their_order(results: dict[str, Credentials | Reason]) -> None:
    named: dict[str, Credentials | AuthError] = {
        name: AuthError(it, "for the log alone", principal=PRINCIPAL)
        if isinstance(it, Reason)
        else it
        for name, it in results.items()
    }
    resolution = Resolution(None, Outcome.CREATED, PRINCIPAL, named_credentials=named)
    sent = wire.response_message(resolution).SerializeToString()
    created = wire.created_message(resolution).SerializeToString()
    assert b"for the log alone" not in sent + created
    for received in (
        wire.resolution_of(pb.ResolveSessionResponse.FromString(sent)),
        wire.resolution_of(pb.CreateSessionResponse.FromString(created)),
    ):
        assert list(received.named_credentials) == list(results)
        assert received.credentials is None
        for name, it in results.items():
            if not isinstance(it, Reason):
                assert received.credentials_of(name) == it
                continue
            with pytest.raises(AuthError) as caught:
                received.credentials_of(name)
            assert (caught.value.reason, caught.value.principal) == (it, PRINCIPAL)


def test_errors_repeat_the_principal_once() -> None:
    named = {"a": AuthError(Reason.CREDENTIALS_REFUSED)}
    message = wire.response_message(Resolution(principal=PRINCIPAL, named_credentials=named))
    assert message.SerializeToString().count(b"ada") == 1


@pytest.mark.parametrize(
    "result",
    [
        pb.NamedCredentials(name="a"),
        pb.NamedCredentials(name="a", credentials=pb.Credentials()),
        pb.NamedCredentials(name="a", error=status_pb2.Status(code=code_pb2.INTERNAL)),
    ],
)
def test_a_result_that_this_version_does_not_know_is_no_credential(
    result: pb.NamedCredentials,
) -> None:
    message = pb.ResolveSessionResponse(named_credentials=[result])
    with pytest.raises(AuthError) as caught:
        wire.resolution_of(message).credentials_of("a")
    assert caught.value.reason is Reason.CREDENTIALS_UNAVAILABLE


def test_results_cannot_be_changed_and_do_not_show() -> None:
    message = wire.response_message(Resolution(named_credentials={"a": AWS, "b": BEARER}))
    received = wire.resolution_of(message)
    assert "hush" not in f"{received} {received!r}"
    assert received.credentials_of("c") is None
    assert {received: 1}
    with pytest.raises(TypeError):
        received.named_credentials.clear()  # type: ignore[attr-defined]  # a reader's mistake
